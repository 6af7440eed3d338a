"""Estimators, normalizations, kernels and activations of a user, as objects."""

from __future__ import annotations

import inspect
from pathlib import Path

import larq_nobn as nobn
import larq as lq
import numpy as np
import pytest
import tensorflow as tf
from larq_nobn import layers, models, quantizers, training
from larq_nobn._keras import keras
from larq_nobn.graph._signs import is_binary, kernel_value
from models.networks import NETWORKS, Network
from training.runs import step_by_step, without_curves

register = keras.utils.register_keras_serializable("own_objects")


@register
class Cubic(lq.quantizers.Quantizer):
    """A sign, of kernels and of activations; its width is in the configuration."""

    precision = 1

    def __init__(self, width: float = 1.0, **kwargs):
        super().__init__(**kwargs)
        self.width = width

    def call(self, inputs):
        slope = 1.5 * tf.square(tf.nn.relu(1.0 - tf.abs(inputs) / self.width))
        straight = tf.stop_gradient(lq.math.sign(inputs) - slope * inputs)
        return super().call(straight + tf.stop_gradient(slope) * inputs)

    def get_config(self):
        return {**super().get_config(), "width": self.width}


@register
class Rms(layers.ChannelwiseLayer):
    def build(self, input_shape):
        self.gain = self.add_channel_weight("gain", "ones", input_shape)
        super().build(input_shape)

    def call(self, inputs):
        square = tf.reduce_mean(tf.square(inputs), [1, 2, 3], keepdims=True)
        return inputs * tf.math.rsqrt(square + 1e-5) * self.gain


@register
class Bent(layers.ChannelwiseLayer):
    """max(x, kx), k per channel."""

    def build(self, input_shape):
        self.k = self.add_channel_weight("k", 0.25, input_shape)
        super().build(input_shape)

    def call(self, inputs):
        return tf.maximum(inputs, inputs * self.k)


@register
class Doubled(quantizers.ScaledKernel):
    """2·scale·gain·sign(W)."""

    precision = 1

    def call(self, inputs):
        straight = inputs + tf.stop_gradient(lq.math.sign(inputs) - inputs)
        return self._measured(2.0 * self.scale * straight * self._gain_for(inputs))


@register
def triangle(z):
    return tf.nn.relu(1.0 - tf.abs(z))


OWN = {
    "estimator": Cubic(width=2.0),
    "kernel_quantizer": Cubic(width=3.0),
    "activation": Bent(),
}
# What networks have instead.
THEIRS = (layers.RPReLU, keras.layers.PReLU, keras.layers.ReLU)


def quantizers_of(model: keras.Model) -> tuple[list, list]:
    kernels = [getattr(each, "kernel_quantizer", None) for each in model.layers]
    signs = [getattr(each, "input_quantizer", each) for each in model.layers]
    return [*filter(is_binary, kernels)], [*filter(is_binary, signs)]


DESIGNS = [network for network in NETWORKS if network.own]


@pytest.mark.parametrize("network", DESIGNS, ids=lambda n: n.builder.__name__)
def test_every_network_takes_objects(network: Network):
    """A new one in each place, of the same configuration, and no other."""
    model = network(Rms(), **OWN)
    kernels, signs = quantizers_of(model)
    assert len(kernels) >= network.binary <= len(signs) + 3
    assert {type(each) for each in kernels + signs} == {Cubic}
    assert {each.width for each in kernels} == {3.0}
    assert {each.width for each in signs} == {2.0}
    kinds = [type(layer) for layer in model.layers]
    assert Rms in kinds and Bent in kinds and not {*kinds} & {*THEIRS}
    bends = [each.activation for each in model.layers if hasattr(each, "activation")]
    assert {*bends} <= {keras.activations.linear}
    for kind in (Cubic, Rms, Bent):
        made = [each for each in model.submodules if isinstance(each, kind)]
        assert len({id(each) for each in made}) == len({each.name for each in made})
        assert not {id(each) for each in made} & {id(each) for each in OWN.values()}


def test_all_builders_have_the_arguments():
    wanted = {"estimator", "normalization", "kernel_quantizer", "activation"}
    for build in models.BUILDERS.values():
        assert wanted <= inspect.signature(build).parameters.keys(), build.__name__


def test_masks_pass_through_own_parts():
    """And through their base classes, as through Keras' dropout."""
    x = keras.layers.Masking()(np.float32([[[0.0, 0.0], [1.0, 2.0]]]))
    for layer in (Bent(), Doubled(gain=False), quantizers.RSign(estimator=triangle)):
        np.testing.assert_array_equal(layer(x)._keras_mask, [[False, True]])


SMALL = {
    models.ResNet20: {"width": 32, "blocks": (1,)},
    models.QuickNetSmall: {"width": 32, "blocks": (1,)},
}


@pytest.mark.convert
@pytest.mark.parametrize("builder", SMALL)
def test_trained_saved_opened_and_converted(builder, tmp_path: Path):
    keras.utils.set_random_seed(3)
    model = builder((8, 8, 1), 10, Rms(), **OWN, **SMALL[builder])
    settings = training.RunSettings(
        "plain", dataset="digits", epochs=1, limit=16, batch_size=8, augment="none"
    )
    with step_by_step(), without_curves():
        run = training.train(settings, tmp_path / "run", False, model=model)
    opened = training.open_model(tmp_path / "run" / "model.keras")
    images = np.random.default_rng(0).normal(size=(2, 8, 8, 1)).astype(np.float32)
    np.testing.assert_array_equal(opened(images), run.model(images))
    pairs = zip(model.get_weights(), opened.get_weights(), strict=True)
    changed = [not np.array_equal(old, new) for old, new in pairs]
    assert sum(changed) > len(changed) / 2
    report = nobn.convert(opened, tmp_path / "a.tflite", data=images)
    assert report.lce_bconv2d == {models.ResNet20: 2}.get(builder, 1)


def test_an_own_scaled_kernel_has_the_factors_of_nobn():
    """Twice the factor of the place times its own, and Glorot's latent weights."""
    small = {"width": 8, "blocks": (1, 1), "alpha": 0.3}
    own = models.ReActNet18(
        (8, 8, 1), 3, kernel_quantizer=Doubled(scale=7.0, gain=False), **small
    )
    usual = models.ReActNet18((8, 8, 1), 3, **small)
    for name in ("stage1_block1_conv", "stage2_block1_shortcut_conv"):
        layer, theirs = own.get_layer(name), usual.get_layer(name)
        scale = theirs.kernel_quantizer.scale
        magnitude = np.abs(kernel_value(layer.kernel))
        np.testing.assert_allclose(magnitude, 14.0 * scale, rtol=1e-6)
        assert layer.kernel_constraint is None
        latent = layer.kernel.latent_variable.numpy()
        assert latent.min() < -0.01 and latent.max() > 0.01
    with pytest.raises(ValueError, match="has no scale, but the kernels of norm"):
        models.ReActNet18((8, 8, 1), 3, kernel_quantizer=Cubic(), **small)


@pytest.mark.parametrize(
    ("argument", "part", "kind"),
    [
        ("normalization", Rms, ValueError),
        ("activation", "relu", None),
        ("activation", "own_objects>Bent", None),
        ("activation", tf.nn.softplus, None),
        ("kernel_quantizer", "recu", None),
        ("kernel_quantizer", "own_objects>Cubic", None),
        ("estimator", "own_objects>Cubic", None),
        ("activation", "bent", ValueError),
        ("activation", 3, TypeError),
        ("kernel_quantizer", "other>Thing", ValueError),
        ("kernel_quantizer", 3.0, TypeError),
        ("estimator", int, TypeError),
        ("normalization", tf.nn.relu, TypeError),
    ],
)
def test_names_classes_and_functions(argument, part, kind):
    small = {"width": 4, "blocks": (1,), "normalization": "batch_norm"}
    build = lambda: models.ReActNet18((8, 8, 1), 3, **{**small, argument: part})  # noqa: E731
    if part is Rms or kind is None:
        model = build()
        assert model.get_layer("stage1_block1_act") is not None
        return
    with pytest.raises(kind, match=argument):
        build()


@pytest.mark.parametrize("given", [triangle, "own_objects>triangle"])
def test_an_estimator_is_a_function(given):
    """The derivative of RSign, by its formula, in networks and in files."""
    sign = quantizers.RSign(2.0, estimator=given, offset=0.1)
    x = np.linspace(-1, 1, 11, dtype=np.float32).reshape(-1, 1)
    with tf.GradientTape() as tape:
        inputs = tf.constant(x)
        tape.watch(inputs)
        value = sign(inputs)
    np.testing.assert_array_equal(value, np.where(2 * x + 0.1 >= 0, 1, -1))
    slope = 2 * np.maximum(0, 1 - np.abs(2 * x.astype(np.float64) + 0.1))
    np.testing.assert_allclose(tape.gradient(value, inputs), slope, atol=1e-6)
    assert sign.get_config()["estimator"] == "own_objects>triangle"
    again = quantizers.RSign.from_config(sign.get_config())
    assert again.estimator is triangle
    model = models.ReActNet18((8, 8, 1), 3, width=4, blocks=(1,), estimator=given)
    assert model.get_layer("stage1_block1_conv").input_quantizer.estimator is triangle


def test_an_estimator_without_a_name_cannot_be_saved(tmp_path: Path):
    """It can still be trained, copied and rebuilt in memory."""
    small = {"width": 4, "blocks": (1,), "estimator": lambda z: 0 * z + 1}
    model = models.ReActNet18((8, 8, 1), 3, **small)
    with pytest.raises(ValueError, match="is not registered, so it cannot be saved"):
        model.save(tmp_path / "a.keras")
    nobn.calibrate(model, np.random.default_rng(0).normal(size=(8, 8, 8, 1)))
    prepared = nobn.deploy.prepared(model)
    assert prepared.output_shape == (None, 3)
    for wrong in (int, 3, None, "triangle"):
        with pytest.raises(ValueError, match="estimator must be one of"):
            quantizers.RSign(estimator=wrong)
