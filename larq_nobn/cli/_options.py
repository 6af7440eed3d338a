"""The options that say what is trained and how, for all commands that train."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any

import click
from click.core import ParameterSource

from .. import data, models, training
from ._models import Dataset, data_dir_option, trust_option
from .arguments import Argument, Blocks, Size

DEFAULTS = training.RunSettings()
_OWN = "the network's own"
_RECIPE = {field.name for field in fields(training.Recipe)}
_USUAL = training.RECIPES["nobn"]
_Decorator = Callable[[Any], Any]


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
        usual = f"{_in_words(getattr(_USUAL, field))} in recipe nobn"
        return click.option(
            name, type=kind, default=None, show_default=usual, help=text
        )
    shown = absent or True
    return click.option(name, type=kind, default=default, show_default=shown, help=text)


def _in_words(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    return "none" if value is None else str(value)


def recipe_option(command: Any) -> Any:
    """`--recipe`, from which all that is not given comes."""
    return click.option(
        "--recipe",
        type=click.Choice(list(training.RECIPES)),
        show_default="that of the normalization",
        help="Preset of all settings in this group; any other option changes one.",
    )(command)


NORMALIZATION = setting(
    "--normalization",
    "What follows convolutions. nobn: nothing, but kernels are scaled instead; "
    "none: nothing at all.",
    click.Choice(models.NORMALIZATIONS),
)
BATCH_SIZE = setting(
    "--batch-size", "Images in a training step, over all replicas together."
)
SEED = setting("--seed", "Seed of initial weights, order of images and augmentation.")
LEARNING_RATE = setting(
    "--learning-rate", "Learning rate at the first step, after any warm-up."
)

WHAT: Sequence[_Decorator] = (
    setting(
        "--model",
        "The network. With --init, if this is left out: the network of --init itself.",
        click.Choice([*models.BUILDERS, training.OWN]),
    ),
    setting("--dataset", "The images; see larq-nobn data.", Dataset()),
    setting(
        "--image-size",
        "Size of the images in pixels: 96, or 96x128 (height, width).",
        Size(),
        "the data set's own",
    ),
    setting("--holdout", "Share for testing, of a folder that has no part for it."),
    setting(
        "--validation",
        "Fraction of the training images for validation, to choose settings on.",
    ),
    setting(
        "--augment",
        "Augmentation: how training images are varied.",
        click.Choice(data.AUGMENTATIONS),
        "the data set's usual way",
    ),
    click.option(
        "--skip-unreadable",
        is_flag=True,
        help="Train without files that cannot be read.",
    ),
    click.option(
        "--balance-classes",
        is_flag=True,
        help="Weigh classes so that all count alike, however rare.",
    ),
    setting("--width", "Channels of the first stage.", int, _OWN),
    setting("--blocks", "Blocks per stage, such as 4,4,4,4.", Blocks(), _OWN),
    setting(
        "--precision",
        "Number format; the mixed ones compute in 16 bits and keep weights in 32.",
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
    trust_option,
)
HOW: Sequence[_Decorator] = (
    setting("--epochs", "Passes over the training images, in each stage."),
    setting(
        "--optimizer", "Optimizer of the weights.", click.Choice(training.OPTIMIZERS)
    ),
    setting("--beta-2", "Decay rate of the second moment of the optimizer adam."),
    setting("--momentum", "Momentum of the optimizer sgd."),
    setting(
        "--schedule",
        "Learning-rate schedule, on which the rate falls to 0.",
        click.Choice(training.SCHEDULES),
    ),
    setting(
        "--warmup-epochs",
        "Epochs in which the learning rate rises first; with --schedule cosine.",
    ),
    setting(
        "--weight-decay",
        "Weight decay: this share of each kernel is added to its gradient.",
    ),
    setting("--stage-one-decay", "Weight decay in the first of two stages."),
    setting(
        "--clip-factor",
        "Clip factor of adaptive gradient clipping: the largest norm of a unit's "
        "gradient, relative to its weights; 0 turns clipping off.",
    ),
    setting(
        "--clip-each-gain/--no-clip-each-gain",
        "Clip the gradient of each gain by itself instead of all gains of a layer.",
    ),
    setting("--shift-multiplier", "Factor on the learning rate of shifts and gains."),
    setting(
        "--backbone-multiplier", "Factor on the learning rate of all but the head."
    ),
    setting(
        "--calibrate/--no-calibrate",
        "Whether 512 images set shifts and gains before the first step.",
    ),
    setting(
        "--latent-scale",
        "Factor on the initial latent weights of binary kernels; large ones flip late.",
    ),
    setting(
        "--latent-initializer",
        "Initializer of the latent weights of binary kernels.",
        click.Choice(training.LATENT_INITIALIZERS),
    ),
    setting(
        "--standardize-activations/--no-standardize-activations",
        "Divide each example by its standard deviation before signs, in training only.",
    ),
    setting(
        "--reflect/--no-reflect",
        "Whether augmentation pads with mirrored pixels instead of black ones.",
    ),
    setting(
        "--accumulate",
        "Gradient accumulation: compute each batch in this many parts, to save memory.",
    ),
    setting(
        "--stages",
        "Stages of training. 2: real-valued kernels first, then binary ones from them.",
    ),
    setting(
        "--teacher",
        "Distillation: learn the outputs of this run folder or .keras file instead of "
        "the labels. train: of a float ResNet that is trained first.",
        str,
    ),
    setting(
        "--kernel",
        "Kernel quantizer of the binary layers; not with --normalization nobn.",
        click.Choice(list(training.KERNELS)),
    ),
    setting(
        "--natural-learning-rate",
        "For --kernel bernoulli_sign: the posterior's learning rate at the first step.",
    ),
    setting(
        "--prior-weight",
        "For --kernel bernoulli_sign: weight of the prior, which keeps signs open.",
    ),
    setting("--label-smoothing", "Share of a label that goes to all classes alike."),
    setting(
        "--mixup", "Mixup of pairs of images, in shares drawn from Beta(this, this)."
    ),
    setting(
        "--temperature",
        "For --kernel bernoulli_sign: the lower, the closer to binary while training.",
    ),
    click.option(
        "--network",
        type=Argument(),
        multiple=True,
        help="Argument of the network's builder, such as alpha=0.5; may be repeated.",
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
    # Left out, these two follow from the recipe and from --init.
    source = click.get_current_context().get_parameter_source
    for name in ("model", "normalization"):
        if source(name) is ParameterSource.DEFAULT:
            given[name] = None
    chosen = {name: value for name, value in given.items() if value is not None}
    return training.RunSettings.from_recipe(recipe, **chosen)
