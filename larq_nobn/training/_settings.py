"""The settings of a training run, as far as they need the networks to be checked."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, fields
from inspect import signature
from pathlib import Path
from typing import Any

from .. import models
from .._checks import check_choice
from .._errors import InvalidValue
from .._files import sha256_of
from .._keras import keras
from .._names import FLOAT_MODEL, MODEL_FROM_INIT, find_pretrained
from ..config._fields import documented, settings_of
from ..config._presets import KERNEL_OVERRIDES, RECIPES, REQUIRED_NORMALIZATION
from ..config._recipe import Recipe
from ..config._settings import Settings
from ..data import WHICH
from ..models._float_resnet import float_resnet
from ..models._normalizations import NORMALIZATIONS

# A float network is none of the models of this package, but teaches them.
NETWORKS: dict[str, Callable[..., keras.Model]] = {
    **models.BUILDERS,
    FLOAT_MODEL: float_resnet,
}
# Those whose signs and activations have shifts under every normalization.
_SHIFTED = frozenset({"ReActNet18", "ReActNetA"})
# Those whose norm stands before signs. Their binary kernels start from Keras' default,
# and those of the others after a norm within 0.001.
_NORM_FIRST = frozenset(
    {
        "XNORNet18",
        *("BinaryDenseNet28", "BinaryDenseNet37", "BinaryDenseNet45"),
        *("MeliusNet22", "MeliusNet29"),
    }
)
# Arguments of builders that have settings of their own, or none.
_NO_OPTIONS = {"input_shape", "classes", "normalization", "width", "name"}
# What a network that is taken as it is has already, and the value that leaves it so.
_FIXED_BY_INIT: dict[str, Any] = {
    "normalization": None,
    "width": None,
    "blocks": None,
    "network": {},
    "stages": 1,
    "precision": "float32",
}


@documented
@dataclass(frozen=True)
class RunSettings(Settings):
    """Everything that decides the weights of a training run, checked.

    A recipe, and what is trained by it. Without further arguments the recipe is
    `"plain"`, the same for all normalizations: Adam, whose learning rate falls linearly
    to zero over all steps, and gradients that are clipped adaptively. `from_recipe`
    takes another one, by default that tuned for the normalization.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument lies outside what is allowed.

    Example:
        >>> settings = RunSettings(dataset="digits", width=32, blocks=(4, 4), epochs=5)
        >>> settings.normalization
        'nobn'
    """

    def _check_combinations(self) -> None:
        super()._check_combinations()
        usual, known = RECIPES[self.recipe].network, _builder_options(self.model)
        usual = {name: value for name, value in usual.items() if name in known}
        object.__setattr__(self, "network", {**usual, **self.network})
        if self.model == MODEL_FROM_INIT:
            self._check_init()
        else:
            check_choice("normalization", self.normalization, NORMALIZATIONS)
        for name in [*self.network, *["blocks"] * (self.blocks is not None)]:
            if name not in known:
                raise InvalidValue(
                    f"{name} is not an argument of {self.model}. Choose from "
                    f"{', '.join(known)}."
                )
        if self.calibrate and not _can_calibrate(self.model, self.normalization):
            raise InvalidValue(
                f"calibrate=True finds nothing to set in {self.model} with "
                f"normalization={self.normalization!r}: it sets thresholds, biases and "
                "gains where no statistics of a batch are in between. Leave it out."
            )
        if self.kernel not in (None, "biper") and self.normalization == "nobn":
            raise InvalidValue(
                f"kernel={self.kernel!r} needs a normalization after the convolution, "
                "but those of 'nobn' scale their own kernels. Choose the kernel biper, "
                "which has a scale too, batch_norm or another normalization, or leave "
                "the kernel out."
            )
        if self.kernel == "biper" and self.latent_initializer is None:
            # All latent weights of 'nobn' start above zero, which is one sign here.
            object.__setattr__(self, "latent_initializer", "glorot_uniform")
        if self.init is not None and self.init_sha256 is None:
            with suppress(OSError, ValueError):  # there is no such file
                digest = sha256_of(weights_file(self.init))
                object.__setattr__(self, "init_sha256", digest)

    def _check_init(self) -> None:
        """Rejects what a network that is taken as it is has already."""
        if self.init is None:
            raise InvalidValue(
                f"model={MODEL_FROM_INIT!r} is the network of init, which is not "
                "given. Add --init RUN_OR_FILE (init=...), or name the network."
            )
        for name, usual in _FIXED_BY_INIT.items():
            if (value := getattr(self, name)) != usual:
                raise InvalidValue(
                    f"{name}={value!r} does not apply to the network of "
                    f"init={self.init!r} as it is. Leave it out, or choose a model "
                    "(--model) that takes the weights."
                )

    @property
    def images(self) -> dict[str, Any]:
        """Arguments of `larq_nobn.data.open_dataset` for the images."""
        return {"name": self.dataset, **{name: getattr(self, name) for name in WHICH}}

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
        for each in ("model", "normalization", "kernel", "network"):
            if each in chosen:
                settings_of(cls)[each].check(chosen[each])
        init = chosen.get("init")
        if init is not None:
            chosen.setdefault("model", MODEL_FROM_INIT)
        if chosen.get("model") == MODEL_FROM_INIT:
            chosen.setdefault("normalization", None)
        if name in NORMALIZATIONS:
            chosen.setdefault("normalization", name)
        if name in REQUIRED_NORMALIZATION:
            chosen.setdefault("normalization", REQUIRED_NORMALIZATION[name])
        normalization: Any = chosen.get("normalization", cls.normalization)
        if name is None:
            name = normalization if normalization in NORMALIZATIONS else "plain"
        recipe = RECIPES[check_choice("recipe", name, RECIPES)]
        values = {field.name: getattr(recipe, field.name) for field in fields(Recipe)}
        if name in NORMALIZATIONS:
            values |= KERNEL_OVERRIDES.get(chosen.get("kernel") or "", {})
        model = chosen.get("model", cls.model)
        values["calibrate"] &= _can_calibrate(model, normalization) and not init
        if init:
            values["latent_initializer"] = None
        # Of other kernels, which start so small that a step turns their signs.
        if init or model in _NORM_FIRST or not NORMALIZATIONS[normalization].scaled:
            values["latent_scale"] = 1.0
        if chosen.get("dataset") == "imagenet":
            values["reflect"] = False
        return cls(**{**values, "network": {}, **chosen, "recipe": name})


def _can_calibrate(model: str, normalization: str | None) -> bool:
    """Whether there are gains or shifts to set, and no batch statistics between."""
    shifted = model in _SHIFTED and normalization not in models.BATCH_STATISTICS
    return normalization == "nobn" or shifted


def _builder_options(model: str) -> list[str]:
    """Names of the arguments of a network that have no setting of their own."""
    if model == MODEL_FROM_INIT:
        return []
    return [n for n in signature(NETWORKS[model]).parameters if n not in _NO_OPTIONS]


def weights_file(init: str) -> Path:
    """The file of the weights of a run folder, of a trained network, or of itself."""
    path = Path(init)
    if path.is_dir():
        return path / "model.keras"
    return find_pretrained(init) or path
