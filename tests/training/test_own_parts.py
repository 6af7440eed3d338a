"""A kernel quantizer, a normalization and an estimator of a user, by name."""

from __future__ import annotations

from pathlib import Path

import larq as lq
import pytest
import tensorflow as tf
from larq_nobn import data, models, training
from click.testing import CliRunner
from larq_nobn._keras import keras
from larq_nobn.cli import main
from larq_nobn.graph._signs import is_binary
from larq_nobn.training import RunSettings
from larq_nobn.training._network import build_network


@keras.utils.register_keras_serializable("own_parts")
class CubicSign(lq.quantizers.Quantizer):
    precision = 1

    def call(self, inputs):
        return super().call(lq.math.sign(tf.identity(inputs)))


@keras.utils.register_keras_serializable("own_parts")
class Rms(keras.layers.Layer):
    def call(self, inputs):
        mean = tf.reduce_mean(tf.square(inputs), [1, 2], keepdims=True)
        return inputs * tf.math.rsqrt(mean + 1e-5)


KERNEL, NORM = "own_parts>CubicSign", "own_parts>Rms"
BUILDERS = ("ReActNet18", "ResNet20", "VGGSmall", "BinaryDenseNet28", "QuickNetSmall")


@pytest.mark.parametrize("model", BUILDERS)
def test_every_network_takes_them(model: str):
    settings = RunSettings(
        model=model,
        normalization=NORM,
        kernel=KERNEL,
        network={"estimator": KERNEL},
        width=8,
        dataset="cifar10",
    )
    network = build_network(settings, data.open_dataset("cifar10").info)
    kinds = [type(layer) for layer in network.layers]
    assert Rms in kinds and keras.layers.BatchNormalization not in kinds
    quantizers = [getattr(each, "kernel_quantizer", None) for each in network.layers]
    binary = [each for each in quantizers if is_binary(each)]
    assert binary and {type(each) for each in binary} == {CubicSign}
    signs = [getattr(each, "input_quantizer", each) for each in network.layers]
    assert CubicSign in [type(each) for each in signs]


def test_what_is_not_registered_is_said():
    for name in ("kernel", "normalization"):
        with pytest.raises(
            ValueError, match="not registered with Keras. Import the mod"
        ):
            RunSettings(**{"normalization": NORM, name: "other>Thing"})
    with pytest.raises(ValueError, match="normalization must be one of"):
        RunSettings(normalization="layer")
    with pytest.raises(ValueError, match="not registered with Keras"):
        models.ReActNet18((8, 8, 1), 10, "other>Thing", width=4, blocks=(1,))


def test_on_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    runs = []

    def stopped(settings: RunSettings, *_: object, **__: object):
        runs.append(settings)
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "train", stopped)
    words = ["--dataset", "digits", "--kernel", KERNEL, "--normalization"]
    CliRunner().invoke(main, ["train", *words, NORM, "--output", str(tmp_path / "a")])
    (settings,) = runs
    assert (settings.kernel, settings.normalization) == (KERNEL, NORM)
    cells = training.grid([NORM, "group"], seeds=[0, 1], kernel=KERNEL)
    names = [f"own_parts.Rms-128-{seed}" for seed in (0, 1)]
    assert [name for name in cells if name.startswith("own")] == names


def test_a_network_that_is_given_keeps_its_kernels():
    for recipe in ("batch_norm", "recu_cifar", "bnn_plus"):
        assert RunSettings(recipe, init="a", normalization=None).kernel is None
    assert RunSettings("batch_norm", init="a", normalization=None, kernel="recu").kernel
