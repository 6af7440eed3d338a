"""The options that say what is trained and how, for all commands that train."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import click
from click.core import ParameterSource

from ..config import RECIPES, Recipe, Setting, Settings, settings_of
from ._arguments import Argument, Blocks, Dataset, Size, trust_option
from ._package import training

_OF_RECIPES = settings_of(Recipe)
_USUAL = RECIPES["nobn"]
_KINDS = {
    "arguments": Argument(),
    "blocks": Blocks(),
    "dataset": Dataset(),
    "path": click.Path(),
    "size": Size(),
}
_Decorator = Callable[[Any], Any]


def option_of(setting: Setting) -> _Decorator:
    """Returns the option for a setting, of the same name.

    Its default is that of the recipe, or of the settings.
    """
    name = f"--{setting.name.replace('_', '-')}"
    known: dict[str, Any] = {"help": setting.help, "default": setting.default}
    if setting.name in _OF_RECIPES:
        usual = getattr(_USUAL, setting.name)
        if isinstance(usual, bool):
            usual = "yes" if usual else "no"
        elif isinstance(usual, float):
            usual = f"{usual:g}"
        elif usual is None:
            usual = "none"
        known |= {"default": None, "show_default": f"{usual} in recipe nobn"}
        if setting.type is bool:
            name = f"{name}/--no-{name[2:]}"
    elif setting.default is None:
        known["show_default"] = setting.absent
    if setting.kind == "arguments":
        known = {"help": setting.help, "multiple": True}
        known["callback"] = lambda ctx, param, pairs: dict(pairs)
    if setting.choices is not None:
        known["type"] = click.Choice(list(setting.offered or setting.choices))
    elif setting.kind is not None:
        known["type"] = _KINDS[setting.kind]
    elif setting.type is not bool:
        known["type"] = setting.type
    elif setting.name not in _OF_RECIPES:
        known["is_flag"] = True
    return click.option(name, **known)


recipe_option = click.option(
    "--recipe",
    type=click.Choice(list(RECIPES)),
    show_default="that of the normalization",
    help=settings_of(Settings)["recipe"].help,
)


def training_options(
    *first: _Decorator,
    but: Collection[str] = (),
    settings: type[Settings] = Settings,
) -> _Decorator:
    """Options for all settings, so that --help lists them in this order.

    Arguments:
        *first: Other options, which come before them.
        but: Settings that the command has other options for.
        settings: The dataclass.
    """
    options = [
        option_of(each)
        for name, each in settings_of(settings).items()
        if each.option and name not in but
    ]

    def decorate(command: Any) -> Any:
        for decorator in (trust_option, *reversed([*first, *options])):
            command = decorator(command)
        return command

    return decorate


def chosen_settings(recipe: str | None, **given: Any) -> training.RunSettings:
    """Returns the settings of a recipe and of the options that were given."""
    # Left out, these two follow from the recipe and from --init.
    source = click.get_current_context().get_parameter_source
    for name in ("model", "normalization"):
        if source(name) is ParameterSource.DEFAULT:
            given[name] = None
    chosen = {name: value for name, value in given.items() if value is not None}
    return training.RunSettings.from_recipe(recipe, **chosen)
