"""Quantizers of the user's: binary convolutions, or named as what stays float."""

import larq_nobn as nobn
import larq as lq
import pytest
import tensorflow as tf
from deploy.nets import binary_conv, images, scrambled
from larq_nobn._keras import keras
from larq_nobn.deploy import ConversionError, binary_layers

layers = keras.layers
ZEROS = {"pad_values": 0.0}


@tf.custom_gradient
def straight_through(x):
    return tf.sign(x) + tf.cast(x == 0, x.dtype), lambda upstream: 3.0 * upstream


class Own(layers.Layer):
    def call(self, inputs):
        return tf.where(inputs < 0, -1.0, 1.0)


def scaled(x):
    return tf.reduce_mean(tf.abs(x), [0, 1, 2], keepdims=True) * straight_through(x)


def above(x):
    return tf.where(x > 0, 1.0, -1.0)


def of_all_kinds():
    """Binary layers whose signs are the user's, padded with zeros, in a row."""
    inputs = keras.Input((4, 4, 8))
    own = straight_through
    rows = [
        binary_conv(8, 3, "a", input_quantizer=own, kernel_quantizer=own, **ZEROS),
        layers.BatchNormalization(),
        layers.Activation(own, name="s1"),
        binary_conv(8, 3, "b", input_quantizer=None, kernel_quantizer=scaled, **ZEROS),
        layers.Lambda(lambda x: lq.math.sign(x), name="s2"),
        binary_conv(8, 3, "c", input_quantizer=None, **ZEROS),
        Own(name="s3"),
        binary_conv(8, 3, "d", input_quantizer=None, **ZEROS),
        binary_conv(8, 3, "e", input_quantizer=lambda x: tf.cast(x > 0, x.dtype)),
        layers.ReLU(),
        binary_conv(8, 3, "g", input_quantizer=above, **ZEROS),
        layers.ReLU(),
        layers.Lambda(above, name="s4"),
        binary_conv(8, 3, "h", input_quantizer=None, **ZEROS),
        layers.Flatten(),
        lq.layers.QuantDense(
            3,
            input_quantizer=Own(),
            kernel_quantizer=lambda x: tf.reduce_mean(tf.abs(x)) * lq.math.sign(x),
            kernel_constraint="weight_clip",
            name="f",
        ),
    ]
    x = inputs
    for row in rows:
        x = row(x)
    return scrambled(keras.Model(inputs, x))


@pytest.mark.convert
def test_signs_of_the_user_become_binary_convolutions(tmp_path):
    model = of_all_kinds()
    x = images(2, (4, 4, 8))
    report = nobn.convert(model, tmp_path / "model.tflite", data=x)
    assert report.lce_bconv2d == report.binary_layers == 8
    assert report.in_float == [] and report.not_prepared is None
    assert report.verify["unexplained"] == 0
    folded = nobn.fold_batch_norm(model)
    assert folded.get_layer("a").input_quantizer is straight_through
    assert folded.get_layer("s1").activation is straight_through
    assert type(folded.get_layer("s3")) is Own


@pytest.mark.convert
def test_a_sign_may_select_from_maps_of_several_examples(tmp_path):
    def selected(x):
        return tf.where(x >= 0, tf.ones_like(x), -tf.ones_like(x))

    inputs = keras.Input((4, 4, 8))
    model = keras.Model(inputs, binary_conv(8, input_quantizer=selected)(inputs))
    report = nobn.convert(model, tmp_path / "m.tflite", batch_size=2)
    assert report.lce_bconv2d == report.binary_layers == 1


@pytest.mark.convert
def test_a_convolution_of_the_users_may_take_a_sign_that_differs_at_0(tmp_path):
    class Own2D(lq.layers.QuantConv2D):
        pass

    options = {"kernel_quantizer": "ste_sign", "kernel_constraint": "weight_clip"}
    inputs = keras.Input((4, 4, 8))
    x = Own2D(8, 3, input_quantizer=above, name="c", **options)(inputs)
    report = nobn.convert(keras.Model(inputs, x), tmp_path / "m.tflite")
    assert report.lce_bconv2d == report.binary_layers == 1
    assert report.verify["exact_share"] == 1


STAYS = {
    "input": lambda x, of: binary_conv(8, 3, "c", input_quantizer=of)(x),
    "dense": lambda x, of: lq.layers.QuantDense(
        8,
        input_quantizer=of,
        kernel_quantizer="ste_sign",
        kernel_constraint="weight_clip",
        name="c",
    )(x),
    "lambda": lambda x, of: binary_conv(8, 3, "c", input_quantizer=None)(
        layers.Lambda(of)(x)
    ),
}


def almost(place):
    inputs = keras.Input((4, 4, 8))
    x = STAYS[place](binary_conv(8, 3, "binary")(inputs), tf.sign)
    return scrambled(keras.Model(inputs, x))


@pytest.mark.parametrize("place", STAYS)
def test_what_is_almost_a_sign_is_named(place):
    said = "layer 'c'.* gives 0 at 0, while LCE's sign is -1 below 0 and [+]1 from 0"
    with pytest.raises(ConversionError, match=said):
        nobn.deploy.prepared(almost(place))
    assert binary_layers(almost(place)) == ["binary"]
