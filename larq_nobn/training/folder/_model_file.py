"""Files of models: what is in them is looked through before Keras reads them.

Keras imports what a configuration names, calls it, and runs bytecode that lies in it;
its safe mode stops only some of this. Here every object of a configuration has to be on
a list, whatever it is nested in.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterator, Sized
from pathlib import Path
from typing import Any

from ..._archive_limits import check_hdf5, check_zip
from ..._errors import InvalidValue
from ..._files import check_permission, opened
from ..._messages import first_line
from ..._tables import printable
from . import _allowed

_OWN = "or pass trust=True (--trust) for a file of your own"
# How Keras writes data that JSON has no word for.
_DATA = {"__tuple__", "__ellipsis__", "__bytes__", "__tensor__", "__numpy__"}
_DATA |= {"TensorShape"}
_CODE = {"Lambda", "__lambda__"}
# Layers whose operation their configuration names: under which key, and what may be.
_NAMED = {
    **dict.fromkeys(
        ("TFOpLambda", "SlicingOpLambda"), ("function", _allowed.OPERATORS)
    ),
    "InstanceProperty": ("attr_name", _allowed.PROPERTIES),
    "InstanceMethod": ("attr_name", _allowed.METHODS),
    "ClassMethod": ("method_name", _allowed.CLASS_METHODS),
}
# Arguments whose strings are names of classes and functions, unless a user says else.
_NAMING = re.compile(
    r"(.*_)?(activation|initializer|regularizer|constraint|quantizer|optimizer|loss"
    r"|losses|metrics|fn)"
)

# Arguments that Keras makes so many tensors or numbers of, which are no weights, or by
# which images grow; and which numbers say so where they are lists.
_COUNTS = {
    **dict.fromkeys(("num_thresholds", "num", "repeats", "size"), slice(None)),
    **dict.fromkeys(("kernel_size", "strides", "dilation_rate"), slice(None)),
    **dict.fromkeys(("pool_size", "padding", "output_padding"), slice(None)),
    **dict.fromkeys(("cropping", "pad_values"), slice(None)),
    **dict.fromkeys(("batch_shape", "batch_input_shape", "batch_size"), slice(1)),
    "num_or_size_splits": slice(0),
}
_MOST = 1 << 16
# Arguments that are numbers, or lists of them; of some Keras asks only when it runs.
_NUMBERS = {"scale", "offset", "epsilon", "momentum", "alpha", "rate", "stddev"}
_NUMBERS |= {"max_value", "negative_slope", "threshold", "theta"}
# How long a list may be; Keras takes minutes for more.
_LENGTHS = {"layers": 10_000, "inbound_nodes": 1000}
_LENGTHS |= {"input_layers": 1000, "output_layers": 1000}


def check_model_file(file: Path) -> int:
    """Raises ValueError unless a file may be opened without being trusted.

    Arguments:
        file: A file whose name ends in one of `SUFFIXES`.

    Returns:
        The bytes that the weights in the file take in memory.
    """
    check_permission(file)
    try:
        config, stored = _READERS[file.suffix](file)
        _check(config, "")
        return stored
    except Untrusted as error:
        raise InvalidValue(f"{file} {error}") from error
    except RecursionError as error:
        raise InvalidValue(
            f"{file} is nested too deeply to be a Keras model. Save it again, or train "
            "again."
        ) from error
    except Exception as error:  # whatever readers of archives say to other bytes
        raise InvalidValue(
            f"{file} is damaged or not a Keras model: {first_line(error)}. "
            "Save it again, or train it again."
        ) from error


def _of_archive(file: Path) -> tuple[object, int]:
    with zipfile.ZipFile(file) as archive:
        check_zip(archive, json=("config.json", "metadata.json"))
        with archive.open("model.weights.h5") as weights:
            size = archive.getinfo("model.weights.h5").compress_size
            in_memory = check_hdf5(weights, size)
        return json.loads(archive.read("config.json")), in_memory


def _of_hdf5(file: Path) -> tuple[object, int]:
    import h5py

    with opened(file) as stream:
        in_memory = check_hdf5(stream, file.stat().st_size)
    with h5py.File(file, "r") as stored:
        if "model_config" not in stored.attrs:
            raise InvalidValue("it contains weights at most, and no model")
        kept = ("model_config", "training_config")
        found = [json.loads(stored.attrs[key]) for key in kept if key in stored.attrs]
        return found, in_memory


_READERS = {".keras": _of_archive, ".h5": _of_hdf5}
SUFFIXES = frozenset(_READERS)


class Untrusted(InvalidValue):
    """A model file names what is not on the list."""

    def __init__(self, layer: str, what: str, remedy: str) -> None:
        where = f", in layer {layer!r}" if layer else ""
        super().__init__(f"{what}{where}: {remedy}, {_OWN}.")


def _check(part: object, layer: str, own: bool = False) -> None:
    """Raises `Untrusted` unless nothing but listed objects would be made of a part.

    Arguments:
        part: Of what a model file says of the model, as parsed from JSON.
        layer: Which it is of, for the message.
        own: Whether it is among the arguments of a user's class.
    """
    if isinstance(part, list):
        for each in part:
            _check(each, layer, own)
    elif isinstance(part, dict):
        layer = _name_of(part) or layer
        if printable(layer) != layer or set(layer) & {"\n", "\t"}:
            raise _odd(f"has the name {short(layer)} with codes of a terminal", "")
        if part.get("function_type") == "lambda":
            raise _code("a Lambda", layer)
        if "class_name" in part:
            _check_object(part, layer)
            own = _allowed.is_users(part.get("registered_name", part["class_name"]))
        elif isinstance(part.get("module"), str):
            raise _foreign(part, layer)
        for key, value in part.items():
            if not own and _NAMING.fullmatch(key):
                _check_names(key, value, layer)
            if key == "inbound_nodes":
                _check_data(value, layer)
            if key in _COUNTS:
                _check_count(key, value, layer)
            if key in _LENGTHS and isinstance(value, list | dict):
                _check_length(key, value, layer)
            wrong = key == "pad_values" and not _is_number(value)
            if not own and (wrong or (key in _NUMBERS and _has_text(value))):
                raise _odd(f"has {key}={short(value)}, which is not a number", layer)
            _check(value, layer, own)
    elif part == "_COMPOSITE_TYPE":
        raise _odd("contains a tensor with parts of its own", layer)


def _name_of(part: dict[str, Any]) -> str:
    inner = part.get("config")
    named = [inner, part] if isinstance(inner, dict) else [part]
    found = (each.get("name") for each in named if "class_name" in part)
    return next((name for name in found if isinstance(name, str)), "")


def _check_object(part: dict[str, Any], layer: str) -> None:
    name, other = part["class_name"], part.get("registered_name")
    if any(each in _CODE for each in (name, other) if isinstance(each, str)):
        raise _code("a Lambda", layer)
    if not isinstance(name, str):
        raise _odd(f"has {name!r} for the name of a class", layer)
    if name in _DATA:
        _check_number_type(part, layer)
    elif name == "function":
        _check_function(part, layer)
    else:
        _check_class(part, layer)


def _check_number_type(part: dict[str, Any], layer: str) -> None:
    inner = part.get("config")
    if isinstance(inner, dict) and not _allowed.is_dtype(inner.get("dtype", "int32")):
        raise _odd(f"contains data of the type {inner['dtype']!r}", layer)


def _check_function(part: dict[str, Any], layer: str) -> None:
    """A function goes by one short name, and Keras says of all: `builtins`."""
    name, other = part.get("config"), part.get("registered_name")
    module = part.get("module", "builtins")
    if not (isinstance(name, str) and isinstance(other, str)):
        raise _odd(f"calls a function {name!r} and {other!r}", layer)
    if other not in (name, "function") and _allowed.registered(other) is None:
        raise _odd(f"calls one function {name!r} and {other!r}", layer)
    if not _allowed.is_function(name):
        raise _foreign(part, layer)
    known = _allowed.registered(name) is not None
    if not known and module != "builtins" and not _defines(module, name):
        raise _foreign(part, layer)


def _check_class(part: dict[str, Any], layer: str) -> None:
    name, other = part["class_name"], part.get("registered_name")
    found = _allowed.registered(other)
    if isinstance(found, type):
        # Keras takes this one, except where it goes by the name of the class.
        if name != found.__name__ and not _allowed.is_class(name):
            raise _foreign(part, layer)
    elif other not in (None, name) or not _allowed.is_class(name):
        raise _foreign(part, layer)
    elif _allowed.registered(name) is None or "registered_name" in part:
        module = part.get("module")
        if module is not None and not _defines(module, name):
            raise _foreign(part, layer)
    if name in _NAMED:
        _check_operation(part, layer)
    inner = part.get("config")
    if isinstance(inner, dict) and isinstance(inner.get("vocabulary"), str):
        raise _odd(f"reads its vocabulary from the file {inner['vocabulary']!r}", layer)


def _defines(module: object, name: str) -> bool:
    return isinstance(module, str) and _allowed.defines(module, name)


def _check_operation(part: dict[str, Any], layer: str) -> None:
    key, allowed = _NAMED[part["class_name"]]
    inner = part.get("config")
    inner = inner if isinstance(inner, dict) else {}
    named = inner.get(key)
    ragged = inner.get("cls_symbol", "RaggedTensor") == "RaggedTensor"
    if not (isinstance(named, str) and named in allowed and ragged):
        symbol = inner.get("cls_symbol")
        raise Untrusted(
            layer,
            f"wants the operation {symbol or 'tf'}.{named}, which is not one of the "
            "tensor functions that are known to be harmless",
            "put it into a layer class that you register with Keras",
        )


def _check_names(key: str, value: object, layer: str) -> None:
    """Strings that Keras looks up, in whatever lists and dictionaries they are."""
    if isinstance(value, list):
        for each in value:
            _check_names(key, each, layer)
    elif isinstance(value, dict) and "class_name" not in value:
        for each in value.values():
            _check_names(key, each, layer)
    elif isinstance(value, str) and not _allowed.is_named(value):
        raise Untrusted(
            layer,
            f"has {key}={value!r}, which is not known",
            "use a name of Keras, Larq or larq_nobn, register your own with Keras",
        )


def _check_count(key: str, value: object, layer: str) -> None:
    numbers = value[_COUNTS[key]] if isinstance(value, list) else [value]
    for each in numbers:
        if isinstance(each, list):  # above and below, to the left and to the right
            _check_count(key, each, layer)
        elif isinstance(each, int | float) and not abs(each) <= _MOST:
            raise _odd(f"has {key}={short(value)}, more than {_MOST:,}", layer)


def _check_length(key: str, value: Sized, layer: str) -> None:
    if len(value) > _LENGTHS[key]:
        raise _odd(f"has {len(value):,} {key}, more than {_LENGTHS[key]:,}", layer)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _has_text(value: object) -> bool:
    inside = value if isinstance(value, list) else []
    return isinstance(value, str) or any(map(_has_text, inside))


def short(value: object) -> str:
    """A value of a file as a message shows it."""
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:40]}..."


def _check_data(part: object, layer: str) -> None:
    """What a layer is called with: tensors and constants, and no objects."""
    for each in _dictionaries(part):
        if "class_name" in each and each["class_name"] not in _DATA:
            raise _odd("is called with an object from the file", layer)
    for call in part if isinstance(part, list) else []:
        if call and not any(_tensors(call)):  # computed at once, whatever its size
            raise _odd("is called with constants only", layer)


def _tensors(call: object) -> Iterator[bool]:
    """One for each tensor of another layer that a call is given."""
    if isinstance(call, dict):
        call = list(call.values())
    if isinstance(call, list):
        if len(call) in (3, 4) and isinstance(call[0], str):
            if call[0] != "_CONSTANT_VALUE":
                yield True
            call = call[3:]
        for each in call:
            yield from _tensors(each)


def _dictionaries(part: object) -> Iterator[dict[str, Any]]:
    if isinstance(part, dict):
        yield part
        part = list(part.values())
    if isinstance(part, list):
        for each in part:
            yield from _dictionaries(each)


def _code(what: str, layer: str) -> Untrusted:
    return Untrusted(
        layer,
        f"carries Python code ({what}), which is never run from a file",
        "replace it by a layer class and save the model again",
    )


def _foreign(part: dict[str, Any], layer: str) -> Untrusted:
    wanted = part.get("config") if part.get("class_name") == "function" else None
    if not isinstance(wanted, str):
        wanted = part.get("registered_name") or part.get("class_name")
    return Untrusted(
        layer,
        f"wants {wanted!r} from the Python module {part.get('module')!r}, which is not "
        "trusted",
        "use layers and functions of Keras, Larq and larq_nobn, register your own with "
        "Keras first",
    )


def _odd(what: str, layer: str) -> Untrusted:
    return Untrusted(layer, f"{what}, which is not opened", "save the model without it")
