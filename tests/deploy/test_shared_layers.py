"""A layer that is called in several ways is rewritten for each of them."""

import larq as lq
import numpy as np
import pytest
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
    same = {"padding": "same", "pad_values": 0.0}
    return lq.layers.QuantConv2D(8, 3, **{**SIGNS, **same, **changes})


def line(padding):
    return lq.layers.QuantConv1D(8, 3, padding=padding, **SIGNS)


def dense():
    return lq.layers.QuantDense(8, **SIGNS)


def squares(*sizes):
    return [(size, size, 8) for size in sizes]


CASES = (
    (conv(name="small_first"), squares(1, 4, 2)),
    (conv(name="groups", groups=2), squares(1, 4)),
    (line("causal"), [(9, 8), (4, 8)]),
    (dense(), [(8,), (3, 4, 8)]),
)


def test_of_several_shapes(tmp_path):
    model = beside([shared(layer, *shapes) for layer, shapes in CASES])
    arrays = examples(model)
    actual = outputs(deploy.prepared(model), arrays)
    for y, expected in zip(actual, outputs(model, arrays), strict=True):
        np.testing.assert_allclose(y, expected, atol=1e-5)
    # Of a 1x1 map, zeros around leave the middle of the kernel.
    middle = np.where(np.asarray(CASES[0][0].kernel) >= 0, 1, -1)[1, 1]
    expected = np.where(arrays[0] >= 0, 1, -1)[:, 0, 0] @ middle
    np.testing.assert_array_equal(actual[0][:, 0, 0], expected)
    report, off = compared(model, tmp_path)
    counts = [getattr(layer, "groups", 1) * len(shapes) for layer, shapes in CASES]
    assert report.lce_bconv2d == report.binary_layers == sum(counts)
    assert max(off) < 1e-4
    names = [name.split("/")[-1] for name in deploy.binary_layers(model)]
    assert [names.count(layer.name) for layer, _ in CASES] == counts


def test_weights_are_stored_once(tmp_path):
    one, two = (
        deploy.convert(shared(conv(), *shapes), tmp_path / "m.tflite", verify=False)
        for shapes in (squares(5), squares(5, 4))
    )
    kernel = 8 * 9 * 4  # eight bits of 32, each
    assert two.size_bytes < one.size_bytes + kernel + 400


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


def joined(*ends):
    return layers.Dense(4)(layers.GlobalAveragePooling2D()(layers.Add()(ends)))


def moved(x):
    return layers.MaxPooling2D(2, 1, padding="same")(x)


def normed(x):
    return layers.BatchNormalization()(layers.BatchNormalization()(x))


# Of each, conversion makes branches shorter or longer, and Keras lists the uses in
# another order then.
BRANCHES = (
    # norms before
    lambda conv, x: joined(conv(x), conv(normed(moved(normed(x))))),
    # norms after
    lambda conv, x: joined(conv(moved(x)), normed(conv(x))),
    # a convolution after
    lambda conv, x: joined(
        layers.Conv2D(8, 1)(normed(conv(x))), layers.ReLU()(conv(moved(x)))
    ),
)


def test_of_branches(tmp_path):
    models = []
    for branches in BRANCHES:
        inputs = keras.Input((4, 4, 8))
        models.append(scrambled(keras.Model(inputs, branches(conv(), inputs))))
    model = beside(models)
    report, off = compared(model, tmp_path)
    assert report.lce_bconv2d == 2 * len(models)
    assert max(off) < 1e-4
    signs = [np.sign(x) for x in examples(model)]
    folded = outputs(fold_batch_norm(model), signs)
    quantized = outputs(deploy.fake_quantize(model, signs, verify=False), signs)
    for i, expected in enumerate(outputs(model, signs)):
        np.testing.assert_allclose(folded[i], expected, atol=1e-4)
        assert np.abs(quantized[i] - expected).max() < np.ptp(expected) / 4
