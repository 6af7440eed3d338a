"""`RunSettings`: the settings of a run, with the checks that need the networks."""

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
from ..config import _presets
from ..config._fields import documented, settings_of
from ..config._presets import RECIPES
from ..config._recipe import Recipe
from ..config._settings import Settings
from ..data import WHICH
from ..models._float_resnet import float_resnet
from ..models._normalizations import NORMALIZATIONS, normalization_of
from ..quantizers._kernel_quantizer import ScaledKernel

# The float network is not a public model: it is only a teacher.
NETWORKS: dict[str, Callable[..., keras.Model]] = {
    **models.BUILDERS,
    FLOAT_MODEL: float_resnet,
}
# Models with shifts at signs and activations under every normalization.
_SHIFTED = ("ReActNet", "ReCU")  # starts of their names
# Models that normalize before the sign. Their latent weights start from Keras' default;
# those of the other models, if a norm follows, start within +-0.001.
_NORM_FIRST = ("XNORNet", "BinaryDenseNet", "MeliusNet")  # starts of their names
# Arguments of builders that the setting `network` does not contain.
_NO_OPTIONS = {"input_shape", "classes", "normalization", "width", "name"}
# Arguments of builders that only the normalization nobn uses.
OF_NOBN = {
    *("alpha", "variance_rule", "variance_preserving", "balanced", "scaled_shortcut")
}
# Values of `model` that name an existing network, of a file or of the caller.
TAKEN = (MODEL_FROM_INIT, GIVEN)
# Settings that such a network determines, with the only value that is allowed.
_FIXED: dict[str, Any] = dict.fromkeys(("normalization", "width", "blocks"))
_FIXED |= {"network": {}, "stages": 1, "precision": "float32"}


@documented
@dataclass(frozen=True)
class RunSettings(Settings):
    """All settings that determine the weights of a training run, checked.

    Settings that are not given are those of the recipe. The default recipe is the one
    that was tuned for the normalization, as in the command `larq-nobn train`. To change
    settings, use `dataclasses.replace`.

    Attributes:
        sources: The source of each value: `"default"`, `"recipe NAME"`, `"file"` or
            `"option"`.

    Raises:
        TypeError: If an argument has the wrong type, or is not a setting.
        ValueError: If an argument is outside its range, or has no effect.

    Example:
        >>> settings = RunSettings(dataset="digits", width=32, blocks=(4, 4), epochs=5)
        >>> settings.normalization, settings.learning_rate
        ('nobn', 0.003)
    """

    def __init__(self, recipe: str | None = None, **chosen: Any) -> None:
        known = settings_of(type(self))
        for name in chosen:
            if name not in known:
                close = get_close_matches(name, known, 1) or [", ".join(known)]
                raise InvalidType(f"{name} is not a setting. Choose {close[0]}.")
        chosen = {name: known[name].check(value) for name, value in chosen.items()}
        values, sources = _usual(recipe, chosen)
        own = chosen.pop("network", {})
        network = {**values["network"], **own}
        sources |= dict.fromkeys([*chosen, *["network"] * bool(own)], "option")
        for name, value in {**values, **chosen, "network": network}.items():
            object.__setattr__(self, name, value)
        self.sources: dict[str, str]
        object.__setattr__(self, "sources", sources)
        self._check_combinations(vars(RECIPES[self.recipe]))

    def _check_combinations(self, usual: Mapping[str, Any] | None = None) -> None:
        super()._check_combinations(usual)
        known = _builder_options(self.model)
        if self.model not in TAKEN:
            normalization_of(self.normalization)
        elif self.init is None and self.model == MODEL_FROM_INIT:
            raise InvalidValue(
                f"model={MODEL_FROM_INIT!r} is the network of init, which is not "
                "given. Add --init RUN_OR_FILE (init=...), or name the network."
            )
        for name, usual_value in _FIXED.items() if self.model in TAKEN else ():
            if (value := getattr(self, name)) != usual_value:
                of = "that is given" if self.init is None else f"of init={self.init!r}"
                raise InvalidValue(
                    f"{name}={value!r} cannot change the network {of}. Leave it out, "
                    "or choose a model (--model) that takes the weights."
                )
        kernel = str(self.kernel)
        kind: Any = registered("kernel", kernel) if ">" in kernel else None
        scaled = isinstance(kind, type) and issubclass(kind, ScaledKernel)
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
                f"calibrate=True has no effect on {self.model} with normalization="
                f"{self.normalization!r}: it initializes thresholds, biases and gains "
                "of networks without batch statistics. Leave it out."
            )
        scaled = scaled or self.kernel in (None, "biper")
        if not scaled and self.normalization == "nobn":
            raise InvalidValue(
                f"kernel={self.kernel!r} needs a normalization after the convolution; "
                "'nobn' has none, and scales its kernels instead. Choose the kernel "
                "biper, or a class derived from quantizers.ScaledKernel, which have a "
                "scale, or another normalization, such as batch_norm, or leave the "
                "kernel out."
            )
        fresh = self.model not in TAKEN and self.latent_initializer is None
        if scaled and self.kernel is not None and fresh:
            # 'nobn' starts all latent weights above zero: for biper, all signs are +1.
            object.__setattr__(self, "latent_initializer", "glorot_uniform")
        if self.init is not None and self.init_sha256 is None:
            with suppress(OSError, ValueError):  # there is no such file
                digest = sha256_of(weights_file(self.init))
                object.__setattr__(self, "init_sha256", digest)

    @property
    def images(self) -> dict[str, Any]:
        """The arguments of `larq_nobn.data.open_dataset` that open the images."""
        return {"name": self.dataset, **{name: getattr(self, name) for name in WHICH}}

    @classmethod
    def from_recipe(cls, name: str | None = None, **chosen: Any) -> RunSettings:
        """Returns the settings of a recipe, with the given changes.

        As `RunSettings(recipe=name, ...)`, but each change must have an effect, even if
        it equals the default. Settings of the recipe without an effect are left out:
        arguments that the network does not have, `calibrate` if there is nothing to
        initialize, `latent_scale` if latent weights start from Keras' default. With
        `init` and without `model`, the network of `init` is trained. Recipes named like
        a normalization also adopt the settings that were tuned for a chosen `kernel`.

        Arguments:
            name: One of `RECIPES`; None for the recipe with the name of the
                normalization, or `"plain"` with the network of `init`. Such a recipe
                selects its normalization unless another one is given; `"recu_cifar"`,
                `"bnn_plus"` and `"bayesian"` select batch norm.
            **chosen: Any settings; `network` adds to the arguments in the recipe.

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
        """Returns the settings of a recipe, changed by a file and then by options.

        If `recipe` is not the recipe of the file, the settings that the file has from
        its recipe are dropped.
        """
        known, of_recipes = settings_of(cls), settings_of(Recipe)
        file = {n: known[n].check(v) if n in known else v for n, v in file.items()}
        theirs = file.pop("recipe", None)
        if recipe is not None and theirs not in (None, recipe):
            usual, _ = _usual(theirs, {**file, "network": {}})
            extra = file.get("network", {}).items()
            own = {n: v for n, v in extra if usual["network"].get(n, ...) != v}
            same = {n for n in of_recipes if n in file and usual[n] == file[n]}
            file = {n: v for n, v in file.items() if n not in same} | {"network": own}
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
        """Returns changed settings; those that lose their effect become defaults."""
        known, values = settings_of(type(self)), {**vars(self), **changes}
        unused = {n: each.default for n, each in known.items() if each.unmet(values)}
        made = type(self)(**{**{n: values[n] for n in known}, **unused, **changes})
        made.sources.update({n: s for n, s in self.sources.items() if n not in changes})
        return made

    def of_given_network(self) -> RunSettings:
        """Returns the settings for a network of the caller instead of a model.

        Settings for new networks are left out, as for the model `"init"`.
        """
        known, values = settings_of(type(self)), vars(self)
        decide = {name: values[name] for name in ("kernel", "optimizer")}
        usual, _ = _usual(self.recipe, decide)
        if self.sources["normalization"] in ("option", "file"):
            usual["normalization"] = known["normalization"].default
        chosen = {n: values[n] for n in known if values[n] != usual[n]}
        if chosen.pop("model", GIVEN) != GIVEN or self.init is not None:
            raise InvalidValue(
                f"The settings have model={self.model!r} and init={self.init!r}, but a "
                "network was given, too. Leave one of them out."
            )
        return type(self)(**{**chosen, "recipe": self.recipe, "model": GIVEN})


def _normalization_of(recipe: str) -> str | None:
    """Returns the normalization that a recipe selects, or None."""
    named = recipe if recipe in NORMALIZATIONS else None
    return _presets.REQUIRED_NORMALIZATION.get(recipe, named)


def _usual(
    recipe: str | None, chosen: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, str]]:
    """Returns usual values, given the chosen ones, and the source of each value."""
    known = settings_of(RunSettings)
    values = {name: each.default for name, each in known.items()}
    init, kernel = chosen.get("init"), chosen.get("kernel")
    if init is not None:
        values["model"] = MODEL_FROM_INIT
    model = chosen.get("model", values["model"])
    if model in TAKEN:
        values["normalization"] = None
    elif recipe is not None and (own := _normalization_of(recipe)):
        values["normalization"] = own
    normalization = chosen.get("normalization", values["normalization"])
    name = recipe
    if name is None:
        name = normalization if normalization in NORMALIZATIONS else "plain"
    preset = vars(RECIPES[check_choice("recipe", name, RECIPES)])
    layers = [(f"recipe {name}", preset)]
    if name in NORMALIZATIONS and kernel in _presets.KERNEL_OVERRIDES:
        layers.append((f"kernel {kernel}", _presets.KERNEL_OVERRIDES[kernel]))
    optimizer = chosen.get("optimizer")
    if optimizer in _presets.OPTIMIZER_OVERRIDES and kernel != "bernoulli_sign":
        changes = _presets.OPTIMIZER_OVERRIDES[optimizer]
        layers.append((f"optimizer {optimizer}", changes))
    sources = dict.fromkeys(values, "default")
    for source, layer in layers:
        changed = {n: v for n, v in layer.items() if v != values[n]}
        values |= changed
        sources |= dict.fromkeys(changed, source)
    arguments = _builder_options(model)
    values["network"] = {n: v for n, v in preset["network"].items() if n in arguments}
    values["recipe"] = name
    both = {**values, **chosen}
    # A setting that contradicts a chosen one, with a `why`, stays and raises an error.
    unmet = {name: known[name].unmet(both) for name in preset}
    out = {name for name, found in unmet.items() if found and not found[0].why}
    weighted = init is not None or model == GIVEN
    if not _can_calibrate(model, normalization) or weighted:
        out.add("calibrate")
    if model in TAKEN:
        out.add("kernel")  # the network has its own
    # Weights of init, or weights too large for one step to flip their signs.
    norm = NORMALIZATIONS.get(str(normalization))
    if weighted or model.startswith(_NORM_FIRST) or (norm and not norm.scaled):
        out.add("latent_scale")
    if weighted:
        out.add("latent_initializer")
    values |= {n: known[n].default for n in out}
    return values, sources | dict.fromkeys(out, "default")


def _can_calibrate(model: str, normalization: str | None) -> bool:
    """Returns whether there is something to initialize, without batch statistics."""
    if normalization == "nobn":
        return True
    return model.startswith(_SHIFTED) and normalization not in models.BATCH_STATISTICS


def _builder_options(model: str) -> list[str]:
    """Returns the arguments of a builder that the setting `network` may contain."""
    if model in TAKEN:
        return []
    return [n for n in signature(NETWORKS[model]).parameters if n not in _NO_OPTIONS]


def weights_file(init: str) -> Path:
    """Returns the file of a run folder or trained network; else the path itself."""
    path = Path(init)
    if path.is_dir():
        return path / "model.keras"
    return find_pretrained(init) or path
