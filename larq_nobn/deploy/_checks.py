"""What cannot be converted, or would be converted wrongly: before and after LCE."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf
from tensorflow.lite.python.schema_py_generated import BuiltinOperator

from .._keras import keras
from ..graph import _models
from . import _float_fallback
from ._errors import ConversionError, conversion_errors
from .inspection._stayed_float import float_in_file
from .lite._file import Subgraph
from .lite._lce_faults import has_lost_bias, overwritten
from .operations import Int8Trace, LoweredTrace

_GELU = (
    " GELU has a form without it: lambda x: tf.nn.gelu(x, approximate=True) as the "
    "activation, which differs by less than 0.001."
)


# --- a model


def check_model(model: keras.Model) -> None:
    """Checks what would be converted wrongly, or not at all.

    Raises:
        ConversionError: If a layer is such, or is called with `training=True`. It names
            the layer.
    """
    if getattr(model, "_is_graph_network", False):
        with conversion_errors():
            _models.check_inference(model)
    for layer in _float_fallback.layers_by_name(model).values():
        if not isinstance(layer, keras.Model):
            _check_layer(layer)


def _check_layer(layer: keras.layers.Layer) -> None:
    """Rejects tables, weights that are no numbers, and layers that keep a state."""
    label, kind = repr(layer.name), type(layer).__name__
    if getattr(layer, "lookup_table", None) is not None:
        raise ConversionError(
            f"Layer {label} ({kind}) contains a table, which a file cannot. Look up "
            "the ids before the model, and make them its input."
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
                f"Weight {weight.name!r} of layer {label} contains {wrong}: training "
                "diverged. Convert an earlier state of the model."
            )
    if getattr(layer, "stateful", False) and isinstance(layer, keras.layers.RNN):
        raise ConversionError(
            f"The recurrent layer {label} ({kind}) has stateful=True: it resumes where "
            "the previous call ended, while a file starts over in every run. Build it "
            "with stateful=False, and show it whole sequences."
        )
    first = getattr(layer, "data_format", None) == "channels_first"
    few = _float_fallback.FEW_BITS
    if first and _float_fallback.bits_of_layer(layer) < few:
        raise ConversionError(
            f"Layer {label} has data_format='channels_first', but LCE knows "
            "'channels_last' only. Build the model with that."
        )


def check_float(
    model: keras.Model, form: LoweredTrace | Int8Trace, allow_float: bool
) -> list[_float_fallback.FloatFallback]:
    """Returns what is float in a file of a model, on request.

    Arguments:
        model: Any.
        form: Its operations.
        allow_float: Whether layers of few bits may be float, and all layers.

    Raises:
        ConversionError: If nothing is binary, or something else is float; it names all
            such layers and the remedies.
    """
    in_float = _float_fallback.float_layers(model, form)
    if in_float and not allow_float:
        many = "1 layer" if len(in_float) == 1 else f"{len(in_float)} layers"
        raise ConversionError(
            f"Model {model.name!r} has {many} of few bits without a binary kernel in "
            f"LCE. {' '.join(map(str, in_float))} Or pass allow_float=True "
            "(--allow-float), which converts what is named here in float."
        )
    if not form.binary and not allow_float:
        lacking = _float_fallback.why_none_is_binary(model, form.trace)
        raise ConversionError(
            f"Model {model.name!r} has no binary layer: {lacking}. A QuantConv2D is "
            "binary with an input_quantizer and a kernel_quantizer such as 'ste_sign'; "
            "allow_float=True (--allow-float) converts a model without any."
        )
    return in_float


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
        (name,) = _float_fallback.layers_of([kernel], left)
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


def check_binary(graph: Subgraph, expected: Sequence[str]) -> None:
    """Checks that a file of LCE has the binary convolutions that its model has.

    Raises:
        ConversionError: If one stayed float. It names the layer.
    """
    names = [graph.layer(op) for op in graph.operations if op.op == "LceBconv2d"]
    if len(names) != len(expected):
        raise ConversionError(
            f"LCE found {len(names)} binary convolutions where the model has "
            f"{len(expected)}: {_why_other_count(graph, names, expected)}"
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
    graph: Subgraph, names: Sequence[str], expected: Sequence[str]
) -> str:
    """Says which layers are not what was expected, and what to do."""
    if len(names) > len(expected):
        more = ", ".join(repr(name) for name in names if name not in expected)
        return (
            "it takes for signs, or for ±c, what is not quite that"
            f"{', in ' * bool(more)}{more}. Use quantizers such as 'ste_sign', or real "
            "weights."
        )
    stayed = [
        f"layer {row.layer!r} stayed float. {row.finding}. {row.remedy}"
        for row in float_in_file(graph)
    ]
    return " ".join(stayed) or (
        f"look at {', '.join(map(repr, expected))}. A sign must go straight into its "
        "convolution, with nothing between."
    )
