"""The float network that teaches, and what is learned from any other."""

from __future__ import annotations

import numpy as np
import pytest
from larq_nobn import training
from larq_nobn._keras import keras
from larq_nobn.models._float_resnet import float_resnet
from larq_nobn.training._network import probabilities_of
from larq_nobn.training._runs_before import runs_before, teacher_settings
from numpy.testing import assert_allclose

IMAGES = np.random.default_rng(0).normal(size=(6, 8, 8, 1)).astype(np.float32)


def test_the_defaults_are_resnet_18():
    with pytest.raises(ValueError, match="normalization='nobn' is not supported by F"):
        float_resnet((8, 8, 1), 10, normalization="nobn")
    model = float_resnet((64, 64, 3), 1000)
    trainable = sum(np.prod(weight.shape) for weight in model.trainable_weights)
    assert trainable == 11_689_512  # as in PyTorch's model zoo
    assert model.get_layer("stage1_block1_act").output_shape == (None, 16, 16, 64)
    assert model.get_layer("stage4_block2_act").output_shape == (None, 2, 2, 512)


def test_a_block_is_what_its_formula_says():
    model = float_resnet((8, 8, 1), 3, width=2, blocks=(1, 1))
    rng = np.random.default_rng(1)
    weights = [rng.normal(size=w.shape) ** 2 + 0.1 for w in model.get_weights()]
    model.set_weights(weights)
    names = ["stem_act", "stage1_block1_first_norm", "stage1_block1_second_norm"]
    names += ["stage1_block1_act", "stage2_block1_shortcut_norm"]
    names += ["stage2_block1_second_norm", "stage2_block1_act"]
    outputs = [model.get_layer(name).output for name in names]
    x, first, second, y, shortcut, branch, z = (
        np.asarray(part) for part in keras.Model(model.inputs, outputs)(IMAGES)
    )
    assert_allclose(y, np.maximum(second + x, 0), rtol=1e-5)
    assert_allclose(z, np.maximum(branch + shortcut, 0), rtol=1e-5)
    # The 1x1 convolution of every other position, under batch norm in inference.
    kernel = model.get_layer("stage2_block1_shortcut_conv").kernel.numpy()[0, 0]
    norm = model.get_layer("stage2_block1_shortcut_norm")
    gamma, beta, mean, variance = norm.get_weights()
    # Of an even size TensorFlow pads nothing before a 1x1 kernel.
    plain = y[:, ::2, ::2] @ kernel
    expected = (plain - mean) / np.sqrt(variance + 1e-5) * gamma + beta
    assert_allclose(shortcut, expected, rtol=1e-4)
    assert first.shape == (6, 8, 8, 2)


def test_a_teacher_has_the_size_and_data_of_its_student_and_a_recipe_of_its_own():
    student = training.RunSettings.from_recipe(
        "distillation", dataset="digits", width=8, blocks=(4, 4, 1), epochs=7, limit=64
    )
    settings = teacher_settings(student)
    assert settings.model == "FloatResNet"
    assert settings.normalization == "batch_norm"
    assert (settings.width, settings.blocks) == (8, (2, 2, 1))
    assert (settings.dataset, settings.limit, settings.epochs) == ("digits", 64, 7)
    assert (settings.optimizer, settings.schedule) == ("sgd", "cosine")
    assert (settings.teacher, settings.stages, settings.clip_factor) == (None, 1, 0)
    assert (settings.calibrate, dict(settings.network)) == (False, {})
    assert (
        teacher_settings(training.RunSettings("plain", teacher="train")).blocks is None
    )
    tuned = training.RunSettings.from_recipe("fine_tune", init="a", teacher="train")
    settings = teacher_settings(tuned)
    assert (settings.init, settings.backbone_multiplier) == (None, 1.0)


def test_consecutive_teachers():
    two = {"stages": 2, "teacher": "consecutive", "attention": 0.5}
    settings = training.RunSettings.from_recipe("plain", dataset="digits", **two)
    runs = runs_before(settings)
    assert [*runs] == ["teacher", "stage1"]
    assert (runs["teacher"].teacher, runs["teacher"].attention) == (None, 0)
    assert (runs["stage1"].teacher, runs["stage1"].attention) == ("train", 0.5)
    with pytest.raises(ValueError, match="'consecutive' is for two stages"):
        settings.but(stages=1)


def classifier(classes: int = 3, **last: object) -> keras.Model:
    keras.utils.set_random_seed(2)
    inputs = keras.Input((8, 8, 1))
    x = keras.layers.Dropout(0.9)(keras.layers.Flatten()(inputs))
    return keras.Model(inputs, keras.layers.Dense(classes, **last)(x))


@pytest.mark.parametrize("activation", [None, "softmax"])
def test_probabilities_of_logits_and_of_a_softmax(activation: str | None):
    teacher = classifier(activation=activation)
    kernel, _ = teacher.get_weights()
    powers = np.exp(IMAGES.reshape(6, -1).astype(np.float64) @ kernel)
    expected = powers / powers.sum(1, keepdims=True)
    probabilities = probabilities_of(teacher, "of a test", (8, 8, 1), 3)
    assert_allclose(probabilities(IMAGES), expected, rtol=1e-5)  # without dropout


def test_a_teacher_of_something_else_is_rejected():
    with pytest.raises(ValueError, match=r"runs/x maps \(None, 8, 8, 1\) to \(None, 3"):
        probabilities_of(classifier(), "runs/x", (8, 8, 1), 10)
    with pytest.raises(ValueError, match=r"images of \(32, 32, 3\) to 3 classes"):
        probabilities_of(classifier(), "runs/x", (32, 32, 3), 3)
    two = [keras.Input((8, 8, 1)), keras.Input((8, 8, 1))]
    both = keras.Model(two, keras.layers.Concatenate()(two))
    with pytest.raises(ValueError, match="has to map"):
        probabilities_of(both, "runs/x", (8, 8, 1), 2)
