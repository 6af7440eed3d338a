"""What a training run is made of."""

from __future__ import annotations

from dataclasses import dataclass, fields
from inspect import signature
from typing import Any

from ... import data, models
from ..._checks import (
    check_blocks,
    check_bounds,
    check_choice,
    check_flag,
    check_number,
    check_path,
)
from ...models._kernels import GLOROT
from ._init import OWN, check_init, content_hash
from ._networks import NETWORKS, NORM_FIRST, SHIFTED
from ._recipe import Recipe
from ._recipes import IMPLIED, OF_KERNELS, RECIPES

PRECISIONS = ("float32", "mixed_float16", "mixed_bfloat16")
# Said by settings of their own.
_BUILDER_SETTINGS = {"input_shape", "classes", "normalization", "width", "blocks"}


@dataclass(frozen=True)
class RunSettings(Recipe):
    """Everything that decides the weights of a training run, checked.

    A recipe, and what is trained by it. Without further arguments the recipe is
    `"plain"`: Adam, whose learning rate falls linearly to zero over all steps, and
    gradients that are clipped adaptively: with batch norm, with none and without batch
    norm alike, so that normalizations are compared on equal terms. `from_recipe` takes
    another one.

    Arguments:
        model: Name of a network in `larq_nobn.models.BUILDERS`; `"FloatResNet"`, a
            real-valued teacher; or `"init"`, the network of `init` as it is, with a new
            classifier where the number of classes differs.
        normalization: One of `larq_nobn.models.NORMALIZATIONS`; None for the model
            `"init"`, which has its own.
        dataset: One of `larq_nobn.data.NAMES`, a folder of pictures, or `"tfds:NAME"`;
            as `larq_nobn.data.load` takes it. `"given"` is what `train` gets as `data`.
        width: Channels of the first stage; None for the network's own.
        blocks: Blocks per stage of a residual network; None for the network's own.
        seed: Decides the initial weights, the order of images and their augmentation.
        precision: A Keras dtype policy: `"float32"`, `"mixed_float16"` or
            `"mixed_bfloat16"`.
        limit: Use at most so many images of each split; None for all.
        data_dir: Folder of prepared data sets; None for the usual one.
        image_size: Height and width of the images, or one number for both; None for
            what suits the data set.
        holdout: Share of a folder's pictures that are for testing if no folder says so.
        validation: Fraction of the training images that make up the validation split;
            0 where the data set has one, or for none. History, stopping and comparisons
            use the validation split if there is one, and the test images otherwise.
        augment: Variation of training images, one of `larq_nobn.data.AUGMENTATIONS`;
            None for the usual one of the data set.
        skip_unreadable: Whether to go on without files that cannot be read.
        balance_classes: Whether images of rare classes weigh more in the loss of
            training, so that all classes have the same weight.
        recipe: Name of the recipe that the others started from, for the record.
        init: Run folder, or `.keras` or `.h5` file, whose weights the network starts
            with where names and shapes are the same; None for fresh ones.
        init_sha256: SHA-256 of that file, so that a run goes on from nothing else; None
            reads it off the file.
        epochs, batch_size, optimizer, learning_rate, beta_2, momentum, schedule,
            warmup_epochs, weight_decay, stage_one_decay, clip_factor, clip_each_gain,
            shift_multiplier, backbone_multiplier, calibrate, latent_scale,
            latent_initializer, standardize_activations, reflect, accumulate, stages,
            teacher, kernel, natural_learning_rate, prior_weight, temperature,
            label_smoothing, mixup, network: As in `Recipe`.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument lies outside what is allowed.

    Example:
        >>> settings = RunSettings(dataset="digits", width=32, blocks=(4, 4), epochs=5)
        >>> settings.normalization
        'nobn'
    """

    model: str = "ReActNet18"
    normalization: str | None = "nobn"
    dataset: str = "cifar10"
    width: int | None = None
    blocks: tuple[int, ...] | None = None
    seed: int = 0
    precision: str = "float32"
    limit: int | None = None
    data_dir: str | None = None
    image_size: int | tuple[int, int] | None = None
    holdout: float = 0.1
    validation: float = 0.0
    augment: str | None = None
    skip_unreadable: bool = False
    balance_classes: bool = False
    recipe: str = "plain"
    init: str | None = None
    init_sha256: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("model", self.model, (*NETWORKS, OWN))
        check_init(self)
        if self.model != OWN:
            check_choice("normalization", self.normalization, models.NORMALIZATIONS)
        object.__setattr__(self, "dataset", data.check_name("dataset", self.dataset))
        self._check_images()
        check_choice("precision", self.precision, PRECISIONS)
        check_choice("recipe", self.recipe, RECIPES)
        if self.width is not None:
            check_bounds("width", self.width)
        if self.blocks is not None:
            object.__setattr__(self, "blocks", check_blocks(self.blocks))
            if "blocks" not in signature(NETWORKS[self.model]).parameters:
                raise ValueError(
                    f"blocks={self.blocks} does not apply: {self.model} is not made of "
                    "blocks. Leave it out."
                )
        check_bounds("seed", self.seed)
        if self.limit is not None:
            check_bounds("limit", self.limit)
        self._check_network()
        if self.init is not None and self.init_sha256 is None:
            object.__setattr__(self, "init_sha256", content_hash(self.init))

    def _check_images(self) -> None:
        object.__setattr__(self, "image_size", data.check_size(self.image_size))
        if self.data_dir is not None:
            check_path("data_dir", self.data_dir)
        check_number("holdout", self.holdout, "(0, 1)", "0.1 is usual.")
        check_number("validation", self.validation, "[0, 1)", "0.1 is usual.")
        if self.augment is not None:
            check_choice("augment", self.augment, data.AUGMENTATIONS)
        for name in ("skip_unreadable", "balance_classes"):
            check_flag(name, getattr(self, name))

    def _check_network(self) -> None:
        known = builder_options(self.model)
        for name in self.network:
            if name not in known:
                raise ValueError(
                    f"network={dict(self.network)} has {name!r}, which {self.model} "
                    f"does not know. Choose from {', '.join(known)}."
                )
        if self.calibrate and not _can_calibrate(self.model, self.normalization):
            raise ValueError(
                f"calibrate=True finds nothing to set in {self.model} with "
                f"normalization={self.normalization!r}: it sets shifts and gains where "
                "no statistics of a batch are in between. Leave it out."
            )
        if self.standardize_activations and self.normalization == "kalman":
            raise ValueError(
                "standardize_activations=True does not apply to normalization="
                "'kalman', which carries moments of the activations as they are. Leave "
                "it out, or choose batch_norm."
            )
        if self.kernel is not None and self.normalization == "nobn":
            raise ValueError(
                f"kernel={self.kernel!r} needs a normalization behind the convolution, "
                "but those of 'nobn' scale their own kernels. Choose batch_norm or "
                "another normalization, or leave the kernel out."
            )

    @property
    def images(self) -> dict[str, Any]:
        """Arguments of `larq_nobn.data.describe` that say which images are meant."""
        return {
            "name": self.dataset,
            "image_size": self.image_size,
            "holdout": self.holdout,
            "skip_unreadable": self.skip_unreadable,
            "data_dir": self.data_dir,
            "validation": self.validation,
        }

    @classmethod
    def from_recipe(cls, name: str | None = None, **chosen: Any) -> RunSettings:
        """Returns the settings of a recipe, with some of them chosen otherwise.

        What a recipe says of networks that another one does not have, calibration where
        there is nothing to calibrate, larger latent kernels where they start from
        Keras' default, and borders for ImageNet, whose crops have none, are left out.
        With `init` and without a model it is the network of `init`. To a recipe of a
        normalization is added what a chosen `kernel` trains best by.

        Arguments:
            name: One of `RECIPES`; None for the one that has the name of the
                normalization, and for `"plain"` with the model `"init"`. One of such a
                name is for that normalization unless another one is chosen, and
                `"recu_cifar"`, `"bnn_plus"` and `"bayesian"` are for batch norm.
            **chosen: Any of the settings; `network` adds to what the recipe says.

        Raises:
            TypeError, ValueError: As the class does, and for an unknown recipe.

        Example:
            ```python
            settings = nobn.training.RunSettings.from_recipe("nobn", width=16, epochs=5)
            ```
        """
        if chosen.get("init") is not None:
            chosen.setdefault("model", OWN)
        if chosen.get("model") == OWN:
            chosen.setdefault("normalization", None)
        if name in models.NORMALIZATIONS:
            chosen.setdefault("normalization", name)
        if name in IMPLIED:
            chosen.setdefault("normalization", IMPLIED[name])
        normalization = chosen.get("normalization", cls.normalization)
        if name is None:
            known = normalization in models.NORMALIZATIONS
            name = normalization if known else "plain"
        recipe = RECIPES[check_choice("recipe", name, RECIPES)]
        values = {each.name: getattr(recipe, each.name) for each in fields(Recipe)}
        if name in models.NORMALIZATIONS:
            values |= OF_KERNELS.get(chosen.get("kernel") or "", {})
        model = chosen.get("model", cls.model)
        check_choice("model", model, (*NETWORKS, OWN))
        options = builder_options(model)
        network = {k: v for k, v in recipe.network.items() if k in options}
        values["calibrate"] = (
            recipe.calibrate
            and _can_calibrate(model, normalization)
            and not chosen.get("init")
        )
        if chosen.get("init") or not _starts_small(model, normalization):
            values["latent_scale"] = 1.0
        if chosen.get("init"):
            values["latent_initializer"] = None
        if chosen.get("dataset") == "imagenet":
            values["reflect"] = False
        network |= chosen.pop("network", {})
        return cls(**{**values, **chosen, "network": network, "recipe": name})


def _can_calibrate(model: str, normalization: str | None) -> bool:
    """Whether there are gains or shifts to set, and no batch statistics between."""
    shifted = model in SHIFTED and normalization not in models.BATCH_STATISTICS
    return normalization == "nobn" or shifted


def _starts_small(model: str, normalization: str | None) -> bool:
    """Whether binary kernels start so small that a step turns their signs."""
    small = model in models.BUILDERS and model not in NORM_FIRST
    return small and normalization not in GLOROT


def builder_options(model: str) -> list[str]:
    """Names of the arguments of a network that have no setting of their own."""
    if model == OWN:
        return []
    names = signature(NETWORKS[model]).parameters
    return [name for name in names if name not in {*_BUILDER_SETTINGS, "name"}]
