"""Checks files of Keras 3 by the same rules before Keras 3 opens them."""

from __future__ import annotations

import json
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from .._keras import keras_3
from ._allowed import RUNNING_CODE, names_of
from ._configuration import code, foreign, name_of, odd

_RUNNING = RUNNING_CODE | names_of(
    "TFSMLayer TorchModuleWrapper JaxLayer FlaxLayer __lambda__"
)
# Class names with which Keras 3 writes data that JSON lacks.
_DATA = names_of(
    """
    __tuple__ __ellipsis__ __bytes__ __tensor__ __numpy__ slice __keras_tensor__
    __complex__ __typespec__
    """
)


def is_of_keras_3(file: Path) -> bool:
    """Whether Keras 3 wrote a file, according to the file."""
    said = None
    with suppress(OSError, ValueError, zipfile.BadZipFile):
        if file.suffix == ".keras":
            with zipfile.ZipFile(file) as archive:
                if "metadata.json" in archive.namelist():
                    said = json.loads(archive.read("metadata.json"))
        else:
            import h5py

            with h5py.File(file, "r") as stored:
                said = dict(stored.attrs)
    version = said.get("keras_version") if isinstance(said, dict) else None
    return str(version).startswith("3")


def check_keras_3(part: Any, layer: str = "") -> None:
    """Raises `Untrusted` if a configuration names anything that is not accepted.

    Accepted are layers and other parts of Keras 3 that run no code of a file, its
    functions, and everything that was registered with Keras 3 in this process.
    """
    if isinstance(part, list):
        for entry in part:
            check_keras_3(entry, layer)
    if not isinstance(part, dict):
        return
    layer = name_of(part) or layer
    if "class_name" in part:
        name = part["class_name"]
        if name in _RUNNING or part.get("registered_name") in _RUNNING:
            raise code(layer)
        if name not in _DATA and not _is_known(part):
            raise foreign(part, layer)
        inner = part.get("config")
        if isinstance(inner, dict) and isinstance(inner.get("vocabulary"), str):
            raise odd(f"reads its vocabulary from {inner['vocabulary']!r}", layer)
    elif isinstance(part.get("module"), str):
        raise foreign(part, layer)
    for value in part.values():
        check_keras_3(value, layer)


def _is_known(part: dict[str, Any]) -> bool:
    """Whether Keras 3 finds an accepted class or function for a part of a file."""
    library = keras_3()
    name, other, module = (
        part.get(key) for key in ("class_name", "registered_name", "module")
    )
    if name == "function":
        name = part.get("config")
        known = library.saving.get_registered_object(str(name))
        places = (library.activations, library.losses, library.metrics, library.ops)
        spaces = (*places, library.initializers, library.regularizers)
        found = (getattr(space, str(name), None) for space in spaces)
        return known is not None or (module == "builtins" and any(map(callable, found)))
    known = library.saving.get_registered_object(str(other or name))
    if module is None and known is None:  # as in .h5 files
        homes = library.layers, library.models, library.src.models.functional
        known = next(
            (x for home in homes if (x := getattr(home, str(name), None))), None
        )
    if known is None and isinstance(module, str) and module.split(".")[0] == "keras":
        known = _of_keras(module, str(name))
    bases = (
        *(library.Operation, library.losses.Loss, library.optimizers.Optimizer),
        *(library.initializers.Initializer, library.regularizers.Regularizer),
        *(library.constraints.Constraint, library.metrics.Metric),
        *(library.dtype_policies.DTypePolicy, library.random.SeedGenerator),
        library.optimizers.schedules.LearningRateSchedule,
        library.dtype_policies.DTypePolicyMap,
    )
    fits = isinstance(known, type) and issubclass(known, bases)
    return fits and not any(base.__name__ in _RUNNING for base in known.__mro__)


def _of_keras(module: str, name: str) -> Any:
    """Returns what Keras 3 itself exports or defines under a name, or None."""
    place: Any = keras_3()
    for part in module.split(".")[1:]:
        place = getattr(place, part, None)
    known = getattr(place, name, None)
    return known if getattr(known, "__module__", "").startswith("keras.src.") else None
