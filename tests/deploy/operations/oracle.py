"""Binary layers in NumPy, and the same layers in a file, all in one model."""

import larq as lq
import numpy as np
import tensorflow as tf
from larq_nobn.deploy import Runner, convert

BINARY = {
    "input_quantizer": "ste_sign",
    "kernel_quantizer": "ste_sign",
    "kernel_constraint": "weight_clip",
}
ACTIVATIONS = {
    "linear": lambda y: y,
    "relu": lambda y: np.maximum(y, 0),
}


def examples(shape, count=8):
    """Normal numbers of which every eighth is 0, where signs are easily confused."""
    random = np.random.default_rng(2)
    x = random.normal(size=(count, *shape))
    return np.where(random.random(x.shape) < 0.125, 0.0, x).astype(np.float32)


def quantized(quantizer, x):
    """What the quantizer of a layer makes of float64 numbers."""
    if quantizer is None:
        return x
    if isinstance(quantizer, lq.quantizers.SteHeaviside):
        return np.where(x > 0, 1.0, 0.0)
    shift = getattr(quantizer, "shift", None)
    return np.where(x + (0.0 if shift is None else shift.numpy()) >= 0, 1.0, -1.0)


def convolved(x, kernel, pads, value, strides, dilation):
    """A convolution in n dimensions, one position after the other, in float64."""
    x = np.pad(x, [(0, 0), *pads, (0, 0)], constant_values=value)
    taps = np.indices(kernel.shape[:-2]).reshape(len(pads), -1).T
    reach = [(k - 1) * d + 1 for k, d in zip(kernel.shape, dilation, strict=False)]
    sizes = [
        (size - r) // s + 1
        for size, r, s in zip(x.shape[1:-1], reach, strides, strict=True)
    ]
    y = np.zeros((len(x), *sizes, kernel.shape[-1]))
    for place in np.ndindex(*sizes):
        for tap in taps:
            at = np.array(place) * strides + tap * dilation
            y[(slice(None), *place)] += x[(slice(None), *at)] @ kernel[tuple(tap)]
    return y


def padding_of(layer, sizes):
    """How much is padded in front and after, as TensorFlow's documents define it."""
    if layer.padding == "valid":
        return [(0, 0) for _ in sizes]
    steps = zip(
        sizes, layer.kernel_size, layer.strides, layer.dilation_rate, strict=True
    )
    actual = []
    for size, k, s, d in steps:
        if layer.padding == "causal":
            actual.append(((k - 1) * d, 0))
            continue
        over = size % s or s
        total = max((k - 1) * d + 1 - over, 0)
        actual.append((total // 2, total - total // 2))
    return actual


def expected(layer, x):
    """What a binary layer makes of an array."""
    x = quantized(layer.input_quantizer, x.astype(np.float64))
    with lq.context.quantized_scope(True):
        kernel = np.asarray(tf.convert_to_tensor(layer.kernel), np.float64)
    if isinstance(layer, lq.layers.QuantDense):
        y = x @ kernel
    else:
        pads = padding_of(layer, x.shape[1:-1])
        value = layer.pad_values if layer.padding == "same" else 0.0
        parts = zip(
            np.split(x, layer.groups, axis=-1),
            np.split(kernel, layer.groups, axis=-1),
            strict=True,
        )
        rest = pads, value, layer.strides, layer.dilation_rate
        y = np.concatenate([convolved(*part, *rest) for part in parts], axis=-1)
    y = y + layer.bias.numpy() if layer.use_bias else y
    return ACTIVATIONS.get(layer.activation.__name__, lambda y: y)(y)


def converted(model, folder, x):
    """The report of a model's conversion, and the outputs of the file."""
    report = convert(model, folder / "model.tflite", data=x)
    run = Runner((folder / "model.tflite").read_bytes())
    return report, run.outputs(x if isinstance(x, list) else [x])


def operations(report):
    return {op["op"]: op["count"] for op in report.float_ops}
