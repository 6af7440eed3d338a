"""The page of differences states the constants of the code, and measured effects."""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path

import larq_nobn as nobn
import differences
import numpy as np
import tensorflow as tf
from larq_nobn.training._network import KERNELS, optimizer_for, schedule_for
from larq_nobn.training._runs_before import first_stage

ROOT = Path(__file__).parents[2]
ROWS = {
    key: cells.split(" | ")
    for key, cells in re.findall(
        r"^\| `(\w+)`: (.*) \|$", (ROOT / "docs/methods.md").read_text("utf-8"), re.M
    )
}


def settings_of(recipe):
    small = {"dataset": "digits", "width": 8, "blocks": (1, 1), "epochs": 2}
    return nobn.training.RunSettings.from_recipe(recipe, **small)


def network(normalization, **options):
    build = nobn.models.ReActNet18
    return build((8, 8, 1), 10, normalization, width=8, blocks=(1, 1), **options)


def values(weight):
    """The different values of a weight."""
    return sorted({f"{x:g}" for x in weight.numpy()})


def default(of, name):
    return inspect.signature(of).parameters[name].default


def constants():
    """By row, what the code says, as the row has to say it."""
    stages = {name: settings_of(name) for name in ("vita_cifar", "ab_cifar")}
    optimizer = optimizer_for(stages["ab_cifar"], 5, network("nobn"))
    plain = optimizer_for(settings_of("plain"), 5, network("nobn"))
    free, normalized = network("none"), network("batch_norm")
    block = "stage1_block1_conv"
    kernel = normalized.get_layer(block).kernel_quantizer
    start = nobn.quantizers.BinaryRegularized("ste_sign")
    start(tf.zeros((3, 3, 32, 32)))
    standardized = nobn.quantizers.ScaledStdSign
    return {
        "first_stage_start": ["[0, 0.001]"],
        "first_stage_decay": [
            f"{first_stage(each).weight_decay:g} in `{name}`"
            for name, each in stages.items()
        ],
        "best_weights": [f"`keep` is `{first_stage(stages['ab_cifar']).keep}`"],
        "rate": [settings_of("plain").schedule, "at every step"],
        "epsilon": [f"{plain.inner_optimizer.epsilon:g}, Keras'"],
        "epsilon_ab": [
            f"{optimizer.inner_optimizer.epsilon:g}, Keras'",
            f"of clipping is {optimizer.epsilon:g}",
            f"kernels {default(standardized, 'epsilon'):g}",
        ],
        "zero_shifts": values(free.get_layer(block).input_quantizer.shift),
        "zero_shifts_batch_norm": values(normalized.get_layer("stem_norm").beta),
        "batch_norm_gradient": [f"`{type(kernel).__name__}`"],
        "strength": [
            f"{KERNELS['bnn_plus']().strength:g} in the recipe `bnn_plus`",
            *(
                f"{default(each, 'strength'):g} by default in"
                for each in (
                    nobn.quantizers.BinaryRegularized,
                    nobn.regularizers.BinaryRegularizer,
                )
            ),
        ],
        "regularizer_start": [f"{float(start.scale):.4f} for 3x3 and 32 channels"],
        "warm_up": [f"{settings_of('filter_response').warmup_epochs} epochs"],
    }


def test_rows_state_the_constants_of_the_code():
    found = constants()
    assert [*ROWS] == [*found, "tlu"]
    for key, texts in found.items():
        for text in texts:
            assert text in ROWS[key][2], key
    assert all(len(row) == 5 for row in ROWS.values())


def test_first_stage_starts_as_the_binary_kernels():
    first = network("nobn", binary_weights=False).get_layer("stage1_block1_conv")
    kernel = first.kernel.numpy()
    assert 0 <= kernel.min() < 1e-4 and 9e-4 < kernel.max() <= 1e-3


def test_rate_falls_at_every_step():
    rates = [float(schedule_for(settings_of("plain"), 5)(step)) for step in range(11)]
    np.testing.assert_allclose(rates, 1e-3 * (1 - np.arange(11) / 10), atol=1e-9)


def test_gradient_of_batch_norm_kernels_has_the_factor():
    """Against the stated formula: the mean magnitude, itself a constant."""
    kernel = network("batch_norm").get_layer("stage1_block1_conv").kernel_quantizer
    w = np.random.default_rng(0).uniform(-0.9, 0.9, (3, 3, 4, 2)).astype(np.float32)
    g = np.random.default_rng(1).normal(size=w.shape).astype(np.float32)
    x = tf.Variable(w)
    with tf.GradientTape() as tape:
        value = kernel(x)
    found = tape.gradient(value, x, g)
    mean = np.abs(w.astype(np.float64)).mean((0, 1, 2))
    np.testing.assert_allclose(found, mean * g, rtol=1e-5)


def test_thresholded_linear_units_replace_relus_alone():
    def count(model, kind):
        return sum(isinstance(layer, kind) for layer in model.layers)

    unit, relu = nobn.layers.ThresholdedLinearUnit, tf.keras.layers.ReLU
    assert count(network("filter_response"), unit) == 0
    build = nobn.models.MeliusNet22
    with_frn, with_bn = (
        build((8, 8, 1), 10, normalization=name, width=16, blocks=(1, 1))
        for name in ("filter_response", "batch_norm")
    )
    assert count(with_frn, unit) == count(with_bn, relu) > 0


def test_effects_are_those_of_the_log():
    stored = json.loads((ROOT / "results/differences/result.json").read_text("utf-8"))
    found = differences.effects(stored["accuracy"])
    for key, row in ROWS.items():
        assert row[4].startswith(found.get(key, "not measured")), key
