"""The pickles of a PyTorch checkpoint, looked through before PyTorch makes anything.

Reading the weights alone, PyTorch runs no code, but it makes, hashes and quotes what a
pickle says. A few bytes can say a lot, since whatever was made can be used again: a
tuple of twice the tuple before, sixty times. So the pickle is followed here with a
stand-in for every value, which knows how deep and how large it would be.
"""

from __future__ import annotations

import math
import pickletools
import re
from dataclasses import dataclass, field
from typing import IO, Any

# Containers in containers; the tensors of a checkpoint are within ten.
_DEEPEST = 100
# PyTorch takes ten seconds for so many; so many values are soon hashed, or quoted.
_OPERATIONS, _VALUES = 1 << 20, 1 << 24
# Letters that count as one value; and a seed, or the address of an object.
_SHORT, _BITS = 16, 64
_MAGIC = 0x1950A86A20F9469CFC6C  # which torch.save starts older files with
# What torch.save calls; and by what those arguments are made that are more than a
# number, a text or a container of these.
_DICTIONARY = "collections OrderedDict"
_CALLED: dict[str, dict[int, str]] = {
    _DICTIONARY: {0: "EMPTY_LIST"},  # of pairs, as Python 2 writes it
    "collections Counter": {},
    "builtins set": {},
    "__builtin__ set": {},
    "builtins complex": {},
    "__builtin__ complex": {},
    "torch Size": {},
    "torch device": {},
    "torch.serialization _get_layout": {},
    "torch._tensor _rebuild_from_type_v2": {2: "TUPLE", 3: ""},
    "torch._utils _rebuild_meta_tensor_no_storage": {},
    "torch._utils _rebuild_parameter": {0: "call of torch._"},
    "torch._utils _rebuild_parameter_with_state": {0: "call of torch._", 3: ""},
    "torch._utils _rebuild_qtensor": {0: "BINPERSID"},
    "torch._utils _rebuild_sparse_tensor": {0: "call of torch.s", 1: "TUPLE"},
    "torch._utils _rebuild_tensor": {0: "BINPERSID"},
    "torch._utils _rebuild_tensor_v2": {0: "BINPERSID"},
    "torch._utils _rebuild_tensor_v3": {0: "BINPERSID"},
}
_TYPES = re.compile(
    r"torch(\.cuda|\.storage)? \w+Storage|torch Tensor|torch\.nn\.parameter Parameter"
)
_NAME = re.compile(r"[\w.]{1,200} [\w.]{1,200}")
_SIMPLE = {"NONE", "NEWTRUE", "NEWFALSE", "BINFLOAT", "EMPTY_TUPLE"}
_NUMBERS = {"BININT", "BININT1", "BININT2", "LONG1"}
_CONTAINERS = {"EMPTY_LIST", "EMPTY_DICT", "EMPTY_SET"}
# How many values an operation takes from the stack; 0 for all since the mark.
_TAKEN = {"TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3, "APPENDS": 0, "APPEND": 1}
_TAKEN |= {"SETITEMS": 0, "SETITEM": 2, "BUILD": 1, "BINPERSID": 1, "REDUCE": 1}


class Foreign(ValueError):
    """A pickle names what is not part of tensors; the name is what it says."""


class Odd(ValueError):
    """A pickle contains what `torch.save` writes for no weights; says what."""


@dataclass(slots=True)
class _Value:
    """What would be made: by what, how large and deep, and of which others."""

    kind: str
    size: int = 1
    number: int = 1  # that it is
    depth: int = 0
    inside: list[_Value] = field(default_factory=list)
    used: bool = False

    def put(self, values: list[_Value]) -> None:
        """Adds values. What is in something else already, or in itself, cannot grow."""
        for value in values:
            value.used = True
            self.size += value.size
            self.depth = max(self.depth, value.depth + 1)
        self.inside += values
        if self.used:
            raise Odd("changes what is in use")
        if self.depth > _DEEPEST:
            raise Odd(f"is nested more than {_DEEPEST} deep")
        if self.size > _VALUES:
            raise Odd(f"would become more than {_VALUES:,} values")


def check_pickle(stream: IO[bytes]) -> None:
    """Raises `Foreign` or `Odd` unless a pickle is one of tensors; reads to its end.

    Arguments:
        stream: Where the pickle starts.
    """
    stack: list[_Value] = []
    below: list[list[_Value]] = []
    memo: dict[int, _Value] = {}
    simple, calls = _Value("simple"), _Value("calls")
    said: Any  # of the type that its operation has
    for number, (operation, said, _) in enumerate(pickletools.genops(stream)):
        name = operation.name
        if number > _OPERATIONS:
            raise Odd(f"has more than {_OPERATIONS:,} operations")
        if name in _SIMPLE:
            stack.append(simple)
        elif name in _NUMBERS:
            if said.bit_length() > _BITS and said != _MAGIC:
                raise Odd(f"has a whole number of more than {_BITS} bits")
            stack.append(_Value("number", number=said))
        elif name in ("BINUNICODE", "SHORT_BINSTRING"):
            stack.append(_Value(name, len(said)) if len(said) > _SHORT else simple)
        elif name in _CONTAINERS:
            stack.append(_Value(name))
        elif name == "GLOBAL":
            stack.append(_Value(_checked_name(said)))
        elif name in ("BINPUT", "LONG_BINPUT"):
            memo[said] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[said])
        elif name == "MARK":
            below.append(stack)
            stack = []
        elif name in _TAKEN:
            count = _TAKEN[name]
            values, stack = (stack[-count:], stack) if count else (stack, below.pop())
            del stack[len(stack) - count :]
            _follow(name, stack, values)
            if name in ("REDUCE", "BINPERSID"):  # which may look at all of them
                calls.put(values)
                calls.inside.clear()
        elif name not in ("PROTO", "STOP"):
            raise Odd(f"was pickled in another way than PyTorch's own, with {name}")


def _checked_name(said: str) -> str:
    if not _NAME.fullmatch(said):
        raise Odd("has a name that is none")
    import torch

    module, _, name = said.partition(" ")
    found = getattr(torch, name, None) if module == "torch" else None
    number_type = isinstance(found, torch.dtype | torch.qscheme)
    if not (number_type or said in _CALLED or _TYPES.fullmatch(said)):
        raise Foreign(re.sub(r"^(__builtin__|builtins)\.", "", f"{module}.{name}"))
    return said


def _follow(name: str, stack: list[_Value], values: list[_Value]) -> None:
    """What an operation makes of the values that it takes, and of the one before."""
    if name == "REDUCE":
        function, arguments = stack.pop().kind, values[0].inside
        _check_call(function, arguments)
        name = f"call of {function}"
    elif name == "BINPERSID":
        _check_keys(values[0].inside)  # PyTorch looks up one of them
    elif name.startswith("SETITEM"):
        _check_keys(values[::2])
    elif name == "BUILD":
        kinds = stack[-1].kind, values[0].kind
        if kinds != (f"call of {_DICTIONARY}", "EMPTY_DICT"):
            raise Odd("sets the state of what is not a dictionary")
    if name not in _TAKEN or name.startswith(("TUPLE", "BINPERSID")):
        stack.append(_Value(name))
    stack[-1].put(values)


def _check_call(function: str, arguments: list[_Value]) -> None:
    if function not in _CALLED:
        raise Odd("calls what makes no tensor")
    for place, given in enumerate(arguments):
        kind = _CALLED[function].get(place)
        if given.depth > 1 and (kind is None or not given.kind.startswith(kind)):
            raise Odd(f"calls {function.split()[1]} with other arguments")
    if function == _DICTIONARY:
        pairs = [pair for given in arguments for pair in given.inside]
        if any(pair.kind not in ("EMPTY_LIST", "TUPLE2") for pair in pairs):
            raise Odd("makes a dictionary of what are not pairs")
        _check_keys([pair.inside[0] for pair in pairs])
    if function == "torch._utils _rebuild_sparse_tensor" and any(
        part.kind.startswith("call of torch._") and _repeats(part)
        for part in arguments[1].inside
    ):
        raise Odd("makes a sparse tensor of repeated values")
    if function == "torch._tensor _rebuild_from_type_v2":  # calls the first of them
        _check_call(arguments[0].kind, arguments[2].inside)


def _repeats(tensor: _Value) -> bool:
    """Whether a tensor has more values than its storage."""
    storage, _, shape, *_ = tensor.inside[0].inside
    stored = storage.inside[0].inside[4].number
    return math.prod(size.number for size in shape.inside) > stored


def _check_keys(values: list[_Value]) -> None:
    """Keys are hashed, with all that is in them, and compared."""
    if any(value.depth for value in values):
        raise Odd("has a key that is neither text nor number")
