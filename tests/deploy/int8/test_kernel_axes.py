"""Kernels are rounded along the axes of the file's operations, with gains merged."""

import numpy as np
import pytest
from deploy.nets import binary_conv
from larq_nobn._keras import keras
from larq_nobn.deploy import Runner, convert, fake_quantize

pytestmark = pytest.mark.convert
layers = keras.layers
SAME = {"padding": "same"}
# The layer, the shape of an example, and whether TensorFlow Lite has it in int8.
KINDS = {
    "conv2d": (lambda: layers.Conv2D(8, 3, use_bias=False), (6, 6, 4), True),
    "groups": (lambda: layers.Conv2D(8, 3, groups=2), (6, 6, 4), True),
    "conv3d": (lambda: layers.Conv3D(8, 2), (3, 3, 3, 4), False),
    "depthwise2d": (
        lambda: layers.DepthwiseConv2D(3, depth_multiplier=2),
        (6, 6, 4),
        True,
    ),
    "separable2d": (lambda: layers.SeparableConv2D(8, 3), (6, 6, 4), False),
    "transpose2d": (lambda: layers.Conv2DTranspose(8, 3, 2, **SAME), (4, 4, 4), True),
    "dense of sequences": (lambda: layers.Dense(8, use_bias=False), (6, 12), True),
}


def uneven(layer, rng):
    """Makes the weights of the first of eight output channels 50 times as large."""
    for name in ("pointwise_kernel", "depthwise_kernel", "kernel"):
        variable = getattr(layer, name, None)
        if variable is None:
            continue
        kernel = variable.numpy()
        if "Transpose" in type(layer).__name__:
            kernel[..., 0, :] *= 50
        elif name == "depthwise_kernel":
            kernel[..., 0, 0] *= 50
        else:
            kernel[..., 0] *= 50
        variable.assign(kernel)
        break
    if layer.use_bias:
        layer.bias.assign(rng.normal(size=8))


def normalized(layer, x, rng):
    """The layer and a batch norm that makes its channels alike, as a function."""
    inputs = keras.Input(x.shape[1:])
    model = keras.Model(inputs, layer(inputs))
    uneven(layer, rng)
    values = model(x).numpy().reshape(-1, 8)
    norm = layers.BatchNormalization()
    norm.build(model.output_shape)
    gamma, beta = rng.choice([-1.2, 0.6, 1.4], 8), rng.normal(size=8)
    norm.set_weights([gamma, beta, values.mean(axis=0), values.var(axis=0)])
    return lambda y: norm(layer(y))


@pytest.mark.parametrize("in_int8", [True, False])
def test_channels_are_as_exact_as_their_steps(in_int8, tmp_path):
    """In one file, each kind after an input of its own."""
    rng = np.random.default_rng(3)
    inputs, data, maps = [], [], []
    for number, (make, shape, has_kernel) in enumerate(KINDS.values()):
        if has_kernel is not in_int8:
            continue
        keras.utils.set_random_seed(number)
        data.append(rng.normal(size=(6, *shape)).astype("float32"))
        inputs.append(keras.Input(shape))
        y = normalized(make(), data[-1], rng)(inputs[-1])
        maps.append(layers.ReLU()(y) if len(maps) % 2 else y)
    binary = layers.Reshape((1, 1, -1))(inputs[0])
    model = keras.Model(inputs, [*maps, layers.Flatten()(binary_conv(8)(binary))])
    quantized = fake_quantize(model, data, verify=False)
    report = convert(quantized, tmp_path / "model.tflite", data=data, int8=True)
    assert report.verify["int8"]["worst_steps"] < 0.75
    run = Runner((tmp_path / "model.tflite").read_bytes())
    ends = zip(quantized(data), run.outputs(data), run.output_tensors, strict=True)
    for number, (wanted, actual, tensor) in enumerate([*ends][:-1]):
        # A rectified map has half the range: kernels of 8 bits reach two steps.
        most = 2.05 if number % 2 else 1.05
        wanted = wanted.numpy()
        spread = np.ptp(wanted.reshape(-1, 8), axis=0)
        assert np.median(spread) > 50 * tensor.scale
        off = np.abs(actual.reshape(wanted.shape) - wanted).max()
        assert off < most * tensor.scale, number
    assert bool(report.float_ops) is not in_int8
