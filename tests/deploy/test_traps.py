"""Known faults of LCE, from end to end: a model converts, or is rejected."""

import larq_nobn as nobn
import larq as lq
import numpy as np
import pytest
import tensorflow as tf
from deploy.nets import binary_conv, chain, head, images, small
from deploy.sides import beside, compared
from larq_nobn._keras import keras
from larq_nobn._names import RUNTIMES
from larq_nobn.deploy import ConversionError, Runner, convert
from numpy.testing import assert_array_equal

pytestmark = pytest.mark.convert


def converts(model, folder):
    report = convert(model, folder / "m.tflite")
    assert report.lce_bconv2d == report.binary_layers == 1
    return report


def test_an_open_quantized_scope_changes_nothing(tmp_path):
    model = small()
    with lq.context.quantized_scope(True):
        report = converts(model, tmp_path)
        assert lq.context.should_quantize()
    latent = model.get_layer("only").kernel.latent_variable.numpy()
    assert len(np.unique(np.abs(latent))) > 1
    assert converts(model, tmp_path).verify == report.verify


# Arguments of a binary convolution on a map of 8x8: padding of any symmetry.
PADDED = (
    {"size": 2, "dilation_rate": 2, "pad_values": 0.0},
    {"size": 3, "dilation_rate": 2},
    {"size": 2, "pad_values": 0.0},
    {"size": 4},
    {"size": 4, "strides": 2, "pad_values": 0.0},
    {"size": 3, "strides": 2, "pad_values": 0.0},
    {"size": (1, 3)},
)


@lq.utils.set_precision(1)
def threshold(x):
    return tf.where(x >= 0.25, 1.0, -1.0)


def test_what_lce_would_fuse_or_pad_wrongly_converts(tmp_path):
    own = keras.layers.Lambda(lambda x: tf.nn.relu(x) + 0.25)
    sign = keras.layers.Lambda(lambda x: lq.math.sign(x))
    rows = [[binary_conv(8, **changes)] for changes in PADDED]
    rows += [
        [binary_conv(8), own, *head()],
        [sign, binary_conv(8, input_quantizer=None)],
        [binary_conv(8, input_quantizer=threshold)],
    ]
    models = [chain(*row, stem=False, name=f"n{i}") for i, row in enumerate(rows)]
    scaled = nobn.quantizers.ScaledStdSign(scale=0.2)
    for quantizer in ("ste_sign", "magnitude_aware_sign", scaled):
        conv = binary_conv(8, kernel_quantizer=quantizer)
        models.append(chain(conv, stem=False, name=f"zeros{len(models)}"))
        kernel = conv.kernel.latent_variable.numpy()
        kernel[..., :4] = 0
        conv.kernel.assign(kernel)
        if quantizer is scaled:
            conv.kernel_quantizer.gain.assign(np.zeros(8))
    report, off = compared(beside(models), tmp_path)
    assert report.lce_bconv2d == report.binary_layers == len(models)
    assert report.verify["exact_share"] == 1
    assert max(off) < 1e-4


@lq.utils.set_precision(1)
def halves(x):
    return tf.where(tf.abs(x) > 0.1, lq.math.sign(x), 0.5 * lq.math.sign(x))


def test_quantizers_that_only_say_they_are_binary(tmp_path):
    """The weights stay, and the scope that a failing layer left open is closed."""
    model = chain(binary_conv(8, name="x", kernel_quantizer=halves), *head())
    message = "kernel of layer 'x' is not ±c.*'ste_sign'"
    before = [weight.numpy() for weight in model.weights]
    with pytest.raises(ConversionError, match=message):
        convert(model, tmp_path / "m.tflite")
    assert not any(tmp_path.iterdir())
    assert not lq.context.should_quantize()
    for old, new in zip(before, model.weights, strict=True):
        assert_array_equal(old, new.numpy())


LEVELS = {
    "8 bits": tf.quantization.fake_quant_with_min_max_args,
    "3 bits": lambda x: tf.quantization.fake_quant_with_min_max_args(x, 0, 1, 3),
    "variables": lambda x: tf.quantization.fake_quant_with_min_max_vars(x, -2.0, 1.0),
}


@pytest.mark.parametrize("runtime", [x for x in RUNTIMES if x != "micro"])
def test_what_pads_rounded_maps_is_not_rounded(runtime, tmp_path):
    """Converters make int8 of a rounded map, and of the numbers around it."""
    models, layers = [], keras.layers
    sides = [(0, 0), (1, 1), (1, 1), (0, 0)]
    for rounded in LEVELS.values():
        x = start = keras.Input((6, 6, 4))
        x = layers.Lambda(lambda x: tf.pad(x, sides, constant_values=0.91))(
            layers.Lambda(rounded)(x)
        )
        models.append(keras.Model(start, binary_conv(8)(layers.Conv2D(8, 3)(x))))
    model = beside(models)
    path = tmp_path / ("m.c" if runtime == "c" else "m.tflite")
    x = [images(4, (6, 6, 4), seed=n) for n in range(len(models))]
    report = convert(model, path, data=x, runtime=runtime)
    assert report.int8_ops == []
    for actual, wanted in zip(Runner(path).outputs(x), model(x), strict=True):
        np.testing.assert_allclose(actual, wanted, atol=1e-5)
