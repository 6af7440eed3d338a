"""The settings of a training run, as far as they need the networks to be checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from inspect import signature
from pathlib import Path
from typing import Any

from .. import models
from .._checks import check_choice
from .._errors import InvalidType, InvalidValue
from .._files import sha256_of
from .._keras import keras, registered
from .._names import FLOAT_MODEL, GIVEN, MODEL_FROM_INIT, find_pretrained
from ..config._fields import documented, settings_of
from ..config._presets import (
    KERNEL_OVERRIDES,
    OPTIMIZER_OVERRIDES,
    RECIPES,
    REQUIRED_NORMALIZATION,
)
from ..config._recipe import Recipe
from ..config._settings import Settings
from ..data import WHICH
from ..models._float_resnet import float_resnet
from ..models._normalizations import NORMALIZATIONS, normalization_of

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
# Those that builders use for the normalization nobn alone.
OF_NOBN = {
    *("alpha", "variance_rule", "variance_preserving", "balanced", "scaled_shortcut")
}
# Models that are networks as they are, of a file or of the caller.
TAKEN = (MODEL_FROM_INIT, GIVEN)
# What such a network has already, and the value that leaves it so.
_FIXED: dict[str, Any] = {
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

    A recipe, and what is trained by it. Settings that are not given are those of the
    recipe, by default of the one that was tuned for the normalization, as in the
    command `larq-nobn train`; `dataclasses.replace` changes some of them.

    Attributes:
        sources: Where each value is from: `"default"`, `"recipe NAME"`, `"file"` or
            `"option"`.

    Raises:
        TypeError: If an argument has the wrong type, or is no setting.
        ValueError: If an argument lies outside what is allowed, or nothing would use
            it.

    Example:
        >>> settings = RunSettings(dataset="digits", width=32, blocks=(4, 4), epochs=5)
        >>> settings.normalization, settings.learning_rate
        ('nobn', 0.003)
    """

    def __init__(self, recipe: str | None = None, **given: Any) -> None:
        known = settings_of(type(self))
        for name in given:
            if name not in known:
                close = get_close_matches(name, known, 1) or [", ".join(known)]
                raise InvalidType(f"{name} is not a setting. Choose {close[0]}.")
        given = {name: known[name].check(value) for name, value in given.items()}
        values, sources = _usual(recipe, given)
        own = given.pop("network", {})
        network = {**values["network"], **own}
        sources |= dict.fromkeys([*given, *["network"] * bool(own)], "option")
        for name, value in {**values, **given, "network": network}.items():
            object.__setattr__(self, name, value)
        self.sources: dict[str, str]
        object.__setattr__(self, "sources", sources)
        self._check_combinations(vars(RECIPES[self.recipe]))

    def _check_combinations(self, usual: Mapping[str, Any] | None = None) -> None:
        super()._check_combinations(usual)
        known = _builder_options(self.model)
        if self.model in TAKEN:
            self._check_taken()
        else:
            normalization_of(self.normalization)
        if self.kernel is not None and ">" in self.kernel:
            registered("kernel", self.kernel)
        for name in [*self.network, *["blocks"] * (self.blocks is not None)]:
            if name not in known:
                raise InvalidValue(
                    f"{name} is not an argument of {self.model}. Choose from "
                    f"{', '.join(known)}."
                )
        theirs = RECIPES[self.recipe].network
        for name in OF_NOBN & self.network.keys():
            idle = self.network[name] == theirs.get(name, ...)
            if self.normalization != "nobn" and not idle:
                raise InvalidValue(
                    f"{name}={self.network[name]!r} does not go with normalization="
                    f"{self.normalization!r}: nothing would use it. Choose "
                    f"normalization nobn, or leave {name} out."
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
        fresh = self.model not in TAKEN and self.latent_initializer is None
        if self.kernel == "biper" and fresh:
            # All latent weights of 'nobn' start above zero, which is one sign here.
            object.__setattr__(self, "latent_initializer", "glorot_uniform")
        if self.init is not None and self.init_sha256 is None:
            with suppress(OSError, ValueError):  # there is no such file
                digest = sha256_of(weights_file(self.init))
                object.__setattr__(self, "init_sha256", digest)

    def _check_taken(self) -> None:
        """Rejects what a network that is taken as it is has already."""
        if self.init is None and self.model == MODEL_FROM_INIT:
            raise InvalidValue(
                f"model={MODEL_FROM_INIT!r} is the network of init, which is not "
                "given. Add --init RUN_OR_FILE (init=...), or name the network."
            )
        own = "that is given" if self.init is None else f"of init={self.init!r}"
        for name, usual in _FIXED.items():
            if (value := getattr(self, name)) != usual:
                raise InvalidValue(
                    f"{name}={value!r} does not apply to the network {own} as it is. "
                    "Leave it out, or choose a model (--model) that takes the weights."
                )

    @property
    def images(self) -> dict[str, Any]:
        """Arguments of `larq_nobn.data.open_dataset` for the images."""
        return {"name": self.dataset, **{name: getattr(self, name) for name in WHICH}}

    @classmethod
    def from_recipe(cls, name: str | None = None, **chosen: Any) -> RunSettings:
        """Returns the settings of a recipe, with some of them chosen otherwise.

        As `RunSettings(recipe=name, ...)`, but what is chosen has to be used, though it
        be the default. What a recipe says of networks that another one does not have,
        calibration where there is nothing to calibrate, larger latent kernels where
        they start from Keras' default, and whatever else nothing would use, is left
        out. With `init` and without a model it is the network of `init`. To a recipe
        of a normalization is added what a chosen `kernel` trains best by.

        Arguments:
            name: One of `RECIPES`; None for the one that has the name of the
                normalization, and for `"plain"` with the network of `init`. One of such
                a name is for that normalization unless another one is chosen, and
                `"recu_cifar"`, `"bnn_plus"` and `"bayesian"` are for batch norm.
            **chosen: Any of the settings; `network` adds to what the recipe says.

        Raises:
            TypeError, ValueError: As the class does, and for an unknown recipe.

        Example:
            ```python
            settings = nobn.training.RunSettings.from_recipe("nobn", width=16, epochs=5)
            ```
        """
        return cls.from_layers(name, {}, chosen)

    @classmethod
    def from_layers(
        cls, recipe: str | None, file: Mapping[str, Any], options: Mapping[str, Any]
    ) -> RunSettings:
        """Returns the settings of a recipe, changed by a file, changed by options.

        Beside another recipe than its own, a file changes what is not of its recipe.
        """
        known, of_recipes = settings_of(cls), settings_of(Recipe)
        file = {n: known[n].check(v) if n in known else v for n, v in file.items()}
        theirs = file.pop("recipe", None)
        if recipe is not None and theirs not in (None, recipe):
            usual, _ = _usual(theirs, {**file, "network": {}})
            extra = file.get("network", {}).items()
            own = {n: v for n, v in extra if usual["network"].get(n, ...) != v}
            file = {
                name: value
                for name, value in file.items()
                if name not in of_recipes or usual[name] != value
            } | {"network": own}
            if _normalization_of(recipe):
                file.pop("normalization", None)
        network = {**file.get("network", {}), **options.get("network", {})}
        made = cls(recipe or theirs, **{**file, **options, "network": network})
        made.sources.update(dict.fromkeys(file.keys() - options.keys(), "file"))
        for name, value in options.items():
            if value is not None and name != "network":
                known[name].check_used(vars(made))
        return made

    def but(self, **changes: Any) -> RunSettings:
        """Returns other settings, without what nothing would use any more."""
        known, values = settings_of(type(self)), {**vars(self), **changes}
        kept = {
            name: each.default if each.unmet(values) else values[name]
            for name, each in known.items()
        }
        made = type(self)(**{**kept, **changes})
        made.sources.update({n: s for n, s in self.sources.items() if n not in changes})
        return made

    def of_given_network(self) -> RunSettings:
        """Returns the training of a network that is given instead of a model.

        What a recipe says of new networks is left out, as for the model `"init"`.
        """
        known, values = settings_of(type(self)), vars(self)
        decide = {name: values[name] for name in ("kernel", "optimizer")}
        usual, _ = _usual(self.recipe, decide)
        if self.sources["normalization"] in ("option", "file"):
            usual["normalization"] = known["normalization"].default
        chosen = {n: values[n] for n in known if values[n] != usual[n]}
        if chosen.pop("model", GIVEN) != GIVEN or self.init is not None:
            raise InvalidValue(
                f"model={self.model!r}, init={self.init!r} are in the settings, and a "
                "network was given. Leave one of them out."
            )
        return type(self)(**{**chosen, "recipe": self.recipe, "model": GIVEN})


def _normalization_of(recipe: str) -> str | None:
    """The normalization that a recipe is for, if for one."""
    named = recipe if recipe in NORMALIZATIONS else None
    return REQUIRED_NORMALIZATION.get(recipe, named)


def _usual(
    recipe: str | None, given: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, str]]:
    """Returns all settings as they are beside those given, and where each is from."""
    known = settings_of(RunSettings)
    values = {name: each.default for name, each in known.items()}
    init, kernel = given.get("init"), given.get("kernel")
    if init is not None:
        values["model"] = MODEL_FROM_INIT
    model = given.get("model", values["model"])
    if model in TAKEN:
        values["normalization"] = None
    elif recipe is not None and (own := _normalization_of(recipe)):
        values["normalization"] = own
    normalization = given.get("normalization", values["normalization"])
    name = recipe
    if name is None:
        name = normalization if normalization in NORMALIZATIONS else "plain"
    chosen = vars(RECIPES[check_choice("recipe", name, RECIPES)])
    layers = [(f"recipe {name}", chosen)]
    if name in NORMALIZATIONS and kernel in KERNEL_OVERRIDES:
        layers.append((f"kernel {kernel}", KERNEL_OVERRIDES[kernel]))
    optimizer = given.get("optimizer")
    if optimizer in OPTIMIZER_OVERRIDES and kernel != "bernoulli_sign":
        layers.append((f"optimizer {optimizer}", OPTIMIZER_OVERRIDES[optimizer]))
    sources = dict.fromkeys(values, "default")
    for source, layer in layers:
        changed = {n: v for n, v in layer.items() if v != values[n]}
        values |= changed
        sources |= dict.fromkeys(changed, source)
    taken = _builder_options(model)
    values["network"] = {n: v for n, v in chosen["network"].items() if n in taken}
    values["recipe"] = name
    both = {**values, **given}
    # What does not go with a choice stays, for an error: it was not meant.
    unmet = {name: known[name].unmet(both) for name in chosen}
    out = {name for name, found in unmet.items() if found and not found[0].why}
    weighted = init is not None or model == GIVEN
    if not _can_calibrate(model, normalization) or weighted:
        out.add("calibrate")
    if model in TAKEN:
        out.add("kernel")  # which is its own
    # Kernels that start from other weights, or not so small that a step turns signs.
    unscaled = (
        normalization in NORMALIZATIONS and not NORMALIZATIONS[normalization].scaled
    )
    if weighted or model in _NORM_FIRST or unscaled:
        out.add("latent_scale")
    if weighted:
        out.add("latent_initializer")
    values |= {n: known[n].default for n in out}
    return values, sources | dict.fromkeys(out, "default")


def _can_calibrate(model: str, normalization: str | None) -> bool:
    """Whether there are gains or shifts to set, and no batch statistics between."""
    shifted = model in _SHIFTED and normalization not in models.BATCH_STATISTICS
    return normalization == "nobn" or shifted


def _builder_options(model: str) -> list[str]:
    """Names of the arguments of a network that have no setting of their own."""
    if model in TAKEN:
        return []
    return [n for n in signature(NETWORKS[model]).parameters if n not in _NO_OPTIONS]


def weights_file(init: str) -> Path:
    """The file of the weights of a run folder, of a trained network, or of itself."""
    path = Path(init)
    if path.is_dir():
        return path / "model.keras"
    return find_pretrained(init) or path
