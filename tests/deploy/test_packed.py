"""Kernels as bits: NumPy computes from them alone what Keras computes."""

import larq_nobn as nobn
import larq as lq
import numpy as np
import pytest
import tensorflow as tf

keras = tf.keras
QUANTIZERS = "input_quantizer", "kernel_quantizer"


def by_bits(kernel, inputs):
    """A binary convolution of stride 1 or 2 by XOR and counts of bits, map by map."""
    ones = inputs >= (0.0 if kernel.thresholds is None else kernel.thresholds)
    maps = np.ones(ones.shape[:3], bool)
    (_, rows, columns, _), (high, wide) = ones.shape, kernel.bits.shape[1:3]
    step, apart = kernel.strides[0], kernel.dilation_rate[0]
    high, wide = (high - 1) * apart + 1, (wide - 1) * apart + 1
    if kernel.padding == "same":
        around = [(0, 0)]
        for size, length in ((high, rows), (wide, columns)):
            total = max((-(-length // step) - 1) * step + size - length, 0)
            around.append((total // 2, total - total // 2))
        value = kernel.pad_values > 0
        ones = np.pad(ones, [*around, (0, 0)], constant_values=value)
        maps = np.pad(maps, around, constant_values=kernel.pad_values != 0)
    words = np.packbits(ones, axis=3, bitorder="little")
    rows = range(0, ones.shape[1] - high + 1, step)
    columns = range(0, ones.shape[2] - wide + 1, step)
    sums = np.zeros((len(ones), len(rows), len(columns), len(kernel.bits)))
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            place = np.s_[:, row : row + high : apart, column : column + wide : apart]
            there = maps[place]
            unequal = np.unpackbits(words[place][:, None] ^ kernel.bits[None], axis=4)
            unequal = unequal.sum(axis=4, dtype=int)
            met = kernel.channels * there[:, None]
            sums[:, i, j] = (met - 2 * unequal * there[:, None]).sum(axis=(2, 3))
    activation = keras.activations.get(kernel.activation)
    return np.asarray(activation(sums * kernel.scales + kernel.offsets))


def convolution(quantizer, **options):
    return lq.layers.QuantConv2D(
        filters=5,
        kernel_size=3,
        input_quantizer=quantizer,
        kernel_quantizer="magnitude_aware_sign",
        kernel_constraint="weight_clip",
        bias_initializer="random_normal",
        **options,
    )


@pytest.mark.parametrize(
    "options",
    [
        {"padding": "same", "pad_values": 1.0, "strides": 2},
        {"padding": "same", "pad_values": 0.0, "activation": "relu"},
        {"padding": "valid", "dilation_rate": 2},
    ],
)
def test_a_convolution_computed_from_bits(options):
    keras.utils.set_random_seed(3)
    rng = np.random.default_rng(0)
    inputs = keras.Input((7, 6, 11))  # 11 channels: two bytes, one of them not full
    sign = nobn.quantizers.RSign()
    layer = convolution(sign, **options)
    model = keras.Model(inputs, layer(inputs))
    sign.set_weights([rng.normal(size=11).astype("float32")])

    (kernel,) = nobn.deploy.packed_kernels(model)

    x = rng.normal(size=(2, 7, 6, 11)).astype("float32")
    np.testing.assert_allclose(by_bits(kernel, x), model(x), rtol=1e-5, atol=1e-5)
    assert kernel.name == layer.name
    assert kernel.bits.dtype == np.uint8
    assert kernel.bits.shape == (5, 3, 3, 2)
    assert not (kernel.bits[..., 1] >> 3).any()
    want = np.where(layer.kernel.latent_variable >= 0, 1.0, -1.0)
    np.testing.assert_array_equal(kernel.unpacked(), want)


def above(x):
    return -lq.math.sign(-x)


@pytest.mark.parametrize(
    "sign, pad",
    [
        *((above, pad) for pad in (None, 0.0, 1.0, -1.0)),
        *(("ste_sign", -1.0), ("ste_heaviside", None), ("ste_heaviside", 0.0)),
        ("ste_heaviside", 1.0),
    ],
)
def test_signs_at_0_and_around_a_map(sign, pad):
    same = {"padding": "same", "pad_values": pad, "activation": "relu"}
    inputs = keras.Input((5, 5, 9))
    layer = convolution(sign, **({} if pad is None else same))
    model = keras.Model(inputs, layer(inputs))
    (kernel,) = nobn.deploy.packed_kernels(model)
    x = np.random.default_rng(0).integers(-1, 2, (2, 5, 5, 9)).astype("float32")
    np.testing.assert_allclose(by_bits(kernel, x), model(x), rtol=1e-5, atol=1e-5)


def test_a_layer_in_groups_has_a_kernel_for_each():
    inputs = keras.Input((5, 5, 8))
    layer = lq.layers.QuantConv2D(
        6,
        3,
        groups=2,
        input_quantizer=nobn.quantizers.RSign(),
        kernel_quantizer="magnitude_aware_sign",
        kernel_constraint="weight_clip",
        name="conv",
    )
    model = keras.Model(inputs, layer(inputs))
    kernels = nobn.deploy.packed_kernels(model)
    assert [kernel.name for kernel in kernels] == ["conv/1", "conv/2"]
    x = np.random.default_rng(0).normal(size=(2, 5, 5, 8)).astype("float32")
    parts = zip(kernels, np.split(x, 2, axis=3), strict=True)
    made = np.concatenate([by_bits(kernel, part) for kernel, part in parts], axis=3)
    np.testing.assert_allclose(made, model(x), rtol=1e-5, atol=1e-5)


def test_layers_in_their_order_and_what_reads_signs():
    inputs = keras.Input((5, 5, 4))
    wrap = nobn.layers.BatchNormalizationPreconditioning
    inner = convolution("ste_sign")
    (kernel,) = nobn.deploy.packed_kernels(keras.Model(inputs, wrap(inner)(inputs)))
    assert kernel.name == inner.name
    image = keras.Input((5, 5, 4))
    model = keras.Model(image, convolution("rsign")(convolution("ste_sign")(image)))
    kernels = nobn.deploy.packed_kernels(model)
    assert [kernel.name for kernel in kernels] == nobn.deploy.binary_layers(model)
    signs = keras.Input((4,))
    dense = lq.layers.QuantDense(
        3, input_quantizer="ste_sign", kernel_quantizer="ste_sign", use_bias=False
    )
    (kernel,) = nobn.deploy.packed_kernels(keras.Model(signs, dense(signs)))
    assert kernel.bits.shape == (3, 1, 1, 1)
    np.testing.assert_array_equal(kernel.thresholds, np.zeros(4))


def test_causal_layers_are_named():
    layer = lq.layers.QuantConv1D(
        4, 3, padding="causal", name="late", **dict.fromkeys(QUANTIZERS, "ste_sign")
    )
    inputs = keras.Input((9, 6))
    with pytest.raises(
        nobn.deploy.ConversionError, match="'late' has padding='causal'"
    ):
        nobn.deploy.packed_kernels(keras.Model(inputs, layer(inputs)))
