"""What a training run is made of."""

from __future__ import annotations

from dataclasses import dataclass
from inspect import signature

from .. import data, models
from .._checks import check_blocks, check_choice, check_integer, check_number

PRECISIONS = ("float32", "mixed_float16", "mixed_bfloat16")


@dataclass(frozen=True)
class RunSettings:
    """Everything that decides the weights of a training run, checked.

    The optimizer is Adam, its learning rate falls linearly to zero over all steps, and
    gradients are clipped adaptively: with batch norm, with none and without batch norm
    alike, so that normalizations are compared on equal terms.

    Arguments:
        model: Name of a network in `larq_nobn.models.BUILDERS`.
        normalization: One of `larq_nobn.models.NORMALIZATIONS`.
        dataset: One of `larq_nobn.data.NAMES`.
        width: Channels of the first stage; None for the network's own.
        blocks: Blocks per stage of a residual network; None for the network's own.
        epochs: Passes over the training images.
        batch_size: Images per step.
        learning_rate: Adam's learning rate at the first step.
        clip_factor: Largest gradient norm of a unit relative to its weights; 0 for no
            clipping.
        seed: Decides the initial weights, the order of images and their augmentation.
        precision: A Keras dtype policy: `"float32"`, `"mixed_float16"` or
            `"mixed_bfloat16"`.
        limit: Use at most so many images of each split; None for all.
        data_dir: Folder of prepared data sets; None for the usual one.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument lies outside what is allowed.

    Example:
        >>> settings = RunSettings(dataset="digits", width=32, blocks=(4, 4), epochs=5)
        >>> settings.normalization
        'nobn'
    """

    model: str = "ReActNet18"
    normalization: str = "nobn"
    dataset: str = "cifar10"
    width: int | None = None
    blocks: tuple[int, ...] | None = None
    epochs: int = 20
    batch_size: int = 128
    learning_rate: float = 1e-3
    clip_factor: float = 0.02
    seed: int = 0
    precision: str = "float32"
    limit: int | None = None
    data_dir: str | None = None

    def __post_init__(self) -> None:
        check_choice("model", self.model, models.BUILDERS)
        check_choice("normalization", self.normalization, models.NORMALIZATIONS)
        check_choice("dataset", self.dataset, data.NAMES)
        check_choice("precision", self.precision, PRECISIONS)
        if self.width is not None:
            check_integer("width", self.width, 1, "It is a number of channels.")
        if self.blocks is not None:
            object.__setattr__(self, "blocks", check_blocks(self.blocks))
            if "blocks" not in signature(models.BUILDERS[self.model]).parameters:
                raise ValueError(
                    f"blocks={self.blocks} does not apply: {self.model} is not made of "
                    "blocks. Leave it out."
                )
        check_integer("epochs", self.epochs, 1, "Train for one epoch or more.")
        check_integer("batch_size", self.batch_size, 1, "Take 128 if memory allows.")
        check_number(
            "learning_rate", self.learning_rate, "(0, inf)", "0.001 is a good start."
        )
        check_number(
            "clip_factor", self.clip_factor, "[0, inf)", "0.02 is usual, 0 is off."
        )
        check_integer("seed", self.seed, 0, "Any whole number from 0 will do.")
        if self.limit is not None:
            check_integer("limit", self.limit, 1, "Leave it out to use all images.")
