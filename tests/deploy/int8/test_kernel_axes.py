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
    "conv1d": (lambda: layers.Conv1D(8, 3, **SAME), (6, 4), True),
    "causal": (lambda: layers.Conv1D(8, 3, padding="causal"), (6, 4), True),
    "conv2d": (lambda: layers.Conv2D(8, 3, use_bias=False), (6, 6, 4), True),
    "groups": (lambda: layers.Conv2D(8, 3, groups=2), (6, 6, 4), True),
    "conv3d": (lambda: layers.Conv3D(8, 2), (3, 3, 3, 4), False),
    "depthwise1d": (lambda: layers.DepthwiseConv1D(3), (6, 8), True),
    "depthwise2d": (
        lambda: layers.DepthwiseConv2D(3, depth_multiplier=2),
        (6, 6, 4),
        True,
    ),
    "separable1d": (lambda: layers.SeparableConv1D(8, 3), (6, 4), False),
    "separable2d": (lambda: layers.SeparableConv2D(8, 3), (6, 6, 4), False),
    "transpose1d": (lambda: layers.Conv1DTranspose(8, 3, 2, **SAME), (6, 4), True),
    "transpose2d": (lambda: layers.Conv2DTranspose(8, 3, 2, **SAME), (4, 4, 4), True),
    "dense": (lambda: layers.Dense(8), (12,), True),
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


@pytest.mark.parametrize("name", KINDS)
def test_channels_are_as_exact_as_their_steps(name, tmp_path):
    make, shape, in_int8 = KINDS[name]
    keras.utils.set_random_seed(2)
    rng = np.random.default_rng(3)
    x = rng.normal(size=(32, *shape)).astype("float32")
    inputs = keras.Input(shape)
    plain, rectified = normalized(make(), x, rng), normalized(make(), x, rng)
    maps = [plain(inputs), layers.ReLU()(rectified(inputs))]
    binary = binary_conv(8)(layers.Reshape((1, 1, np.prod(shape)))(inputs))
    model = keras.Model(inputs, [*maps, layers.Flatten()(binary)])
    quantized = fake_quantize(model, x)
    report = convert(quantized, tmp_path / "model.tflite", data=x, int8=True)
    run = Runner((tmp_path / "model.tflite").read_bytes())
    ends = zip(quantized(x), run.outputs([x]), run.output_tensors, strict=True)
    # A rectified map has half the range, so that kernels of 8 bits reach two steps.
    for (wanted, found, tensor), most in zip(list(ends)[:2], (1.05, 2.05), strict=True):
        wanted = wanted.numpy()
        spread = np.ptp(wanted.reshape(-1, 8), axis=0)
        assert np.median(spread) > 50 * tensor.scale
        off = np.abs(found.reshape(wanted.shape) - wanted).max()
        assert off < most * tensor.scale
    assert bool(report.float_ops) is not in_int8
