"""Kernels as bits: NumPy computes from them alone what Keras computes."""

import larq_nobn as nobn
import larq as lq
import numpy as np
import pytest
import tensorflow as tf

keras = tf.keras
QUANTIZERS = "input_quantizer", "kernel_quantizer"


def by_bits(kernel, inputs):
    """A binary convolution by XOR and counts of bits, map by map, in float64.

    A row is a map of one position, and a sequence one of one row.
    """
    shape = inputs.shape
    inputs = inputs.reshape(*shape[:1], *(1,) * (4 - len(shape)), *shape[1:])
    ones = inputs >= (0.0 if kernel.thresholds is None else kernel.thresholds)
    maps = np.ones(ones.shape[:3], bool)
    sizes, steps, apart = ones.shape[1:3], kernel.strides, kernel.dilation_rate
    axes = zip(kernel.bits.shape[1:3], apart, strict=True)
    reach = [(taps - 1) * rate + 1 for taps, rate in axes]
    if kernel.padding == "same":
        around = [(0, 0)]
        for size, step, length in zip(reach, steps, sizes, strict=True):
            total = max((-(-length // step) - 1) * step + size - length, 0)
            around.append((total // 2, total - total // 2))
        value = kernel.pad_values > 0
        ones = np.pad(ones, [*around, (0, 0)], constant_values=value)
        maps = np.pad(maps, around, constant_values=kernel.pad_values != 0)
    words = np.packbits(ones, axis=3, bitorder="little")
    pairs = zip(ones.shape[1:3], reach, steps, strict=True)
    rows, columns = (range(0, size - taps + 1, step) for size, taps, step in pairs)
    sums = np.zeros((len(ones), len(rows), len(columns), len(kernel.bits)))
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            place = np.s_[
                :,
                row : row + reach[0] : apart[0],
                column : column + reach[1] : apart[1],
            ]
            there = maps[place]
            unequal = np.unpackbits(words[place][:, None] ^ kernel.bits[None], axis=4)
            unequal = unequal.sum(axis=4, dtype=int)
            met = kernel.channels * there[:, None]
            sums[:, i, j] = (met - 2 * unequal * there[:, None]).sum(axis=(2, 3))
    activation = keras.activations.get(kernel.activation)
    made = np.asarray(activation(sums * kernel.scales + kernel.offsets))
    return made.reshape(*shape[:1], *made.shape[5 - len(shape) :])


def convolution(input_quantizer, **options):
    return lq.layers.QuantConv2D(
        filters=5,
        kernel_size=3,
        input_quantizer=input_quantizer,
        kernel_quantizer="magnitude_aware_sign",
        kernel_constraint="weight_clip",
        bias_initializer="random_normal",
        **options,
    )


def test_a_convolution_computed_from_bits():
    options = {"padding": "same", "pad_values": 1.0, "strides": 2}
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


SAME = {"padding": "same", "pad_values": 1.0}
AWARE = {"kernel_quantizer": "magnitude_aware_sign"}
RELU = {"activation": "relu"}
OPTIONS = {
    "plain": {},
    "scaled": AWARE,
    "relu": {**SAME, **AWARE, **RELU},
    "relu_without_scale": {**SAME, **RELU},
    "relu6": {**AWARE, "activation": "relu6"},
    "tanh": {**AWARE, "activation": "tanh"},
    "no_bias": {**SAME, **AWARE, **RELU, "use_bias": False},
    "zeros": {"padding": "same", "pad_values": 0.0, **AWARE, **RELU},
    "minus_ones": {"padding": "same", "pad_values": -1.0, **AWARE},
    "strided": {**SAME, **AWARE, "strides": 2},
    "strided_zeros": {"padding": "same", "pad_values": 0.0, "strides": 2},
    "oblong": {**SAME, "kernel_size": (1, 3), "strides": (2, 1), **AWARE},
    "dilated": {**SAME, **AWARE, "dilation_rate": 2},
    "rsign": {**AWARE, "input_quantizer": nobn.quantizers.RSign},
    "scaled_rsign": {
        **{"input_quantizer": lambda: nobn.quantizers.RSign(scale=0.3)},
        **{**SAME, **RELU},
    },
    "approx_sign": {"input_quantizer": "approx_sign", **AWARE, **RELU},
    "zero_one": {"input_quantizer": "ste_heaviside", **AWARE, **RELU},
    "zero_one_padded": {**SAME, "input_quantizer": "ste_heaviside", **AWARE},
    "scaled_std_sign": {
        **{"kernel_quantizer": lambda: nobn.quantizers.ScaledStdSign(scale=0.7)},
        **{**SAME, **RELU},
    },
    "recu": {**RELU, "kernel_quantizer": nobn.quantizers.ReCU},
    "sign_swish": {**RELU, "kernel_quantizer": nobn.quantizers.SignSwish},
    "groups": {**SAME, **AWARE, **RELU, "groups": 2},
}
AFTER = {
    "batch_norm": lambda made, x: [keras.layers.BatchNormalization()(y) for y in made],
    "sums": lambda made, x: [
        *(keras.layers.GlobalAveragePooling2D()(y) for y in made),
        *(
            convolution("rsign", use_bias=False)(keras.layers.Add()([y, z]))
            for y, z in zip(made[::3], made[1::3], strict=False)
            if y.shape == z.shape
        ),
    ],
}


def made_of(options, number):
    both = ("input_quantizer", "kernel_quantizer")
    own = {name: value() for name, value in options.items() if callable(value)}
    given = {name: "ste_sign" for name in both} | {"use_bias": True} | options | own
    size = given.pop("kernel_size", 3)
    return lq.layers.QuantConv2D(6, size, name=f"layer/{number}", **given)


def scramble(model):
    random = np.random.default_rng(0)
    for weight in model.weights:
        noise = random.normal(size=weight.shape) * 0.5
        spread = "variance" in weight.name or "gain" in weight.name
        weight.assign(np.abs(noise) + 0.5 if spread else noise)


def compare(model, layers, x):
    """Each layer alone, from its input, whatever is around it."""
    packed = nobn.deploy.packed_kernels(model)
    names = [kernel.name for kernel in packed]
    for layer in layers:
        group = getattr(layer, "groups", 1)
        own = [layer.name] if group == 1 else [f"{layer.name}/1", f"{layer.name}/2"]
        kernels = [packed[names.index(name)] for name in own]
        parts = np.split(x, len(own), axis=-1)
        pairs = zip(kernels, parts, strict=True)
        made = np.concatenate([by_bits(*pair) for pair in pairs], axis=-1)
        wanted, size = layer(x).numpy(), float(np.abs(layer(x)).max())
        assert made.shape == wanted.shape, layer.name
        np.testing.assert_allclose(
            made, wanted, rtol=1e-4, atol=1e-4 * size, err_msg=layer.name
        )
    return packed


@pytest.mark.parametrize("after", AFTER)
def test_a_packed_kernel_is_the_layer_whatever_comes_after(after):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((5, 6, 12))
    layers = [made_of(options, name) for name, options in OPTIONS.items()]
    made = [layer(inputs) for layer in layers]
    model = keras.Model(inputs, AFTER[after](made, inputs))
    scramble(model)
    x = np.random.default_rng(1).normal(size=(2, 5, 6, 12)).astype("float32")
    packed = compare(model, layers, x)
    names = [kernel.name for kernel in packed]
    others = sum("quant" in name for name in names)
    assert len(names) - others == len(OPTIONS) + 1  # of groups there are two


def test_rows_and_sequences():
    rows, series = keras.Input((12,)), keras.Input((9, 12))
    both = {"input_quantizer": "ste_sign", **AWARE, "bias_initializer": "normal"}
    of_rows = [
        lq.layers.QuantDense(5, activation="relu", **both),
        lq.layers.QuantDense(5, **{**both, "input_quantizer": "ste_heaviside"}),
        lq.layers.QuantDense(5, **{**both, "input_quantizer": nobn.quantizers.RSign()}),
    ]
    of_series = [
        lq.layers.QuantConv1D(5, 3, activation="relu", **both),
        lq.layers.QuantConv1D(5, 3, padding="same", pad_values=1.0, strides=2, **both),
        lq.layers.QuantConv1D(5, 3, padding="same", dilation_rate=2, **both),
        lq.layers.QuantDense(5, activation="relu", **both),
    ]
    norm = keras.layers.BatchNormalization
    outputs = [norm()(layer(rows)) for layer in of_rows]
    outputs += [norm()(layer(series)) for layer in of_series]
    model = keras.Model([rows, series], outputs)
    scramble(model)
    random = np.random.default_rng(1)
    compare(model, of_rows, random.normal(size=(3, 12)).astype("float32"))
    x = random.normal(size=(1, 9, 12)).astype("float32")
    compare(model, of_series[:3], x)
    kernel = compare(model, [], x)[-1]
    made = by_bits(kernel, x.reshape(9, 12)).reshape(1, 9, 5)
    np.testing.assert_allclose(made, of_series[3](x), rtol=1e-4, atol=1e-5)


def test_signs_of_other_layers():
    """They are ±1, or 0 and 1, and may be pooled or reshaped on their way."""
    inputs = keras.Input((6, 6, 8))
    layers = keras.layers
    plain = {"input_quantizer": None, "activation": "relu"}
    ones = layers.Activation("ste_sign")(inputs)
    bits = layers.Activation("ste_heaviside")(inputs)
    ends = [
        (convolution(**plain), ones),
        (convolution(**plain, padding="same", pad_values=1.0), bits),
        (convolution(**plain), layers.Reshape((3, 12, 8))(ones)),
    ]
    made = [layer(x) for layer, x in ends]
    model = keras.Model(inputs, [layers.BatchNormalization()(y) for y in made])
    scramble(model)
    packed = nobn.deploy.packed_kernels(model)
    x = np.random.default_rng(1).normal(size=(2, 6, 6, 8)).astype("float32")
    reads = keras.Model(inputs, [taken for _, taken in ends])(x)
    for (layer, _), kernel, taken in zip(ends, packed, reads, strict=True):
        assert kernel.name == layer.name
        actual = by_bits(kernel, taken.numpy())
        np.testing.assert_allclose(actual, layer(taken), rtol=1e-4, atol=1e-4)
    assert packed[0].thresholds is None
    np.testing.assert_array_equal(packed[1].thresholds, np.full(8, 0.5))


def test_equal_layers_groups_and_names():
    inputs = keras.Input((6, 6, 8))
    signs = dict.fromkeys(QUANTIZERS, "ste_sign") | {"use_bias": False}
    a, b, c, d = (
        lq.layers.QuantConv2D(8, 3, name=name, groups=groups, **signs)
        for name, groups in (("a", 1), ("b", 1), ("g", 2), ("h", 2))
    )
    outputs = [layer(inputs) for layer in (a, b, c, d)]
    last = lq.layers.QuantConv2D(4, 3, name="g/1", **signs)
    model = keras.Model(inputs, [*outputs, last(outputs[0]), a(outputs[0])])
    b.set_weights(a.get_weights())
    d.set_weights(c.get_weights())
    names = nobn.deploy.binary_layers(model)
    assert sorted(names) == ["a", "a", "b", "g", "g", "g/1", "h", "h"]
    packed = nobn.deploy.packed_kernels(model)
    wanted = ["a", "a", "b", "g/1", "g/1", "g/2", "h/1", "h/2"]
    assert sorted(kernel.name for kernel in packed) == wanted
    kernels = {kernel.name: kernel for kernel in packed}
    np.testing.assert_array_equal(kernels["a"].bits, kernels["b"].bits)
    np.testing.assert_array_equal(kernels["g/2"].bits, kernels["h/2"].bits)


def test_a_layer_on_its_own_output_and_nested_models():
    """Each use is read from its own input; names are those of the inner layers."""
    inputs = keras.Input((6, 6, 8))
    twice = lq.layers.QuantConv2D(
        8, 3, **SAME, **RELU, **AWARE, input_quantizer="ste_sign"
    )
    block = keras.Sequential([keras.Input((6, 6, 8)), made_of(RELU | AWARE, "in")])
    wrap = nobn.layers.BatchNormalizationPreconditioning
    inner = made_of(AWARE, "wrapped")
    y = twice(twice(inputs))
    model = keras.Model(
        inputs, wrap(inner)(keras.layers.BatchNormalization()(block(y)))
    )
    scramble(model)
    x = np.random.default_rng(1).normal(size=(2, 6, 6, 8)).astype("float32")
    packed = compare(model, [twice, block.layers[-1]], x)
    assert [kernel.name for kernel in packed] == nobn.deploy.binary_layers(model)
    np.testing.assert_array_equal(packed[0].scales, packed[1].scales)


class Twice(lq.layers.QuantConv2D):
    def call(self, inputs):
        return 2 * tf.nn.relu(super().call(inputs)) + 1


def wrong(layer, before=None):
    inputs = keras.Input((6, 6, 8))
    return keras.Model(inputs, layer(before(inputs) if before else inputs))


@pytest.mark.parametrize(
    "model, said",
    [
        (
            lambda: wrong(
                Twice(4, 3, name="own", **dict.fromkeys(QUANTIZERS, "ste_sign"))
            ),
            "'own' .Twice. computes more than a PackedKernel contains",
        ),
        (
            lambda: wrong(convolution("ste_sign", activation=keras.layers.PReLU())),
            "computes more than a PackedKernel contains",
        ),
        (
            lambda: wrong(convolution("ste_sign", activation=lambda x: x * x)),
            "an activation of Keras by its name",
        ),
        (
            lambda: wrong(
                convolution(None),
                lambda x: keras.layers.ZeroPadding2D()(
                    keras.layers.Activation("ste_sign")(x)
                ),
            ),
            "takes other numbers beside those of a sign",
        ),
    ],
)
def test_layers_that_do_more_are_named(model, said):
    with pytest.raises(nobn.deploy.ConversionError, match=said):
        nobn.deploy.packed_kernels(model())
