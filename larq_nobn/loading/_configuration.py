"""Checks the configuration in a model file before Keras reads the file.

Keras imports and calls what a configuration names, and runs bytecode in it; its safe
mode stops only some of this. Here every object of a configuration must be accepted,
however deeply it is nested.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import IO, Any

from .._errors import InvalidValue
from .._files import UNREADABLE, check_zip, reject_expansion
from .._messages import first_line
from . import _allowed

_OWN = ", or pass trust=True (--trust) for a file of your own"
# Class names with which Keras writes data that JSON lacks.
_DATA = {"__tuple__", "__ellipsis__", "__bytes__", "__tensor__", "__numpy__"}
_DATA |= {"TensorShape"}
_CODE = {"Lambda", "__lambda__"}
# Layers whose configuration names an operation: its key, and the allowed names.
_NAMED = {
    "TFOpLambda": ("function", _allowed.OPERATORS),
    "SlicingOpLambda": ("function", _allowed.OPERATORS),
    "InstanceProperty": ("attr_name", _allowed.PROPERTIES),
    "InstanceMethod": ("attr_name", _allowed.METHODS),
    "ClassMethod": ("method_name", _allowed.CLASS_METHODS),
}
# Arguments whose strings name classes and functions, except in users' own classes.
_NAMING = re.compile(
    r"(.*_)?(activation|initializer|regularizer|constraint|quantizer|optimizer|loss"
    r"|losses|metrics|fn)"
)


def check_model_file(file: Path, check: Callable[[Any], None] | None = None) -> None:
    """Raises ValueError unless a file of `SUFFIXES` may be opened untrusted.

    For a file of another Keras, `check` checks the configuration instead.
    """
    try:
        (check or partial(_check, layer=""))(_READERS[file.suffix](file))
    except Untrusted as error:
        raise InvalidValue(f"{file} {error}") from error
    except RecursionError as error:
        raise InvalidValue(
            f"{file} is nested too deeply to be a Keras model. Save it again, or train "
            "it again."
        ) from error
    except PermissionError:
        raise
    except UNREADABLE as error:
        raise InvalidValue(
            f"{file} is damaged or not a Keras model: {first_line(error)}. "
            "Save it again, or train it again."
        ) from error


def _of_archive(file: Path) -> object:
    with zipfile.ZipFile(file) as archive:
        check_zip(archive)
        with archive.open("model.weights.h5") as weights:
            _check_arrays(weights, file.stat().st_size)
        return json.loads(archive.read("config.json"))


def _of_hdf5(file: Path) -> object:
    import h5py

    with file.open("rb") as stream:
        _check_arrays(stream, file.stat().st_size)
        with h5py.File(stream, "r") as stored:
            if "model_config" not in stored.attrs:
                raise InvalidValue("it contains no model, at most weights")
            keys = ("model_config", "training_config")
            return [json.loads(stored.attrs[k]) for k in keys if k in stored.attrs]


def _check_arrays(stream: IO[bytes], size: int) -> None:
    """Raises ValueError for arrays in other files, or too large for the file's size."""
    import h5py

    declared = 0

    def is_elsewhere(name: str, item: Any) -> str | None:
        nonlocal declared
        if not isinstance(item, h5py.Dataset):
            return None
        declared += item.nbytes if item.shape is not None else 0
        return name if item.external or item.is_virtual else None

    def is_link(name: str, link: Any) -> str | None:
        return None if isinstance(link, h5py.HardLink) else name

    with h5py.File(stream, "r") as file:
        place = file.visititems_links(is_link) or file.visititems(is_elsewhere)
    if place is not None:
        raise InvalidValue(f"its data {place!r} is in another file")
    reject_expansion(declared, size)


_READERS = {".keras": _of_archive, ".h5": _of_hdf5}
SUFFIXES = frozenset(_READERS)


class Untrusted(InvalidValue):
    """A model file names an object that is not accepted."""

    def __init__(self, layer: str, what: str, remedy: str, own: str = _OWN) -> None:
        where = f", in layer {layer!r}" if layer else ""
        super().__init__(f"{what}{where}: {remedy}{own}.")


def _check(
    part: object, layer: str, own: bool = False, data: bool = False, naming: str = ""
) -> None:
    """Raises `Untrusted` if Keras would make a rejected object from a configuration.

    Arguments:
        part: A part of the configuration of a model, as parsed from JSON.
        layer: The layer that it belongs to, for the message.
        own: Whether it belongs to the arguments of a user's class.
        data: Whether it belongs to the inputs of a layer: tensors and constants, but no
            objects.
        naming: The argument whose strings Keras looks up as names; empty for none.
    """
    if isinstance(part, list):
        for entry in part:
            _check(entry, layer, own, data, naming)
    elif isinstance(part, dict):
        layer = name_of(part) or layer
        if part.get("function_type") == "lambda":
            raise code(layer)
        if "class_name" in part:
            _check_object(part, layer, data)
            own = _allowed.is_users(part.get("registered_name", part["class_name"]))
            naming = ""
        elif isinstance(part.get("module"), str):
            raise foreign(part, layer)
        for key, value in part.items():
            names = key if not own and _NAMING.fullmatch(key) else naming
            _check(value, layer, own, data or key == "inbound_nodes", names)
    elif part == "_COMPOSITE_TYPE":
        raise odd("contains a tensor with parts of its own", layer)
    elif naming and isinstance(part, str) and not _allowed.is_named(part):
        raise Untrusted(
            layer,
            f"has {naming}={part!r}, which is unknown",
            "use a name of Keras, Larq or larq_nobn, register your own with Keras "
            "(--import MODULE)",
        )


def name_of(part: dict[str, Any]) -> str:
    names = (_config(part).get("name"), part.get("name"))
    known = (name for name in names if isinstance(name, str) and "class_name" in part)
    return next(known, "")


def _config(part: dict[str, Any]) -> dict[str, Any]:
    inner = part.get("config")
    return inner if isinstance(inner, dict) else {}


def _check_object(part: dict[str, Any], layer: str, data: bool) -> None:
    name, other = part["class_name"], part.get("registered_name")
    if any(word in _CODE for word in (name, other) if isinstance(word, str)):
        raise code(layer)
    if not isinstance(name, str):
        raise odd(f"has {name!r} for the name of a class", layer)
    if name in _DATA:
        kind = _config(part).get("dtype", "int32")
        if not _allowed.is_dtype(kind):
            raise odd(f"contains data of the type {kind!r}", layer)
    elif data:
        raise odd("is called with an object from the file", layer)
    elif name == "function":
        _check_function(part, layer)
    else:
        _check_class(part, layer)


def _check_function(part: dict[str, Any], layer: str) -> None:
    """Raises unless a function has one accepted name, in Keras or in `builtins`."""
    name, other = part.get("config"), part.get("registered_name")
    module = part.get("module", "builtins")
    if not (isinstance(name, str) and isinstance(other, str)):
        raise odd(f"calls a function {name!r} and {other!r}", layer)
    if other not in (name, "function") and _allowed.registered(other) is None:
        raise odd(f"calls one function {name!r} and {other!r}", layer)
    if not _allowed.is_function(name):
        raise foreign(part, layer)
    known = _allowed.registered(name) is not None
    if not known and module != "builtins" and not _allowed.defines(module, name):
        raise foreign(part, layer)


def _check_class(part: dict[str, Any], layer: str) -> None:
    name, other = part["class_name"], part.get("registered_name")
    known = _allowed.registered(other)
    if isinstance(known, type):
        # Keras uses this class, except if it finds one by `class_name`.
        other_name = name != known.__name__ and not _allowed.is_class(name)
        if other_name or _allowed.runs_code(known):
            raise foreign(part, layer)
    elif other not in (None, name) or not _allowed.is_class(name):
        raise foreign(part, layer)
    elif _allowed.registered(name) is None or "registered_name" in part:
        module = part.get("module")
        if module is not None and not _allowed.defines(module, name):
            raise foreign(part, layer)
    if name in _NAMED:
        _check_operation(part, layer)
    vocabulary = _config(part).get("vocabulary")
    if isinstance(vocabulary, str):
        raise odd(f"reads its vocabulary from the file {vocabulary!r}", layer)


def _check_operation(part: dict[str, Any], layer: str) -> None:
    key, allowed = _NAMED[part["class_name"]]
    inner = _config(part)
    named = inner.get(key)
    ragged = inner.get("cls_symbol", "RaggedTensor") == "RaggedTensor"
    if not (isinstance(named, str) and named in allowed and ragged):
        symbol = inner.get("cls_symbol")
        raise Untrusted(
            layer,
            f"uses the operation {symbol or 'tf'}.{named}, which is not one of the "
            "tensor functions that are known to be harmless",
            "put it into a layer class that you register with Keras",
        )


def code(layer: str) -> Untrusted:
    return Untrusted(
        layer,
        "contains Python code (a Lambda), which is never run from a file",
        "replace it by a layer class and save the model again",
    )


def foreign(part: dict[str, Any], layer: str) -> Untrusted:
    name = part.get("config") if part.get("class_name") == "function" else None
    if not isinstance(name, str):
        name = part.get("registered_name") or part.get("class_name")
    module = part.get("module")
    # Classes of a script, and registered ones, have no module that can be imported.
    named = isinstance(module, str) and module not in ("__main__", "builtins")
    return Untrusted(
        layer,
        f"uses {name!r}{f' from the Python module {module!r}' if named else ''}, "
        "which is not trusted",
        "use layers and functions of Keras, Larq and larq_nobn, or name a module that "
        "registers your own by keras.utils.register_keras_serializable (--import "
        "MODULE)",
        own="",  # since Keras cannot find others, even with trust
    )


def odd(what: str, layer: str) -> Untrusted:
    return Untrusted(layer, f"{what}, which is not opened", "save the model without it")
