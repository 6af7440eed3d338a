"""The options that say what is trained and how, for all commands that train."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any

import click
from click.core import ParameterSource

from .. import data, models, training
from ._models import Dataset, data_dir_option

DEFAULTS = training.RunSettings()
_OWN = "the network's own"
_RECIPE = {field.name for field in fields(training.Recipe)}
_Decorator = Callable[[Any], Any]


class Blocks(click.ParamType):
    """Whole numbers between commas."""

    name = "N,N,..."

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[int, ...]:
        """Returns `(4, 4)` for `"4,4"`."""
        try:
            return tuple(int(part) for part in value.split(","))
        except ValueError:
            self.fail(f"{value!r} is not of the form 4,4,4,4.", param, ctx)


class Size(click.ParamType):
    """Height and width in pixels."""

    name = "N|HxW"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[int, int]:
        """Returns `(96, 128)` for `"96x128"`, and `(96, 96)` for `"96"`."""
        try:
            sides = [int(part) for part in value.lower().split("x")]
        except ValueError:
            sides = []
        if len(sides) not in (1, 2):
            self.fail(f"{value!r} is not of the form 96 or 96x128.", param, ctx)
        return sides[0], sides[-1]


class Several(click.ParamType):
    """Values of one type between commas."""

    def __init__(self, kind: type) -> None:
        self.name = "X,X,..."
        self._kind = kind

    def convert(self, value: Any, param: Any, ctx: Any) -> list[Any]:
        """Returns `[2, 128]` for `"2,128"`."""
        try:
            return [self._kind(part.strip()) for part in value.split(",")]
        except ValueError:
            self.fail(
                f"{value!r} is no list of {self._kind.__name__} values between commas.",
                param,
                ctx,
            )


class Argument(click.ParamType):
    """An argument of a network's builder."""

    name = "NAME=VALUE"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[str, Any]:
        """Returns `("alpha", 0.5)` for `"alpha=0.5"`; what is no JSON is a word."""
        name, equals, text = value.partition("=")
        if not equals or not name.isidentifier():
            self.fail(f"{value!r} is not of the form alpha=0.5.", param, ctx)
        try:
            return name, json.loads(text)
        except ValueError:
            return name, text


def setting(
    name: str, text: str, kind: Any = None, absent: str | None = None
) -> _Decorator:
    """An option for one of the settings.

    Its default is that of the recipe, or of the settings; `absent` puts None in words.
    """
    field = name.partition("/")[0].removeprefix("--").replace("-", "_")
    default = getattr(DEFAULTS, field)
    if field in _RECIPE:
        kind = type(default) if kind is None and default is not None else kind
        kind = None if "/" in name else kind
        return click.option(
            name, type=kind, default=None, show_default="the recipe's", help=text
        )
    shown = absent or True
    return click.option(name, type=kind, default=default, show_default=shown, help=text)


def recipe_option(command: Any) -> Any:
    """`--recipe`, from which all that is not given comes."""
    return click.option(
        "--recipe",
        type=click.Choice(list(training.RECIPES)),
        show_default="nobn for that normalization, plain for the others",
        help="How to train; the options below change parts of it.",
    )(command)


NORMALIZATION = setting(
    "--normalization",
    "nobn: scaled kernels instead of a norm; none: neither; else that norm.",
    click.Choice(models.NORMALIZATIONS),
)
BATCH_SIZE = setting("--batch-size", "Images per step, over all replicas.")
SEED = setting("--seed", "The same seed gives the same weights.")
LEARNING_RATE = setting("--learning-rate", "At the first step, behind a warm-up.")

WHAT: Sequence[_Decorator] = (
    setting(
        "--model",
        "The network. With --init, if this is left out: the network of --init itself.",
        click.Choice([*models.BUILDERS, training.OWN]),
    ),
    setting("--dataset", "The images; see larq-nobn data.", Dataset()),
    setting("--image-size", "Pixels: 96, or 96x128.", Size(), "the data set's own"),
    setting("--holdout", "Share for testing of a folder that has no part for it."),
    setting(
        "--augment",
        "How training images vary.",
        click.Choice(data.AUGMENTATIONS),
        "the data set's usual way",
    ),
    click.option("--skip-unreadable", is_flag=True, help="Go on without such files."),
    click.option("--balance-classes", is_flag=True, help="Weigh rare classes more."),
    setting("--width", "Channels of the first stage.", int, _OWN),
    setting("--blocks", "Blocks per stage, such as 4,4,4,4.", Blocks(), _OWN),
    setting(
        "--precision",
        "The mixed ones compute in 16 bits and keep weights in 32.",
        click.Choice(training.PRECISIONS),
    ),
    setting(
        "--init",
        "Start from the weights of this run or model file; see --recipe fine_tune.",
        str,
        "fresh weights",
    ),
    setting("--limit", "Use at most so many images of each split.", int, "all"),
    data_dir_option,
)
HOW: Sequence[_Decorator] = (
    setting("--epochs", "Passes over the training images, in each stage."),
    setting("--optimizer", "What descends.", click.Choice(training.OPTIMIZERS)),
    setting("--beta-2", "Adam's decay of the second moment."),
    setting("--momentum", "Of SGD."),
    setting(
        "--schedule",
        "How the learning rate falls to 0.",
        click.Choice(training.SCHEDULES),
    ),
    setting("--warmup-epochs", "Epochs of rising learning rate, before a cosine."),
    setting("--weight-decay", "Share of the kernels in their gradient."),
    setting("--stage-one-decay", "The same in the first of two stages."),
    setting("--clip-factor", "Adaptive gradient clipping; 0 turns it off."),
    setting("--shift-multiplier", "Learning-rate factor of shifts and gains."),
    setting(
        "--backbone-multiplier", "Factor on the learning rate of all but the head."
    ),
    setting("--calibrate/--no-calibrate", "Set shifts and gains from 512 images."),
    setting("--latent-scale", "Factor on the first latent weights of binary kernels."),
    setting("--reflect/--no-reflect", "Augment with mirrored instead of black pixels."),
    setting("--accumulate", "Parts of a batch that are computed one by one."),
    setting("--stages", "2: first real-valued kernels, then binary ones."),
    setting(
        "--teacher",
        "Learn the outputs of this run or .keras file; train: of a float ResNet.",
        str,
    ),
    setting(
        "--kernel",
        "Makes the binary kernels, where a norm follows them.",
        click.Choice(list(training.KERNELS)),
    ),
    setting("--natural-learning-rate", "Of the kernel bernoulli_sign, at first."),
    setting("--prior-weight", "Of that kernel: how strongly its weights stay open."),
    setting("--label-smoothing", "Share of a label that goes to all classes alike."),
    setting("--mixup", "Mix pairs of images, by Beta(this, this)."),
    setting("--temperature", "Of that kernel: the lower, the closer to binary draws."),
    click.option(
        "--network",
        type=Argument(),
        multiple=True,
        help="An argument of the network, such as alpha=0.5; may be repeated.",
    ),
)


def options(*decorators: _Decorator) -> _Decorator:
    """Applies decorators so that --help lists them in this order."""

    def decorate(command: Any) -> Any:
        for decorator in reversed(decorators):
            command = decorator(command)
        return command

    return decorate


def settings_of(recipe: str | None, **given: Any) -> training.RunSettings:
    """Returns the settings of a recipe and of the options that were given."""
    given["network"] = dict(given["network"])
    if given["init"] is not None:
        source = click.get_current_context().get_parameter_source
        for name in ("model", "normalization"):
            if source(name) is ParameterSource.DEFAULT:
                given[name] = None
    chosen = {name: value for name, value in given.items() if value is not None}
    return training.RunSettings.from_recipe(recipe, **chosen)
