"""Training behavior asked for at inference is rejected, wherever and however."""

import larq_nobn as nobn
import larq as lq
import numpy as np
import pytest
import tensorflow as tf
from larq_nobn import layers as own
from deploy.nets import binary_conv, chain, images
from deploy.sides import beside, compared
from larq_nobn._keras import keras
from larq_nobn.deploy import ConversionError, fake_quantize
from larq_nobn.graph._errors import ModelError
from larq_nobn.graph._models import check_inference

layers = keras.layers
LAYERS = [
    lambda: layers.Dropout(0.5),
    lambda: layers.GaussianNoise(0.5),
    lambda: layers.RandomFlip(),
    own.SignFlipDropout,
    layers.BatchNormalization,
    own.BatchKalmanNormalization,
    lambda: own.BatchNormalizationPreconditioning(layers.Conv2D(3, 1)),
    lambda: keras.Sequential([layers.Dropout(0.5)]),
    lambda: keras.Sequential([keras.Sequential([layers.BatchNormalization()])]),
]
CALLS = [
    lambda layer, x: layer(x, training=True),
    lambda layer, x: layer(x, True),
    lambda layer, x: layer(x, training=1),
]
OTHERS = [
    lambda layer, x: layer(x, training=False),
    lambda layer, x: layer(x, None),
    lambda layer, x: layer(x, training=0),
]
REJECTED = "is called with training=True, so that it"


def network(layer, call):
    inputs = keras.Input((8, 8, 3))
    x = call(layer, inputs)
    x = binary_conv(8)(layers.Conv2D(8, 1)(x[0] if isinstance(x, tuple) else x))
    return keras.Model(inputs, layers.GlobalAveragePooling2D()(x))


def test_every_kind_of_call_is_seen():
    for i, make in enumerate(LAYERS):
        with pytest.raises(ModelError, match=REJECTED):
            check_inference(network(make(), CALLS[i % 3]))
        check_inference(network(make(), OTHERS[i % 3]))


def test_every_function_of_inference_rejects_them():
    norm = network(layers.BatchNormalization(), lambda layer, x: layer(x))
    inputs = keras.Input((8, 8, 3))
    model = keras.Model(inputs, norm(layers.Dropout(0.5)(inputs, True)))
    for use, *arguments in (
        (nobn.convert, "model.tflite"),
        (nobn.fold_batch_norm,),
        (fake_quantize, images()),
        (nobn.freeze_statistics, images()),
        (nobn.reestimate_batch_norm, images()),
    ):
        with pytest.raises(ValueError, match=REJECTED):
            use(model, *arguments)


def test_the_innermost_argument_counts():
    inputs = keras.Input((4,))
    norm = layers.BatchNormalization()
    inner = keras.Model(inputs, layers.Dropout(0.5)(norm(inputs, False), None))
    fixed = keras.Model(inputs, norm(inputs, False))
    outer = keras.Input((4,))
    check_inference(keras.Model(outer, fixed(outer, training=True)))
    with pytest.raises(ModelError, match="'dropout.*' .Dropout. is called"):
        check_inference(keras.Model(outer, inner(outer, training=True)))


class Subclassed(keras.Model):
    def __init__(self, layer, **kwargs):
        super().__init__(**kwargs)
        self.inner, self.last = layer, binary_conv(8)

    def call(self, inputs):
        return self.last(self.inner(inputs, training=True))


@pytest.mark.parametrize(
    "layer, effect",
    [
        (layers.Dropout(0.5, name="inner"), "draws random numbers"),
        (layers.BatchNormalization(name="inner"), "changes its variables"),
    ],
)
def test_traced_models_are_asked_too(layer, effect):
    model = Subclassed(layer)
    model(tf.zeros((1, 8, 8, 3)))
    with pytest.raises(ConversionError, match=f"{effect} at inference.*'inner'"):
        nobn.convert(model, "model.tflite", verify=False)


class Noisy(layers.Layer):
    """A user's layer that decides by tensors whether it draws."""

    def __init__(self, way, **kwargs):
        super().__init__(**kwargs)
        self.way = way

    def call(self, x, training=None):
        drawn = lambda: x + tf.random.normal(tf.shape(x))  # noqa: E731
        if self.way == "always":
            return drawn()
        if self.way == "condition":
            return tf.cond(tf.constant(bool(training)), drawn, lambda: 2 * x)
        small = tf.logical_and(bool(training), tf.shape(x)[1] < 100)
        return tf.cond(small, drawn, lambda: tf.nn.relu(x))


def test_a_layer_that_draws_whatever_it_is_called_for():
    model = chain(Noisy("always", name="noise"), binary_conv(8), stem=False)
    message = "draws random numbers at inference.*'noise'.*training=True, or leave it"
    with pytest.raises(ConversionError, match=message):
        nobn.convert(model, "model.tflite", verify=False)


@pytest.mark.convert
def test_branches_for_training_are_left_out(tmp_path):
    """Of what is a condition of tensors: only training draws."""
    rows = {
        "a crop": layers.RandomCrop(3, 3),
        "a crop of all": layers.RandomCrop(8, 8),
        "a crop of more": layers.RandomCrop(9, 10),
        **{way: Noisy(way) for way in ("condition", "sizes")},
    }
    model = beside(
        chain(row, binary_conv(8), stem=False, name=name.replace(" ", "_"))
        for name, row in rows.items()
    )
    report, off = compared(model, tmp_path)
    assert report.binary_layers == len(rows)
    assert max(off) < 1e-3


class Counting(lq.quantizers.Quantizer):
    """A user's quantizer of kernels, which counts its calls."""

    precision = 1

    def build(self, shape):
        self.calls = self.add_weight("calls", (), initializer="zeros", trainable=False)

    def call(self, x):
        self.calls.assign_add(1.0)
        return lq.math.sign(x)


class Drawing(lq.quantizers.Quantizer):
    precision = 1

    def call(self, x):
        return lq.math.sign(x + tf.random.normal(tf.shape(x)))


@pytest.mark.parametrize(
    "kind, effect", [(Counting, "changes its var"), (Drawing, "draws random")]
)
def test_quantizers_of_kernels_are_asked_too(kind, effect):
    model = chain(binary_conv(8, kernel_quantizer=kind()))
    before = [weight.numpy() for weight in model.weights]
    with pytest.raises(ConversionError, match=f"{effect}.* at inference"):
        nobn.convert(model, "model.tflite", verify=False)
    after = [weight.numpy() for weight in model.weights]
    assert all(map(np.array_equal, before, after))


@pytest.mark.convert
def test_metrics_of_quantizers_neither_hinder_nor_change(tmp_path):
    measured = lq.quantizers.SteSign(metrics=["flip_ratio"])
    model = chain(binary_conv(8, kernel_quantizer=measured))
    before = [variable.numpy() for variable in measured.flip_ratio.variables]
    assert nobn.convert(model, tmp_path / "model.tflite").lce_bconv2d == 1
    after = [variable.numpy() for variable in measured.flip_ratio.variables]
    assert all(map(np.array_equal, before, after))
