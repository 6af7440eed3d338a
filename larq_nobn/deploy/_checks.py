"""What cannot be converted, or would be converted wrongly: before and after LCE."""

from __future__ import annotations

from collections.abc import Container, Sequence

import numpy as np
import tensorflow as tf
from tensorflow.lite.python.schema_py_generated import BuiltinOperator

from .._keras import keras
from ..graph import _graph, _models, _operation, _signs
from . import _float_fallback
from ._binary import binary_parts
from ._errors import ConversionError, UnreadableError, conversion_errors
from .lite._file import Subgraph
from .lite._lce_faults import has_lost_bias, overwritten
from .lite._trace import layer_name
from .operations import Int8Trace, LoweredTrace

_layers = keras.layers
_GELU = (
    " GELU has a form without it: lambda x: tf.nn.gelu(x, approximate=True) as the "
    "activation, which differs by less than 0.001."
)


# --- a model whose layers can be read


def check_model(model: keras.Model) -> list[str]:
    """Returns the layers that should be binary in a file, one for each part of it.

    Raises:
        ConversionError: If LCE would compute a layer wrongly, or one is called with
            `training=True`.
        UnreadableError: If a layer contains a binary one.
    """
    with conversion_errors():
        _models.check_inference(model)
    names: list[str] = []
    for call in _graph.calls(model):
        _check_layer(call.layer, call.label)
        if _signs.is_binary_convolution(call):
            _check_convolution(call)
        parts = binary_parts(call)
        if not parts:
            _check_inside(call)
        names += [call.name] * len(parts)
    return names


def check_float(
    model: keras.Model,
    named: Sequence[str],
    form: LoweredTrace | Int8Trace,
    allow_float: bool,
) -> tuple[list[str], list[_float_fallback.FloatFallback]]:
    """Returns what is binary in a file of a model, and what is float on request.

    Arguments:
        model: A functional model.
        named: The layers that should be binary.
        form: Its operations, a `LoweredTrace` or an `Int8Trace`.
        allow_float: Whether others may be float.

    Raises:
        ConversionError: If nothing is binary, or something else is float; it names all
            such layers and the remedies.
    """
    # Of a layer inside a wrapper, the trace has its own name.
    calls = {call.layer.name: call for call in _graph.calls(model)}
    layers = {name: call.layer for name, call in calls.items()}
    found = [_layer_of(kernel, layers) for kernel in form.binary]
    known = [calls[name].name if name in calls else name for name in found]
    in_float = [x for x in _float_fallback.float_layers(model) if x.layer not in known]
    # Of a layer that reads signs which no other shows.
    seen = [*named, *known, *found, *(layer.layer for layer in in_float)]
    in_float += _float_fallback.float_in_trace(form.trace, seen, layers)
    # The layer is float in all its uses.
    names = {layer.layer for layer in in_float}
    binary = [name for name in named if name not in names]
    binary += [name for name in known if name not in named]
    if not allow_float:
        lacking = f"binary layer: {_float_fallback.why_none_is_binary(model)}"
        _check_binary(model, binary, in_float, lacking)
    return binary, in_float


def _layer_of(kernel: str, layers: Container[str]) -> str:
    """The layer of which a kernel is, or of which it is a part."""
    name = layer_name(kernel)
    return name if name in layers else name.rpartition("/")[0]


def _check_binary(
    model: keras.Model,
    binary: Sequence[str],
    in_float: Sequence[_float_fallback.FloatFallback],
    lacking: str,
) -> None:
    """Rejects layers that would be float, naming each, its cost and its remedy."""
    if in_float:
        many = "1 layer" if len(in_float) == 1 else f"{len(in_float)} layers"
        raise ConversionError(
            f"Model {model.name!r} has {many} of few bits without a binary kernel in "
            f"LCE. {' '.join(map(str, in_float))} Or pass allow_float=True "
            "(--allow-float), which converts what is named here in float."
        )
    if not binary:
        raise ConversionError(
            f"Model {model.name!r} has no {lacking}. A QuantConv2D is binary with an "
            "input_quantizer and a kernel_quantizer such as 'ste_sign'; "
            "allow_float=True (--allow-float) converts a model without any."
        )


def _check_layer(layer: keras.layers.Layer, label: str) -> None:
    """Rejects tables, weights that are no numbers, and layers that keep a state."""
    for inner in layer._flatten_layers():
        if getattr(inner, "lookup_table", None) is not None:
            raise ConversionError(
                f"Layer {inner.name!r} ({type(inner).__name__}) contains a table, "
                "which a file cannot. Look up the ids before the model, and make them "
                "its input."
            )
    for weight in layer.weights:
        if not weight.dtype.is_floating:
            continue
        values = np.asarray(tf.cast(weight, tf.float32))
        wrong = "NaN" if np.isnan(values).any() else ""
        of_kernel = "kernel" in weight.name or "gain" in weight.name
        if of_kernel and np.isinf(values).any():  # thresholds may be so
            wrong = wrong or "infinity"
        if wrong:
            raise ConversionError(
                f"Weight {weight.name!r} of layer {label!r} contains {wrong}: training "
                "diverged. Convert an earlier state of the model."
            )
    for inner in layer._flatten_layers():
        if getattr(inner, "stateful", False) and isinstance(inner, _layers.RNN):
            raise ConversionError(
                f"The recurrent layer {inner.name!r} ({type(inner).__name__}) has "
                "stateful=True: it resumes where the previous call ended, while a "
                "file starts over in every run. Build it with stateful=False, and show "
                "it whole sequences."
            )


def _check_convolution(call: _graph.Call) -> None:
    """Rejects what LCE would make a binary convolution of, but not a right one."""
    layer = call.layer
    if layer.data_format != "channels_last":
        raise ConversionError(
            f"Layer {call.label!r} has data_format={layer.data_format!r}, but LCE "
            "knows 'channels_last' only. Build the model with that."
        )


def _check_inside(call: _graph.Call) -> None:
    """Rejects layers of few bits inside another, whose call says nothing of them."""
    outer = call.layer
    inside = list(outer._flatten_layers(include_self=False))
    quantizers = _operation.KERNELS.values()
    kernels = [getattr(layer, name, None) for layer in inside for name in quantizers]
    signs = [x for x in map(_signs.sign_of_layer, inside) if x is not None]
    signed = _signs.has_sign_input(call) or not all(
        any(sign is kernel for kernel in kernels) for sign in signs
    )
    for layer in inside:
        bits = _float_fallback.bits_of_layer(layer, signed)
        if bits >= _float_fallback.FEW_BITS:
            continue
        unwrap = (
            f"; {_operation.UNWRAP}" if isinstance(outer, keras.layers.Wrapper) else ""
        )
        remedy = (
            "Call that layer in the model itself; layers that belong together may be a "
            f"functional model, which is opened{unwrap}."
        )
        if isinstance(outer, _layers.TimeDistributed):
            remedy = (
                f"Call {layer.name!r} in the model itself, once for each time step "
                "x[:, t], and put its outputs together with tf.stack(..., axis=1)."
            )
        elif isinstance(outer, (_layers.RNN, _layers.Bidirectional)):
            remedy = (
                "LCE has no binary kernel for the steps of a recurrent layer. Leave "
                "the inputs or the kernels of its cell unquantized, and put binary "
                "convolutions before or after it."
            )
        raise UnreadableError(
            f"Layer {call.label!r} ({type(outer).__name__}) contains the "
            f"{'binary' if bits == 1 else 'quantized'} layer {layer.name!r}, which "
            f"cannot be seen from outside. {remedy}"
        )


# --- a model of which only operations are known


def check_float32(model: keras.Model, reason: ConversionError) -> None:
    """Rejects half precision where layers cannot be called again in float32."""
    for layer in model._flatten_layers(include_self=False):
        policy = layer.dtype_policy
        made = not isinstance(layer, _layers.InputLayer)
        if made and policy.compute_dtype in ("float16", "bfloat16"):
            raise ConversionError(
                f"{reason} Without that, layer {layer.name!r} would stay in "
                f"{policy.name}: build the model in float32 and give it these weights."
            ) from reason


def check_trace(
    model: keras.Model, lowered: LoweredTrace, allow_float: bool, runtime: str = "lce"
) -> tuple[list[str], list[_float_fallback.FloatFallback]]:
    """Returns what should be binary in a file of a trace, and what is float on request.

    For LiteRT, without binary kernels, all layers are ordinary ones.
    """
    # Those inside before those around them, which may have their names.
    layers: dict[str, keras.layers.Layer] = {}
    for layer in [*model._flatten_layers()][::-1]:
        layers.setdefault(layer.name, layer)
    for layer in layers.values():
        _check_layer(layer, layer.name)
    binary = [_layer_of(name, layers) for name in lowered.binary]
    in_float = _float_fallback.float_in_trace(lowered.trace, binary, layers)
    if not allow_float and runtime == "lce":
        _check_binary(model, binary, in_float, "binary convolution")
    return binary, in_float


def merged_convolutions(
    graph: Subgraph, repeated: Sequence[str], expected: Sequence[str]
) -> list[str]:
    """Names binary convolutions that a file has once for several of a model.

    The converter merges those of equal signs in input and kernel, whatever comes after.
    """
    lacking = max(
        len(expected) - sum(op.op == "LceBconv2d" for op in graph.operations), 0
    )
    left, names = list(expected), list[str]()
    for kernel in repeated[:lacking]:
        name = _layer_of(kernel, left)
        name = name if name in left else left[-1]
        left.remove(name)
        names.append(name)
    return names


# --- a file


def check_file(graph: Subgraph) -> None:
    """Checks what may be wrong with a file before it runs.

    Raises:
        ConversionError: If the file contains an operation that nothing can run or that
            runs wrongly, or executing it would destroy a map that is still needed. It
            names the layer.
    """
    for op in graph.operations:
        if not hasattr(BuiltinOperator, op.op) and not op.op.startswith("Lce"):
            kind = op.outputs[0].dtype if op.outputs else "nothing"
            raise ConversionError(
                f"Layer {graph.layer(op)!r} needs the operation {op.op!r} that gives "
                f"{kind}, which TensorFlow Lite does not have. Write the layer with "
                f"other functions, in float32.{_GELU * op.op.startswith('Erf')}"
            )
        if has_lost_bias(op):
            raise ConversionError(
                f"Layer {graph.layer(op)!r} adds one number to all channels of a "
                "transposed convolution, which TensorFlow Lite makes its bias and then "
                "cannot run. Give the convolution a bias that is not 0: the number "
                "becomes part of it."
            )
    for operations in overwritten(graph):
        maker, by, reader = map(graph.layer, operations)
        raise ConversionError(
            f"On device, layer {by!r} would overwrite what layer {maker!r} gives "
            f"before layer {reader!r} has read it: TensorFlow Lite reshapes without "
            "copying, and then computes in place. Do without a reshape of a map that "
            "has a second use."
        )


def check_binary(
    graph: Subgraph, prepared: keras.Model, expected: Sequence[str]
) -> None:
    """Checks that a file of LCE has the binary convolutions that its model has.

    Raises:
        ConversionError: If one stayed float. It names the layer.
    """
    count = sum(op.op == "LceBconv2d" for op in graph.operations)
    if count != len(expected):
        raise ConversionError(
            f"LCE found {count} binary convolutions where the model has "
            f"{len(expected)}: {_why_other_count(graph, prepared, expected, count)}"
        )


def check_all_int8(graph: Subgraph) -> None:
    """Checks that nothing in a file computes in float.

    Raises:
        ConversionError: If something does. It names the layers.
    """
    float_ops = [op for op in graph.operations if op.kind == "float"]
    if float_ops:
        layers = list(dict.fromkeys(map(graph.layer, float_ops)))
        kinds = ", ".join(sorted({op.op for op in float_ops}))
        many = f"{len(float_ops)} operation{'s' * (len(float_ops) > 1)}"
        raise ConversionError(
            f"{many} would stay float ({kinds}), of "
            f"{', '.join(map(repr, layers[:4]))}{' and others' * (len(layers) > 4)}: "
            "int8 has no form of them, or nothing says their ranges, as inside a layer "
            "of your own. Build it of Keras' layers, with a FakeQuantization after "
            "each, replace quantizers of other values than -1 and +1 with 'ste_sign', "
            "or convert without int8."
        )


def _why_other_count(
    graph: Subgraph, prepared: keras.Model, expected: Sequence[str], count: int
) -> str:
    """Says which layers are not what was expected, and what to do."""
    model = _graph.Graph(prepared)
    if count > len(expected):
        nearly = [
            repr(call.label)
            for call in model.calls
            if isinstance(call.layer, _layers.Conv2D)
            and _signs.has_sign_input(call)
            and not _signs.is_binary_convolution(call)
        ]
        where = f", in {', '.join(nearly)}" if nearly else ""
        return (
            f"it takes for signs, or for ±c, what is not quite that{where}. Use "
            "quantizers such as 'ste_sign', or real weights."
        )
    stayed = []
    for op in graph.operations:
        # The last of the layers that were fused is known; the convolution is before.
        name, uses = graph.layer(op), model.uses(graph.layer(op))
        call = uses[0] if uses else None
        while call is not None and not isinstance(call.layer, _layers.Conv2D):
            call = model.producer(call.first_input)
        if uses:
            name = "" if call is None else call.name
        if op.op in ("CONV_2D", "DEPTHWISE_CONV_2D") and name in expected:
            why = _float_fallback.stayed_float(graph, op)
            said = "" if why is None else f" {why[0]}. {why[1]}"
            stayed.append(f"layer {name!r} stayed float.{said}")
    return " ".join(stayed) or (
        f"look at {', '.join(map(repr, expected))}. A sign must go straight into its "
        "convolution, with nothing between."
    )
