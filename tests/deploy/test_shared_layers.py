"""A layer that is called in several ways is rewritten for each of them."""

import larq as lq
import numpy as np
import pytest
import tensorflow as tf
from larq_nobn import deploy, fold_batch_norm
from deploy.nets import binary_conv, scrambled
from deploy.sides import beside, compared, examples, outputs
from larq_nobn._keras import keras

pytestmark = pytest.mark.convert
layers = keras.layers
SIGNS = {
    "input_quantizer": "ste_sign",
    "kernel_quantizer": "ste_sign",
    "kernel_constraint": "weight_clip",
    "use_bias": False,
}


def shared(layer, *shapes):
    """A model in which one layer is called on maps of several shapes."""
    inputs = [keras.Input(shape) for shape in shapes]
    return scrambled(keras.Model(inputs, [layer(x) for x in inputs]))


def conv(**changes):
    same = {"padding": "same", "pad_values": 0.0, "name": "shared"}
    return lq.layers.QuantConv2D(16, 3, **{**SIGNS, **same, **changes})


def squares(*sizes):
    return [(size, size, 8) for size in sizes]


CASES = {
    "small first": (conv, squares(1, 8)),
    "large first": (conv, squares(8, 1)),
    "8, then 2": (conv, squares(8, 2)),
    "detection heads": (conv, squares(8, 4, 2, 1)),
    "padded with ones": (lambda: conv(pad_values=1.0), squares(8, 2)),
    "groups": (lambda: conv(groups=2), squares(1, 4)),
    "with a bias": (lambda: conv(use_bias=True, activation="relu"), squares(1, 4)),
    "lengths": (
        lambda: lq.layers.QuantConv1D(16, 3, padding="same", name="shared", **SIGNS),
        [(9, 8), (2, 8)],
    ),
    "causal": (
        lambda: lq.layers.QuantConv1D(16, 3, padding="causal", name="shared", **SIGNS),
        [(9, 8), (4, 8)],
    ),
    "ranks": (
        lambda: lq.layers.QuantDense(16, name="shared", **SIGNS),
        [(8,), (5, 8), (3, 4, 8)],
    ),
    "sizes": (
        lambda: lq.layers.QuantDense(16, name="shared", **SIGNS),
        [(5, 8), (7, 8)],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_of_several_shapes(name, tmp_path):
    make, shapes = CASES[name]
    model = shared(make(), *shapes)
    arrays = examples(model)
    expected = outputs(model, arrays)
    for found, wanted in zip(
        outputs(deploy.prepared(model), arrays), expected, strict=True
    ):
        np.testing.assert_allclose(found, wanted, atol=1e-5)
    report, off = compared(model, tmp_path)
    groups = getattr(model.get_layer("shared"), "groups", 1)
    assert report.lce_bconv2d == report.binary_layers == groups * len(shapes)
    assert max(off) < 1e-4
    assert deploy.binary_layers(model) == ["shared"] * groups * len(shapes)


def test_the_oracle_is_right():
    """Of a 1x1 map, zeros around leave the middle of the kernel."""
    model = shared(conv(), *squares(1, 8))
    [x, other] = examples(model)
    kernel = np.asarray(model.get_layer("shared").kernel)
    middle = np.where(kernel >= 0, 1, -1)[1, 1]
    wanted = np.where(x >= 0, 1, -1)[:, 0, 0] @ middle
    np.testing.assert_array_equal(
        outputs(deploy.prepared(model), [x, other])[0][:, 0, 0], wanted
    )


def test_weights_are_stored_once(tmp_path):
    sizes = {}
    for name, shapes in (("one", squares(8)), ("four", squares(8, 7, 6, 5))):
        folder = tmp_path / name
        folder.mkdir()
        report, _ = compared(shared(conv(), *shapes), folder)
        sizes[name] = report.size_bytes
    kernel = 16 * 9 * 4  # eight bits of 32, each
    assert sizes["four"] < sizes["one"] + 3 * kernel + 3 * 400


def test_after_a_sign_and_after_numbers(tmp_path):
    """Of real numbers it is a float layer, whatever it is elsewhere."""
    dense = lq.layers.QuantDense(8, kernel_quantizer="ste_sign", name="shared")
    for order in (1, -1):
        first, second = keras.Input((8,)), keras.Input((8,))
        ends = [dense(lq.quantizers.SteSign()(first)), dense(second)]
        model = scrambled(keras.Model([first, second][::order], ends[::order]))
        report, off = compared(model, tmp_path)
        assert report.lce_bconv2d == report.binary_layers == 1
        assert max(off) < 1e-4


def test_zeros_that_strided_convolutions_share(tmp_path):
    """LCE takes padding that ends too late for that of another convolution."""
    pad = layers.ZeroPadding2D(1)
    strided = layers.Conv2D(8, 3, strides=2)

    def network(size):
        inputs = keras.Input((size, size, 3))
        x = strided(pad(inputs))
        return keras.Model(inputs, binary_conv(4)(x))

    model = scrambled(beside([network(size) for size in (8, 16, 7)]))
    report, off = compared(model, tmp_path)
    assert report.lce_bconv2d == 3
    assert report.verify["exact_share"] == 1
    assert max(off) < 1e-4


def test_a_scale_of_bytes_and_of_numbers(tmp_path):
    scale = layers.Rescaling(1 / 64, -1.0, name="shared")
    numbers, bytes_ = keras.Input((6, 6, 8)), keras.Input((6, 6, 8), dtype=tf.uint8)
    ends = [binary_conv(8)(scale(x)) for x in (numbers, bytes_)]
    model = scrambled(keras.Model([numbers, bytes_], ends))
    report = deploy.convert(model, tmp_path / "m.tflite")
    assert report.lce_bconv2d == report.binary_layers == 2
    assert report.verify["exact_share"] == 1


def joined(*ends):
    return layers.Dense(4)(layers.GlobalAveragePooling2D()(layers.Add()(ends)))


def moved(x):
    return layers.MaxPooling2D(2, 1, padding="same")(x)


def normed(x):
    return layers.BatchNormalization()(layers.BatchNormalization()(x))


# Of each, conversion makes branches shorter or longer, and Keras lists the uses in
# another order then.
BRANCHES = {
    "pooled": lambda conv, x: joined(conv(x), conv(moved(x))),
    "norms after": lambda conv, x: joined(conv(moved(x)), normed(conv(x))),
    "norms before": lambda conv, x: joined(conv(x), conv(normed(moved(normed(x))))),
    "a convolution after": lambda conv, x: joined(
        layers.Conv2D(16, 1)(normed(conv(x))), layers.ReLU()(conv(moved(x)))
    ),
}


@pytest.mark.parametrize("name", BRANCHES)
def test_of_branches(name, tmp_path):
    inputs = keras.Input((6, 6, 16))
    model = scrambled(keras.Model(inputs, BRANCHES[name](conv(), inputs)))
    report, off = compared(model, tmp_path)
    assert report.lce_bconv2d == 2
    assert max(off) < 1e-4
    folded = fold_batch_norm(model)
    signs = np.sign(examples(model)[0])
    quantized = deploy.fake_quantize(model, signs)
    expected = model.predict(signs, verbose=0)
    np.testing.assert_allclose(folded.predict(signs, verbose=0), expected, atol=1e-4)
    off = np.abs(quantized.predict(signs, verbose=0) - expected).max()
    assert off < np.ptp(expected) / 4
