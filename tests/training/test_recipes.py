"""What recipes say, how they are changed, and the parts of a run they decide."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import larq_nobn as nobn
import larq as lq
import numpy as np
import pytest
import tensorflow as tf
from larq_nobn._keras import keras
from larq_nobn.graph._signs import is_binary
from larq_nobn.training import RECIPES, Recipe, RunSettings
from larq_nobn.training._network import (
    KERNELS,
    build_network,
    optimizer_for,
    scale_latent_weights,
    schedule_for,
    with_kernels,
)

SMALL = {"width": 4, "blocks": (1, 1)}


def small_network(**options):
    return nobn.models.ReActNet18((8, 8, 1), 10, **SMALL, **options)


@pytest.fixture(scope="module")
def with_batch_norm():
    return small_network(normalization="batch_norm")


# The other recipes are one of these with further epochs, or with a part before it;
# `test_run.py` trains the kernel of bnn_plus, and `test_mode.py` that of bayesian.
@pytest.mark.slow
@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize(
    "name, chosen",
    [
        ("ab_cifar", {}),
        ("recu_cifar", {}),
        ("nobn", {"kernel": "biper", "network": {"estimator": "progressive_sign"}}),
    ],
)
def test_recipes_train(name: str, chosen: dict, tmp_path):
    settings = RunSettings.from_recipe(
        name, dataset="digits", width=4, blocks=(1,), **chosen
    )
    short = {"epochs": 1, "warmup_epochs": 0, "stages": 1, "batch_size": 4, "limit": 4}
    trainer = nobn.training.Trainer(replace(settings, **short), output=tmp_path / "run")
    model = trainer.build()
    x = np.random.default_rng(0).normal(size=(4, 8, 8, 1)).astype("float32")
    loss = trainer.model.train_on_batch(x, np.arange(4), return_dict=True)["loss"]
    assert 0 < loss < 10
    nobn.training.save_model(model, tmp_path / "model.keras")
    again = nobn.training.open_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(again(x), model(x))


def test_recipes_fit_every_network_and_calibrate_what_they_can():
    # By hand: whose signs or activations have shifts, and what looks at the batch.
    shifted = ["none", "nobn", "filter_response", "proxy", "group", "evonorm"]
    shifted.append("dynamic_tanh")
    for model in nobn.models.BUILDERS:
        for name, recipe in RECIPES.items():
            if recipe.kernel is None:
                settings = RunSettings.from_recipe(name, model=model)
                assert settings.network.items() <= recipe.network.items()
        calibrated = [
            name
            for name in nobn.models.NORMALIZATIONS
            if RunSettings.from_recipe(
                "nobn", model=model, normalization=name
            ).calibrate
        ]
        has_shifts = model.startswith(("ReActNet", "ReCUResNet"))
        expected = shifted if has_shifts else ["nobn"]
        assert sorted(calibrated) == sorted(expected), model


def test_the_recipe_follows_the_normalization():
    assert RunSettings.from_recipe().recipe == "nobn"
    for normalization in nobn.models.NORMALIZATIONS:
        settings = RunSettings.from_recipe(normalization=normalization)
        assert (settings.recipe, settings.normalization) == (normalization,) * 2
        assert RunSettings.from_recipe(normalization) == settings
    assert RunSettings.from_recipe("none", normalization="proxy").recipe == "none"


TUNING = Path(__file__).parents[2] / "results" / "tuning" / "result.json"
MEASURED = json.loads(TUNING.read_text(encoding="utf-8"))["accuracies"]
# By halving.py and single_examples.py, which compare borders on the same images.
MIRRORED = ("nobn", "batch_norm", "none")
TUNED = [name for name in nobn.models.NORMALIZATIONS if name in MEASURED]


def chosen(actual: list[dict]) -> dict:
    """The candidate of the highest mean, of those that were trained most often."""
    most = max(len(each["reached"]) for each in actual)
    often = [each for each in actual if len(each["reached"]) == most]
    return max(often, key=lambda each: np.mean(each["reached"]))


@pytest.mark.parametrize("normalization", TUNED)
def test_a_recipe_is_the_best_that_was_measured(normalization: str):
    """The candidate in bold on the page, which was chosen on held-out images."""
    best = chosen(MEASURED[normalization])
    settings = RunSettings.from_recipe(normalization)
    assert settings.learning_rate == best["learning_rate"]
    centred = best["form"] in ("centred", "mirrored")
    assert (settings.kernel == "scaled_std_sign") == centred
    mirrored = best["form"] == "mirrored" or normalization in MIRRORED
    assert settings.reflect == mirrored
    free = normalization not in nobn.models.BATCH_STATISTICS
    assert settings.calibrate == (free and best["form"] != "as built")


def test_schedules():
    settings = RunSettings("plain", epochs=4, learning_rate=0.1)
    rates = [float(schedule_for(settings, 10)(step)) for step in (0, 10, 40)]
    np.testing.assert_allclose(rates, [0.1, 0.075, 0], atol=1e-7)
    for warmup in (0, 4):
        cosine = {"schedule": "cosine", "warmup_epochs": warmup}
        schedule = schedule_for(replace(settings, epochs=10, **cosine), 5)
        for step in range(0, 50, 7):
            if step < 5 * warmup:  # from a fifth of the rate to all of it, as a line
                wanted = 0.02 + 0.08 * step / (5 * warmup)
            else:
                done = (step - 5 * warmup) / (50 - 5 * warmup)
                wanted = 0.05 * (1 + math.cos(math.pi * done))
            np.testing.assert_allclose(float(schedule(step)), wanted, atol=1e-7)


def test_the_optimizer_is_the_one_of_the_recipe():
    network = small_network()
    sgd = RunSettings("plain", optimizer="sgd", momentum=0.8, clip_factor=0)
    optimizer = optimizer_for(sgd, 5, network)
    assert (type(optimizer).__name__, optimizer.momentum) == ("SGD", 0.8)
    adam = RunSettings.from_recipe("nobn")
    optimizer = optimizer_for(adam, 5, network)
    assert optimizer.clip_factor == 0.02
    groups = optimizer.inner_optimizer
    assert list(groups.multipliers.values()) == [4.0]
    assert groups.inner_optimizer.beta_2 == 0.99


def test_random_kernels_follow_the_bayesian_rule(with_batch_norm):
    settings = RunSettings.from_recipe(
        "bayesian",
        normalization="batch_norm",
        schedule="cosine",
        warmup_epochs=1,
        clip_factor=0.02,
        prior_weight=0.25,
        temperature=0.125,
        natural_learning_rate=60.0,
    )
    network = with_kernels(with_batch_norm, settings)
    schedule = schedule_for(settings, 5)
    rule = optimizer_for(settings, 5, network)
    assert type(rule).__name__ == "BayesianLearningRule"
    assert rule.prior_weight == 0.25
    for step in (0, 3, 5, 50, 99):  # the same shape at 60 instead of 0.001
        natural = float(rule.natural_learning_rate(step))
        np.testing.assert_allclose(natural, 6e4 * float(schedule(step)), rtol=1e-5)
    assert rule.inner_optimizer.clip_factor == 0.02
    kernels = [v for v in network.weights if rule.is_bayesian_variable(v)]
    assert len(kernels) == 3
    assert {kernel.quantizer.temperature for kernel in kernels} == {0.125}
    assert {kernel.constraint.clip_value for kernel in kernels} == {5.0}
    alone = optimizer_for(settings, 5, with_batch_norm)
    assert type(alone).__name__ == "AdaptiveGradientClipping"


def test_every_kernel_takes_the_place_of_the_binary_ones():
    binary = {"kernel_quantizer": "ste_sign", "kernel_constraint": "weight_clip"}
    parts = [lq.layers.QuantDense(3, **way) for way in ({}, binary, binary)]
    plain = keras.Sequential([keras.Input((4,)), *parts])
    for name, make in KERNELS.items():
        network = with_kernels(plain, Recipe(kernel=name))
        first, *others = (layer.kernel_quantizer for layer in network.layers)
        assert first is None
        assert [*map(type, others)] == [type(make())] * 2
        assert others[0] is not others[1]


def test_weight_decay_adds_its_share_of_every_kernel_to_the_gradient():
    network = with_kernels(
        small_network(normalization="none"), Recipe(weight_decay=0.01)
    )
    images = np.zeros((1, 8, 8, 1), np.float32)
    with tf.GradientTape() as tape:
        network(images)
        loss = tf.add_n(network.losses)
    kernels = [v for v in network.trainable_variables if v.name.endswith("kernel:0")]
    gradients = tape.gradient(loss, kernels)
    assert len(kernels) == 5
    for kernel, gradient in zip(kernels, gradients, strict=True):
        latent = getattr(kernel, "latent_variable", kernel)
        np.testing.assert_allclose(gradient, 0.01 * latent.numpy(), rtol=1e-5)


def as_by(recipe: str, **chosen) -> keras.Model:
    """The network of a recipe before its first step."""
    keras.utils.set_random_seed(1)
    small = {"dataset": "digits", "width": 16, "blocks": (1, 1), **chosen}
    settings = RunSettings.from_recipe(recipe, **small)
    return build_network(settings, nobn.data.open_dataset("digits").info)


@pytest.mark.parametrize("model", ["ReActNet18", "XNORNet18"])
def test_the_recipe_of_recu_is_that_of_its_code(model: str):
    network = as_by("recu_cifar", model=model)
    signs = [
        layer
        for layer in network.layers
        if is_binary(layer) or is_binary(getattr(layer, "input_quantizer", None))
    ]
    assert signs
    for layer in signs:
        before = layer.inbound_nodes[0].inbound_layers
        assert type(before).__name__ == "ActivationStandardization"
    binary = [
        each
        for each in network.layers
        if is_binary(getattr(each, "kernel_quantizer", None))
    ]
    for layer in binary:
        assert type(layer.kernel_quantizer).__name__ == "ReCU"
        latent = layer.kernel.latent_variable.numpy()
        fan_in = np.prod(latent.shape[:-1])
        spread = 6 * (2 / fan_in) * np.sqrt(2 / latent.size)
        assert abs(latent.var() - 2 / fan_in) < spread
        assert latent.var() > 100 * 1e-5  # what ReCU adds to it


def test_the_recipe_of_add_and_bit_is_that_of_its_code():
    network = as_by("ab_cifar")
    slopes = [each for each in network.layers if type(each).__name__ == "RPReLU"]
    assert slopes and all(each.power_of_two for each in slopes)
    shortcut = network.get_layer("stage2_block1_shortcut_conv").kernel_quantizer
    assert shortcut.scale == 1.0
    # A builder that knows none of it gets none of it.
    assert set(RunSettings.from_recipe("ab_cifar", model="VGGSmall").network) == {
        *("variance_preserving", "balanced", "estimator")
    }


def test_stochastic_depth_drops_branches_of_single_images_in_training():
    network = as_by("plain", width=4, blocks=(2, 2), stochastic_depth=0.8)
    plain = as_by("plain", width=4, blocks=(2, 2))
    plain.set_weights(network.get_weights())
    x = np.random.default_rng(0).normal(size=(64, 8, 8, 1)).astype(np.float32)
    np.testing.assert_array_equal(network(x), plain(x))
    adds = [each for each in network.layers if each.name.endswith("_add")]
    watched = [(add.input[0]._keras_history.layer.input, *add.input) for add in adds]
    ends = keras.Model(network.input, [watched, [add.output for add in adds]])
    for number, ((branch, dropped, rest), y) in enumerate(
        zip(*ends(tf.repeat(x, 20, 0), training=True), strict=True), 1
    ):
        rate = 0.8 * number / 4
        kept = np.any(dropped.numpy() != 0, (1, 2, 3))
        assert abs(kept.mean() - (1 - rate)) < 4 * (rate * (1 - rate) / 1280) ** 0.5
        expected = kept[:, None, None, None] * branch.numpy() / (1 - rate)
        np.testing.assert_allclose(dropped, expected, rtol=1e-6)
        np.testing.assert_array_equal(y, dropped + rest)
    with pytest.raises(ValueError, match="VGGSmall|vgg_small|vggsmall"):
        as_by("plain", model="VGGSmall", blocks=None, stochastic_depth=0.1)


@pytest.mark.parametrize("recipe, each", [("vita_cifar", True), ("plain", False)])
def test_gains_are_clipped_as_published(recipe: str, each: bool):
    """Of four channels one has a large gradient, of 1 where its gain is 1."""
    network = small_network()
    settings = RunSettings.from_recipe(
        recipe, optimizer="sgd", momentum=0.0, learning_rate=1.0, **SMALL
    )
    optimizer = optimizer_for(settings, 5, network)
    gain, threshold = (
        next(v for v in network.trainable_variables if v.name.endswith(name))
        for name in ("gain:0", "shift:0")
    )
    threshold.assign([1.0, 1.0, 1.0, 1.0])
    gradient = np.array([1.0, 0.01, 0.01, 0.0])
    before = gain.numpy()
    np.testing.assert_array_equal(before, 1)
    given = tf.constant(gradient, tf.float32)
    optimizer.apply_gradients([(given, gain), (given, threshold)])
    clip = settings.clip_factor
    whole = gradient * clip * 2 / np.linalg.norm(gradient)  # a norm of 2 per layer
    single = np.minimum(gradient, clip)
    np.testing.assert_allclose(before - gain, single if each else whole, atol=1e-6)
    np.testing.assert_allclose(1 - threshold, whole, atol=1e-6)


def test_latent_weights_are_scaled_where_they_are_binary():
    network = small_network()
    before = network.get_weights()
    scale_latent_weights(network, 3.0)
    names = [weight.name for weight in network.weights]
    binary = [name for name in names if name.startswith("stage") and "kernel:" in name]
    assert len(binary) == 3
    for name, old, new in zip(names, before, network.get_weights(), strict=True):
        np.testing.assert_allclose(new, old * (3 if name in binary else 1), rtol=1e-6)


def test_what_looks_at_no_batch_starts_with_thresholds_of_its_images(tmp_path):
    chosen = {"dataset": "digits", "limit": 16, "batch_size": 16, **SMALL}
    for calibrate in (True, False):
        settings = RunSettings.from_recipe("nobn", calibrate=calibrate, **chosen)
        network = nobn.training.Trainer(settings, output=tmp_path).build()
        shifts = [w.numpy() for w in network.weights if w.name.endswith("shift:0")]
        assert (np.abs(shifts).max() > 1e-3) == calibrate
