"""Reads the signs and pre-activations inside of a converted file.

LCE's interpreter shows outputs only. So the tensors that hold them are declared outputs
of the very same operations: bits where a file packs a feature map, and the numbers of
which it takes these. Which tensor belongs to which sign is told by the layer names that
the converter leaves in the names of tensors.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from math import prod
from typing import Any, NamedTuple

import numpy as np

from ..._keras import keras
from ...graph import _cuts, _graph, _kinds, _segments, _signs
from .._binary import is_above, is_zero_one
from .._errors import VerificationError
from ..lite._converter import Runner, with_outputs
from ..lite._file import FileOperation, Subgraph, Tensor, read

LOOK = (
    "Look for a layer whose output depends on more than its input, such as on a state "
    "or a random number."
)
_BITS = 32  # channels of a number
# The operations of files that functions become at which a network is cut.
_JUMPS = {
    "math.greater": "GREATER",
    "math.greater_equal": "GREATER_EQUAL",
    "math.less": "LESS",
    "math.less_equal": "LESS_EQUAL",
    "math.sign": "SIGN",
}


class _Seen(NamedTuple):
    """Where a file contains a sign: places among its outputs, and its channels."""

    call: _graph.Call
    places: list[int]
    input: int | None


class FileSigns:
    """Reads the values of a file at the signs of the model that it was made from.

    Arguments:
        prepared: The model.
        flatbuffer: The content of the file.
        shipped: Runs that file.
    """

    def __init__(self, prepared: keras.Model, flatbuffer: bytes, shipped: Runner):
        self._shipped, self._suspects = shipped, suspects(prepared, flatbuffer)
        graph = read(flatbuffer, "the file")[0]
        self._count = len(graph.outputs)
        shown = [tensor.index for tensor in graph.outputs]

        def place_of(tensor: Tensor) -> int:
            if tensor.index not in shown:
                shown.append(tensor.index)
            return shown.index(tensor.index)

        self._signs = []
        for call, ops, before in _packing(prepared, graph):
            places = [place_of(op.outputs[0]) for op in ops]
            given = None if before is None else place_of(before)
            self._signs.append(_Seen(call, places, given))
        self._jumps = [
            (call, place_of(tensor)) for call, tensor in _jumping(prepared, graph)
        ]
        added = shown[self._count :]
        self._runner = shipped
        if added:
            self._runner = Runner(with_outputs(flatbuffer, added), shipped.runtime)

    def __call__(self, examples: Sequence[np.ndarray]) -> _segments.Recording:
        """Returns what the file computes.

        Raises:
            VerificationError: If it computes something else than the shipped file.
        """
        arrays = self._runner.outputs(examples)
        if self._runner is not self._shipped:
            proper = self._shipped.outputs(examples)
            check_same(arrays[: self._count], proper, self._suspects)
        signs: dict[str, Any] = {}
        for call, places, _ in self._signs:
            channels = call.first_input.shape[-1]
            parts = [_unpacked(arrays[place], channels) for place in places]
            signs[call.label] = parts if len(parts) > 1 else parts[0]
        for call, place in self._jumps:
            sign = _cuts.Sign(call.label, _cuts.cut_at(call), arrays[place])
            signs[call.label] = sign.positive(sign.values)
        still = {
            seen.call.label: _segments.constant_signs(
                arrays[seen.input], signs[seen.call.label]
            )
            for seen in self._signs
            if seen.input is not None
        }
        return _segments.Recording(arrays[: self._count], signs, still=still)


def _input(ops: Sequence[FileOperation], graph: Subgraph) -> Tensor | None:
    """The numbers whose signs an operation packs, if they are not known anyway."""
    first = ops[0].inputs[0]
    if len(ops) > 1 or ops[0].op != "LceQuantize" or first is None:
        return None
    return None if first.constant or first in graph.inputs else first


def _packing(
    prepared: keras.Model, graph: Subgraph
) -> list[tuple[_graph.Call, list[FileOperation], Tensor | None]]:
    """Lists the signs of a model, the operations that may pack each, and their input.

    The input is known where the sign of these very numbers has given the operation its
    name.
    """
    # Those of 0 and 1, or -1 at 0, are made of a sign of something else.
    signs_of_calls = (
        (call, _signs.sign_of_call(call)) for call in _graph.calls(prepared)
    )
    signs = [
        call
        for call, sign in signs_of_calls
        if sign and not is_zero_one(sign) and not is_above(sign)
    ]
    layers = {layer.name for layer in prepared.layers}
    # TensorFlow counts the uses of a layer in the names of operations.
    scopes = {
        f"{prepared.name}/{call.name}{number}/": call.name
        for call in signs
        for number in ("", *(f"_{i}" for i in range(1, len(signs))))
        if not number or f"{call.name}{number}" not in layers
    }
    packing: dict[str, list[FileOperation]] = defaultdict(list)
    for op in (op for op in graph.operations if op.writes_bits):
        fitting = [s for s in scopes if op.outputs[0].name.startswith(s)]
        if fitting:
            packing[scopes[max(fitting, key=len)]].append(op)
    # A file has one of signs that are the same.
    made = {id(call.first_output): call for call in _graph.calls(prepared)}
    standing = {
        id(call.first_output): call
        for call in signs
        if getattr(call.layer, "input_quantizer", None) is None
    }
    same: dict[Any, list[FileOperation]] = defaultdict(list)
    for call in signs:
        same[_identity(call, standing)] += packing[call.name]
        pool = made.get(id(call.first_input))
        for op in packing[call.name]:
            if op.op == "LceBMaxPool2d" and pool is not None:
                # The sign of a maximum is the maximum of signs, which have its name.
                before = graph.before(op)
                whole = _identity(call._replace(reads=pool.reads), standing)
                same[whole] += [] if before is None else [before]
    rows = []
    for call in signs:
        ops = [op for op in same[_identity(call, standing)] if _fits(op, call)]
        if ops:
            ops = ops if call.label != call.name else ops[-1:]
            own = any(
                other.first_input is call.first_input
                for other in signs
                if ops[0] in packing[other.name]
            )
            rows.append((call, ops, _input(ops, graph) if own else None))
    return rows


def _jumping(
    prepared: keras.Model, graph: Subgraph
) -> list[tuple[_graph.Call, Tensor]]:
    """Functions that jump, and of which numbers of a file, if it has all of a kind."""
    jumps: list[tuple[_graph.Call, Tensor]] = []
    taken = [call for call in _graph.calls(prepared) if _cuts.cut_at(call)]
    for symbol, kind in _JUMPS.items():
        calls = [call for call in taken if _kinds.symbol_of(call.layer) == symbol]
        read = [op.inputs[0] for op in graph.operations if op.op == kind]
        if len(calls) == len(read):
            pairs = zip(calls, read, strict=True)
            jumps += [(call, x) for call, x in pairs if x is not None]
    return jumps


def _identity(call: _graph.Call, standing: Mapping[int, _graph.Call]) -> Any:
    """Returns a key that signs of the same numbers share, as does a sign of a sign.

    Arguments:
        call: Is or starts with a sign.
        standing: The signs that are layers, by the id of what they make.
    """
    shift = getattr(_signs.sign_of_call(call), "shift", None)
    inner = standing.get(id(call.first_input))
    if shift is None and inner is not None:
        return _identity(inner, standing)
    return id(call.first_input), None if shift is None else np.asarray(shift).tobytes()


def _fits(op: FileOperation, call: _graph.Call) -> bool:
    *positions, words = op.outputs[0].shape
    *wanted, channels = call.first_input.shape[1:]
    if None in wanted:
        return False
    return words == -(-channels // _BITS) and prod(positions[1:]) == prod(wanted)


def _unpacked(words: np.ndarray, channels: int) -> np.ndarray:
    """Where packed bits stand for +1."""
    if words.dtype != np.int32:
        return words > 0
    data = np.ascontiguousarray(words).astype("<i4").view(np.uint8)
    return np.unpackbits(data, axis=-1, bitorder="little")[..., :channels] == 0


def check_same(
    parts: Sequence[np.ndarray], proper: Sequence[np.ndarray], suspects: str
) -> None:
    """Checks that a file with its signs made visible has the outputs of the other."""
    for part, output in zip(parts, proper, strict=True):
        if not np.allclose(part, output, rtol=1e-5, atol=1e-6, equal_nan=True):
            raise VerificationError(
                "The converted file and the same file with its signs made visible "
                "compute different outputs, so the sign that differs from the "
                f"model is unknown. {suspects} No file was written."
            )


def suspects(prepared: keras.Model, flatbuffer: bytes) -> str:
    """Names what may compute differently from one file, or one run, to the next."""
    kinds = (keras.layers.RNN, keras.layers.Bidirectional)
    recurrent = [
        c.described for c in _graph.calls(prepared) if isinstance(c.layer, kinds)
    ]
    if recurrent:
        return (
            f"What stands in the way is the state of the recurrent layers: "
            f"{', '.join(recurrent)}. Build them with unroll=True."
        )
    return rounding_to_bytes(flatbuffer) or LOOK


def rounding_to_bytes(flatbuffer: bytes) -> str:
    """Advises on layers that a float file rounds to 8 bits; empty for none."""
    graph = read(flatbuffer, "the file")[0]
    layers = [graph.layer(op) for op in graph.operations if op.op == "QUANTIZE"]
    if not layers:
        return ""
    named = " and ".join(map(repr, dict.fromkeys(layers)))
    return (
        f"The fake quantization of layer {named} rounds otherwise in a file than in "
        "TensorFlow, at halves and in the last digits: quantize with "
        "lq.quantizers.DoReFa(8) instead, or not at all."
    )
