"""Makes options from settings; reads and checks them, and shows them in `--help`.

TensorFlow is not imported for that; the command imports it later.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from .. import _names
from .._checks import BOUNDS, check_bounds
from .._errors import InvalidValue
from .._files import check_shape, parse_json
from .._names import CONSECUTIVE, DATASETS, TRAINED, check_split
from ..config._fields import GROUPS, WHERE, Setting, settings_of
from ..config._presets import RECIPES
from ..config._recipe import Recipe
from ..config._run_files import IMAGES_SHA256, SETTINGS_FILE, with_place
from ..config._settings import Settings, complete, shown, stored_settings
from ._exit import TRACEBACK
from ._outputs import Output, check_outputs
from ._package import import_modules

# Options of a training that `--help` shows first, in this order.
FIRST = (
    *("--dataset", "--image-size", "--model", "--width", "--init", "--recipe"),
    *("--epochs", "--validation", "--output", "--resume"),
)
MODULES = f"{__name__}.modules"  # key of a context: names of imported modules
_LEAST_MEMORY = 2 * 1000**3  # importing TensorFlow takes about as much
SETTINGS, _OF_RECIPES = settings_of(Settings), settings_of(Recipe)
_USUAL = RECIPES["nobn"]
SCRATCH = "none"  # --init none: a new network
_Decorator = Callable[[Any], Any]


class Command(click.Command):
    """A command that checks its arguments before it imports anything.

    Every command has `--traceback`; a command that writes a file has `--force`.
    """

    def __init__(self, *args: Any, limited: bool = False, **options: Any) -> None:
        super().__init__(*args, **options)
        trusting = any(option.name == "trust" for option in self.params)
        writing = any(isinstance(option.type, Output) for option in self.params)
        self.params += [_MEMORY] * (limited or trusting) + [_IMPORT] * trusting
        self.params += [_FORCE] * writing + [_TRACEBACK]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        for word in args:
            if re.fullmatch(r"(--[\w-]+=)?\s*", word):
                raise click.UsageError(
                    f"An argument is empty ({word!r}), perhaps an unset shell "
                    "variable. Give it a value, or leave it out.",
                    ctx,
                )
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        from ..data import reading

        # A module that is imported later may register recipes.
        later = {"recipe", "recipes"} if ctx.params.get("modules") else set()
        for parameter in self.params:
            value = ctx.params.get(parameter.name or "")
            given = value is not None and parameter.name not in later
            if given and isinstance(parameter, click.Option):
                _check_value(parameter.name or "", value)
        check_outputs(ctx, force=ctx.params.pop("force", False))
        if (memory := ctx.params.pop("memory", None)) is not None:
            _limit_memory(memory)
        if modules := ctx.params.pop("modules", ()):
            ctx.meta[MODULES] = modules
            import_modules(modules)
        with reading():
            return super().invoke(ctx)


class Grouped(Command):
    """A command whose `--help` shows options in groups, the most used ones first."""

    def format_options(
        self, ctx: click.Context, formatter: click.HelpFormatter
    ) -> None:
        sections: dict[str, list] = {heading: [] for heading in ("Most used", *GROUPS)}
        order = [*FIRST, *(each.opts[0] for each in self.get_params(ctx))]
        for each in sorted(self.get_params(ctx), key=lambda e: order.index(e.opts[0])):
            name = each.name or ""
            setting = SETTINGS.get(name) or SETTINGS.get(name.removesuffix("s"))
            heading = setting.group if setting else WHERE
            heading = "Most used" if each.opts[0] in FIRST else heading
            sections[heading] += filter(None, [each.get_help_record(ctx)])
        for heading, records in sections.items():
            with formatter.section(heading):
                formatter.write_dl(records)


def _check_value(name: str, value: Any) -> None:
    """Checks an argument by its name: the values of a setting, or a number."""
    if name in SETTINGS:
        SETTINGS[name].check(value)
    elif name.removesuffix("s") in SETTINGS and isinstance(value, list):
        for part in value:
            SETTINGS[name.removesuffix("s")].check(part)
    elif name in BOUNDS:
        for part in value if isinstance(value, tuple) else [value]:
            check_bounds(name, part, name.removeprefix("published_"))


def given_by_user(ctx: click.Context) -> set[str]:
    names = (parameter.name or "" for parameter in ctx.command.params)
    usual = ParameterSource.DEFAULT
    return {name for name in names if ctx.get_parameter_source(name) is not usual}


def given_settings(ctx: click.Context, options: dict[str, Any]) -> dict[str, Any]:
    """Removes all settings from the arguments; returns those that the user gave."""
    values = {name: options.pop(name) for name in SETTINGS if name in options}
    chosen = {name: values[name] for name in given_by_user(ctx) if name in values}
    return chosen | ({"init": None} if chosen.get("init") == SCRATCH else {})


def check_run(ctx: click.Context, runs: Collection[Settings]) -> None:
    """Rejects options, other than settings, that would not affect a run."""
    if ctx.params.get("strategy") != "multi_worker":
        check_unused(ctx, ["wait"], "without --strategy multi_worker")
    trained_here = (None, TRAINED, CONSECUTIVE)
    if not any(each.init or each.teacher not in trained_here for each in runs):
        check_unused(ctx, ["trust"], "without --init or the file of a --teacher")
    names = {each.dataset for each in runs}
    if names <= {*DATASETS}:
        said = f"with --dataset {', '.join(names)}, whose images need no cache"
        check_unused(ctx, ["cache"], said)


def check_unused(ctx: click.Context, names: Collection[str], why: str) -> None:
    """Rejects given options that would have no effect."""
    unused = given_by_user(ctx).intersection(names)
    if words := [x.opts[0] for x in ctx.command.params if x.name in unused]:
        verb, what = ("is", "it") if len(words) == 1 else ("are", "them")
        said = f"{' and '.join(words)} {verb} not used {why}. Leave {what} out."
        raise click.UsageError(said, ctx)


class Word(click.ParamType):
    """A type of argument: its form in `--help`, its parser, and the error message."""

    shell_complete: Any = click.File.shell_complete  # completes file names

    def __init__(self, name: str, read: Callable[[str], Any], wrong: str) -> None:
        self.name, self._read, self._wrong = name, read, wrong

    def get_metavar(self, param: Any, ctx: Any = None) -> str:
        return self.name  # click would write it in capitals

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        try:
            return self._read(value)
        except ValueError:
            self.fail(f"{value!r} {self._wrong}.", param, ctx)


class Names(click.Choice):
    """One of several names, in upper or lower case; `--help` shows them as they are.

    Other values are allowed if they are `others`, and checked later.
    """

    def __init__(
        self, names: Collection[str], others: Callable[[str], bool] | None = None
    ) -> None:
        super().__init__([*names])
        self._others = others

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        names = {name.casefold(): name for name in self.choices}
        value = names.get(str(value).casefold(), value)
        if self._others is not None and self._others(str(value)):
            return value
        return super().convert(value, param, ctx)


def several(kind: type) -> Word:
    """Returns the type of a list, whose values are separated by commas."""
    wrong = f"is not a list of {kind.__name__} values, separated by commas"
    return Word(
        "X,X,...", lambda word: [kind(x.strip()) for x in word.split(",")], wrong
    )


def _integers(word: str) -> tuple[int, ...]:
    return tuple(map(int, word.split(",")))


def _size(word: str) -> tuple[int, int]:
    sides = [*map(int, word.lower().split("x"))]
    height, width = sides if len(sides) > 1 else 2 * sides
    return height, width


def _argument(word: str) -> tuple[str, Any]:
    """Returns `("alpha", 0.5)` for `"alpha=0.5"`; a value that is not JSON is text."""
    name, equals, text = word.partition("=")
    if not equals or not name.isidentifier():
        raise InvalidValue(word)
    with suppress(ValueError, RecursionError):
        return name, json.loads(text)
    return name, text


def _bytes(word: str) -> int:
    """Returns the bytes of a size such as 4GB (units of 1000) or 4GiB (of 1024)."""
    match = re.fullmatch(r"([\d.]+)([mgt])(i?)b", word.strip().lower())
    number, unit, binary = match.groups() if match else ("0", "m", "")
    size = int(float(number) * (1024 if binary else 1000) ** (2 + "mgt".index(unit)))
    if size < _LEAST_MEMORY:
        raise InvalidValue(word)
    return size


def _limit_memory(size: int) -> None:
    with suppress(ImportError):  # on Windows
        import resource

        _, most = resource.getrlimit(resource.RLIMIT_AS)
        least = size if most == resource.RLIM_INFINITY else min(size, most)
        resource.setrlimit(resource.RLIMIT_AS, (least, most))


def _run_or_file(word: str) -> Path:
    if not Path(word).exists() and _names.find_pretrained(word) is None:
        raise InvalidValue(word)
    return Path(word)


SHAPE = Word("N,N,...", _integers, "is not of the form 96,96,3")
DATASET = Word(
    "NAME|FOLDER|tfds:NAME",
    partial(_names.check_dataset, "dataset"),
    f"is not one of {', '.join(map(repr, DATASETS))}, nor a folder, nor of the form "
    "tfds:NAME",
)
SPLIT = Word("train|validation|test", check_split, "is not train, validation or test")
RUN_OR_FILE = Word(
    "RUN_OR_FILE",
    _run_or_file,
    "does not exist. Give a run folder, a model file, or the name of a trained network "
    "(larq-nobn models lists them)",
)
# Argument types of the kinds of settings.
_KINDS = {
    "arguments": Word("NAME=VALUE", _argument, "is not of the form alpha=0.5"),
    "blocks": Word("N,N,...", _integers, "is not of the form 4,4,4,4"),
    "dataset": DATASET,
    "path": click.Path(),
    "size": Word("N|HxW", _size, "is not of the form 96 or 96x128"),
}


_MEMORY = click.Option(
    ["--memory"],
    type=Word("SIZE", _bytes, "is not a size of 2GB or more, such as 8GB or 8GiB"),
    show_default="no limit",
    help="End the command when it needs more memory (address space) than this, such as "
    "8GB. Without effect on Windows and macOS.",
)
_IMPORT = click.Option(
    ["--import", "modules"],
    multiple=True,
    metavar="MODULE",
    help="Import this Python module of yours first, so that Keras knows its layers; "
    "may be repeated.",
)
_FORCE = click.Option(
    ["--force"], is_flag=True, help="Overwrite existing output files."
)
_TRACEBACK = click.Option(
    ["--traceback"],
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=lambda ctx, param, wanted: ctx.meta.update({TRACEBACK: wanted}),
    help="Show the whole traceback of an error, for a report.",
)
model_argument = click.argument("model", metavar="RUN_OR_FILE", type=RUN_OR_FILE)
tflite_file = click.Path(exists=True, dir_okay=False, path_type=Path)
dataset_option = click.option(
    "--dataset",
    type=DATASET,
    show_default="that of the run",
    help="Data set whose test images to use.",
)
PREPROCESSING = ("mean", "std", "scale")
_PREPROCESSING = f"{__name__}.preprocessing"


def preprocessing_options(command: Any) -> Any:
    """Adds options for the preprocessing of images, which some files do not contain."""
    for name, kind, usual, what in (
        ("--scale", click.FloatRange(0, 1e6, min_open=True), "1/255", "byte factor"),
        ("--std", several(float), "1", "divisor, one number or one per channel"),
        ("--mean", several(float), "0", "subtrahend, one number or one per channel"),
    ):
        said = f"Preprocessing for a file without metadata: {what}."
        known: dict[str, Any] = {"help": said, "show_default": usual, "type": kind}
        known |= {"expose_value": False, "callback": _note_preprocessing}
        command = click.option(name, **known)(command)
    return command


def _note_preprocessing(ctx: click.Context, param: Any, value: Any) -> None:
    if value is not None:
        ctx.meta.setdefault(_PREPROCESSING, {})[param.name] = value


def preprocessing(unused: bool = False) -> dict[str, Any]:
    """Returns the given preprocessing options by name; rejects them if unused."""
    ctx = click.get_current_context(silent=True)
    if ctx and unused:
        why = "without --dataset, nor for a model that contains its preprocessing"
        check_unused(ctx, PREPROCESSING, why)
    return ctx.meta.get(_PREPROCESSING, {}) if ctx else {}


trust_option = click.option(
    "--trust",
    is_flag=True,
    help="Open a model file as Keras does, which may run code from the file; only for "
    "your own files.",
)


def option_of(setting: Setting) -> _Decorator:
    """Returns the option for a setting; its default is that of the recipe nobn."""
    name = f"--{setting.name.replace('_', '-')}"
    short = ["--lr"] * (setting.name == "learning_rate")
    known: dict[str, Any] = {"help": setting.help, "default": setting.default}
    if setting.name in _OF_RECIPES:
        usual = getattr(_USUAL, setting.name)
        usual = setting.absent if usual is None else shown(usual)
        known |= {"default": None, "show_default": f"{usual} in recipe nobn"}
        if setting.type is bool:
            name = f"{name}/--no-{name[2:]}"
    elif setting.default is None:
        known["show_default"] = setting.absent
    if setting.kind == "arguments":
        known = {"help": setting.help, "multiple": True}
        known["callback"] = lambda ctx, param, pairs: dict(pairs)
    if setting.choices is not None:
        own = (lambda value: ">" in value) if setting.registered else None
        known["type"] = Names(setting.offered or setting.choices, own)
    elif setting.kind is not None:
        known["type"] = _KINDS[setting.kind]
    elif setting.type is not bool:
        known["type"] = setting.type
    elif setting.name not in _OF_RECIPES:
        known["is_flag"] = True
    return click.option(name, *short, **known)


def _settings_in(ctx: click.Context, param: Any, file: Path | None) -> dict[str, Any]:
    """Returns the settings in a `run.json` or in a JSON file of settings."""
    if file is None:
        return {}
    try:
        content = parse_json(file.read_bytes())
        check_shape(content, {})
        whole = "settings" in content or file.name == SETTINGS_FILE
        found = content.get("settings", content)
        check_shape(found, {}, "settings")
        found.pop(IMAGES_SHA256, None)
        if unknown := [name for name in found if name not in SETTINGS]:
            raise InvalidValue(f"{unknown[0]} is not a setting")
    except ValueError as error:
        raise click.BadParameter(
            f"{file} contains no settings: {error}. Give the run.json of a run, or a "
            'JSON object such as {"epochs": 5}.',
            ctx,
            param,
        ) from error
    return complete(found) if whole else found


def settings_of_run(folder: Path) -> dict[str, Any]:
    """Returns the settings in a run folder, finished or not; empty without a run."""
    found = stored_settings(folder) or {}
    found.pop(IMAGES_SHA256, None)
    return with_place(folder, found) if found else {}


config_option = click.option(
    "--config",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    callback=_settings_in,
    help="Take settings from the run.json of a run, or from a JSON file of settings; "
    "other options override single ones.",
)
data_dir_option = option_of(SETTINGS["data_dir"])
recipe_option = click.option(
    "--recipe",
    type=Names(RECIPES, bool),  # --import may register others
    show_default="that of the normalization",
    help=SETTINGS["recipe"].help,
)


def list_option(name: str, default: str | None) -> _Decorator:
    """Returns the option for a list of values; its argument is `seeds` for `seed`."""
    setting, option = SETTINGS[name], f"--{name.replace('_', '-')}"
    usual = "that of the normalization" if name == "recipe" else "that of the recipe"
    return click.option(
        *(option, f"{option}s", *["--lr"] * (name == "learning_rate"), f"{name}s"),
        type=several(setting.type),
        default=default,
        show_default=usual if default is None else True,
        help=f"{setting.help} Each of several values makes runs of its own.",
    )


def training_options(*first: _Decorator, but: Collection[str] = ()) -> _Decorator:
    """Adds options: `first`, then one for each setting except those in `but`."""
    settings = [each for n, each in SETTINGS.items() if each.option and n not in but]

    def decorate(command: Any) -> Any:
        for decorator in (trust_option, *reversed([*first, *map(option_of, settings)])):
            command = decorator(command)
        return command

    return decorate
