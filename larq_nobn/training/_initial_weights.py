"""The weights that a run starts from: those of `init`, or of a first stage."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from .._errors import InvalidValue
from .._files import sha256_of
from .._keras import keras
from ..graph import _operation
from ..loading import open_model
from ..models._weights import weights_by_name
from ._run_folder import kept_settings
from ._settings import RunSettings, weights_file

# Below the package's own, so that a program can show it alone.
_log = logging.getLogger("larq_nobn.start")
# As many names as a sentence can bear.
_NAMED = 6


def resolve_init(
    settings: RunSettings, output: Path, resume: bool, trust: bool = False
) -> RunSettings:
    """Returns the settings with the SHA-256 of `init`, if the run can start or resume.

    A run that is resumed needs the weights no more: where their file is gone, it is as
    `output` says that it was.
    """
    if settings.init is None:
        if settings.backbone_multiplier != 1:
            raise InvalidValue(
                f"backbone_multiplier={settings.backbone_multiplier} holds back the "
                "weights of another network, but init is not given. Add --init "
                "RUN_OR_FILE (init=...), or train with backbone_multiplier=1."
            )
        return settings
    if settings.init_sha256 is not None:
        return settings
    kept = kept_settings(output) if resume else None
    if kept is not None and kept.get("init") == settings.init:
        return replace(settings, init_sha256=kept.get("init_sha256"))
    open_model(settings.init, trust=trust)  # has a sentence for what is not there
    return settings


def open_init(settings: RunSettings, trust: bool = False) -> keras.Model:
    """Opens the network of `init`, if it is the file that it was for the settings."""
    init = str(settings.init)
    model = open_model(init, trust=trust)
    digest = sha256_of(weights_file(init))
    if settings.init_sha256 is not None and digest != settings.init_sha256:
        raise InvalidValue(
            f"init={init!r} is not the file that the run started from: its SHA-256 is "
            f"{digest}, and init_sha256={settings.init_sha256!r}. Restore the file, or "
            "start another run."
        )
    return model


def take_init(
    settings: RunSettings, network: keras.Model, trust: bool = False
) -> dict[str, Any]:
    """Gives a network the weights of `init` that fit it; says, and returns, which."""
    taken = transfer(open_init(settings, trust), network, str(settings.init))
    _log.info("%s", taken)
    return asdict(taken)


class Remembered:
    """A value that checkpoints contain, for a run that resumes."""

    def __init__(self) -> None:
        self.value: Any = None

    def get_state(self) -> Any:
        return self.value

    def set_state(self, state: Any) -> None:
        self.value = state


class TeacherWeights:
    """Which weights the teacher of a run has; a resumed run has the same."""

    def __init__(self, teacher: keras.Model, name: str) -> None:
        self._name = name
        digest = hashlib.sha256()
        for weight in teacher.get_weights():
            digest.update(f"{weight.dtype.str}{weight.shape}".encode())
            digest.update(weight.tobytes())
        self._digest = digest.hexdigest()

    def get_state(self) -> str:
        return self._digest

    def set_state(self, state: str) -> None:
        """Raises ValueError if a checkpoint was taught by others."""
        if state != self._digest:
            raise InvalidValue(
                f"The teacher {self._name} has other weights than at the start of the "
                "run. Restore its file, or start another run."
            )


@dataclass(frozen=True)
class Transfer:
    """Which weights of a network were given to another, by their names.

    Fresh ones start as without a source; for those that are left the new network has no
    place.
    """

    source: str
    taken: list[str]
    fresh: list[str]
    left: list[str]

    def __str__(self) -> str:
        total = len(self.taken) + len(self.fresh)
        said = f"{self.source} gave {len(self.taken)} of {total} weights."
        unused = [name for name in self.left if name not in self.fresh]
        for what, names in (("New", self.fresh), ("Not taken", unused)):
            if names:
                more = len(names) - _NAMED
                said += f" {what}: {', '.join(names[:_NAMED])}"
                said += f" and {more} more." if more > 0 else "."
        return said


def transfer(source: keras.Model, target: keras.Model, name: str) -> Transfer:
    """Gives a network the weights of another one that fit by name and shape.

    Layers are matched by their names, also in models inside the models, and weights by
    the last part of theirs. A layer of which a weight has another shape, as a
    classifier of other classes, starts fresh with all of its weights. Latent weights
    are taken, not their signs. If not a single one fits, that is an error.
    """
    given, places = weights_by_name(source), weights_by_name(target)
    common = [key for key in places if key in given]
    layers = {key: key.rpartition("/")[0] for key in common}
    other = {layers[key] for key in common if given[key].shape != places[key].shape}
    fitting = {key: None for key in common if layers[key] not in other}
    if not fitting:
        raise InvalidValue(
            f"No weight of init={name!r} fits the network {target.name} by name and "
            "shape. Give the model, width and blocks that it was trained with, or "
            "leave the model out to train the network of init itself."
        )
    for key in fitting:
        places[key].assign(given[key].numpy())
    _operation.finalize(target)
    return Transfer(
        source=name,
        taken=list(fitting),
        fresh=[key for key in places if key not in fitting],
        left=[key for key in given if key not in fitting],
    )


def copy_weights(source: keras.Model, target: keras.Model) -> None:
    """Gives a network the weights of another one with the same layers.

    What only the target has, such as the scale of a kernel quantizer, keeps its value.

    Raises:
        ValueError: If the target has no place for a weight of the source.
    """
    if missing := transfer(source, target, "stage1").left:
        raise InvalidValue(
            f"The network {target.name} has no place for {', '.join(missing)}. Give "
            "both stages the same network, width and blocks."
        )
