"""The weights that a run starts from: those of `init`, or of a first stage."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from .._keras import keras
from ..models._weights import weights_by_name
from .folder import kept_settings, open_model
from .settings import RunSettings, weights_file

# Below the package's own, so that a program can show it alone.
_log = logging.getLogger("larq_nobn.start")
# As many names as a sentence can bear.
_NAMED = 6


def resolve_init(
    settings: RunSettings, output: Path, resume: bool, trust: bool = False
) -> RunSettings:
    """Returns the settings with the SHA-256 of `init`, if the run can start or resume.

    Arguments:
        settings: What was asked for.
        output: The run folder.
        resume: Whether an unfinished run may be there, which needs the weights of
            `init` no more; where their file is gone, it is as the run says that it was.
        trust: Whether code from the file of `init` may run.

    Raises:
        FileNotFoundError: If a run would start from a network that is not there.
        ValueError: If it holds back weights that nothing has been learned with.
    """
    if settings.init is None:
        if settings.backbone_multiplier != 1:
            raise ValueError(
                f"backbone_multiplier={settings.backbone_multiplier} holds back the "
                "weights of another network, but init is not given. Add --init "
                "RUN_OR_FILE (init=...), or train with backbone_multiplier=1."
            )
        return settings
    if settings.init_sha256 is not None:
        return settings
    found = kept_settings(output) if resume else None
    if found is not None and found.get("init") == settings.init:
        return replace(settings, init_sha256=found.get("init_sha256"))
    open_model(settings.init, trust=trust)  # has a sentence for what is not there
    return settings


def open_init(settings: RunSettings, trust: bool = False) -> keras.Model:
    """Opens the network of `init`; no code from its file is run.

    Arguments:
        settings: Those of a run with `init`.
        trust: Whether it may be, all the same.

    Raises:
        FileNotFoundError: If it is not there.
        ValueError: If it is no Keras model, is damaged, carries code, or is not the
            file that it was when the settings were made.
    """
    init = str(settings.init)
    model = open_model(init, trust=trust)
    found = hashlib.sha256(weights_file(init).read_bytes()).hexdigest()
    if settings.init_sha256 is not None and found != settings.init_sha256:
        raise ValueError(
            f"init={init!r} is not the file that the run started from: its SHA-256 is "
            f"{found}, and init_sha256={settings.init_sha256!r}. Restore the file, or "
            "start another run."
        )
    return model


class InitialWeights:
    """What a run takes from `init` before its first step, and never again.

    Checkpoints contain what was taken, so a resumed run opens no other network.

    Arguments:
        settings: Those of the run.
        applies: Whether the run starts from `init`, and not from a first stage.
        trust: Whether code from the file of `init` may run.
    """

    def __init__(
        self, settings: RunSettings, applies: bool = True, trust: bool = False
    ) -> None:
        self._settings = settings
        self._trust = trust
        self._applies = applies and settings.init is not None
        self._found: dict[str, Any] | None = None

    @property
    def stateful(self) -> dict[str, InitialWeights]:
        """What a checkpoint contains of it: nothing where nothing is taken."""
        return {"init": self} if self._applies else {}

    @property
    def record(self) -> dict[str, Any]:
        """What `run.json` says of it."""
        return {} if self._found is None else {"init": self._found}

    def apply(self, network: keras.Model) -> None:
        """Gives the network the weights that fit it, and says which."""
        if not self._applies:
            return
        found: Transfer = transfer(
            open_init(self._settings, self._trust), network, str(self._settings.init)
        )
        self._found = found.to_dict()
        _log.info("%s", found)

    def get_state(self) -> dict[str, Any] | None:
        """Returns what was taken, for a checkpoint."""
        return self._found

    def set_state(self, state: dict[str, Any] | None) -> None:
        """Takes over what a checkpoint says was taken."""
        self._found = state


@dataclass(frozen=True)
class Transfer:
    """What became of the weights of two networks, by their names.

    Arguments:
        source: Where the weights come from.
        taken: Weights of the new network that have those of the same name.
        fresh: Weights of the new network that start as without a source.
        left: Weights of the source that the new network has no place for.
    """

    source: str
    taken: list[str]
    fresh: list[str]
    left: list[str]

    def to_dict(self) -> dict[str, Any]:
        """Returns what `run.json` and checkpoints hold."""
        return asdict(self)

    def __str__(self) -> str:
        total = len(self.taken) + len(self.fresh)
        said = f"{self.source} gave {len(self.taken)} of {total} weights."
        if self.fresh:
            said += f" Fresh: {_listed(self.fresh)}."
        if self.left:
            said += f" Of its own not taken: {_listed(self.left)}."
        return said


def transfer(source: keras.Model, target: keras.Model, name: str) -> Transfer:
    """Gives a network the weights of another one that fit by name and shape.

    Layers are matched by their names, also in models inside the models, and weights by
    the last part of theirs. A layer of which a weight has another shape, as a
    classifier of other classes, starts fresh with all of its weights. Latent weights
    are taken, not their signs.

    Arguments:
        source: Whose weights are taken.
        target: Who gets them; keeps its own where nothing fits.
        name: What the report calls the source.

    Raises:
        ValueError: If not a single weight fits.
    """
    given, places = weights_by_name(source), weights_by_name(target)
    common = [key for key in places if key in given]
    other = {_layer(key) for key in common if given[key].shape != places[key].shape}
    fitting = [key for key in common if _layer(key) not in other]
    if not fitting:
        raise ValueError(
            f"No weight of init={name!r} fits the network {target.name} by name and "
            "shape. Give the model, width and blocks that it was trained with, or "
            "leave the model out to train the network of init itself."
        )
    for key in fitting:
        places[key].assign(given[key].numpy())
    taken = set(fitting)
    return Transfer(
        source=name,
        taken=fitting,
        fresh=[key for key in places if key not in taken],
        left=[key for key in given if key not in taken],
    )


def _layer(key: str) -> str:
    return key.rpartition("/")[0]


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:_NAMED])
    more = len(names) - _NAMED
    return f"{shown} and {more} more" if more > 0 else shown


def copy_weights(source: keras.Model, target: keras.Model) -> None:
    """Gives a network the weights of another one with the same layers.

    Weights belong together if their layers have the same name, and they too. What only
    the target has, such as the scale of a kernel quantizer, keeps its value.

    Raises:
        ValueError: If the target has no place for a weight of the source.
    """
    missing = []
    for layer in source.layers:
        places = _by_name(_layer_of(target, layer.name))
        for name, value in _by_name(layer).items():
            if name in places and places[name].shape == value.shape:
                places[name].assign(value.numpy())
            else:
                missing.append(f"{layer.name}/{name}")
    if missing:
        raise ValueError(
            f"The network {target.name} has no place for {', '.join(missing)}. Give "
            "both stages the same network, width and blocks."
        )


def _layer_of(model: keras.Model, name: str) -> keras.layers.Layer | None:
    return next((layer for layer in model.layers if layer.name == name), None)


def _by_name(layer: keras.layers.Layer | None) -> dict[str, Any]:
    """Latent weights under the last part of their names; files keep no more of them."""
    weights = [] if layer is None else layer.weights
    return {
        weight.name.rsplit("/", 1)[-1]: getattr(weight, "latent_variable", weight)
        for weight in weights
    }
