"""Differences from the papers, one at a time: do they change what a short run reaches?

Digits, ReActNet-18 of width 8 with a block in each of two stages. Each pair trains as
this package does, and as the paper or its published code does, for the same seeds.
A run whose accuracy is in `--output` is not repeated.

    python benchmarks/differences.py
"""

from __future__ import annotations

import json
import tempfile
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from unittest.mock import patch

import larq_nobn as nobn
import click
import tensorflow as tf
from _results import command, output, seeds, write
from larq_nobn._larq import lq
from larq_nobn.models import _normalizations, _parts
from larq_nobn.training import _network, _runs_before

NETWORK = {"dataset": "digits", "width": 8, "blocks": (1, 1), "batch_size": 64}
EPOCHS = 20
# So few steps need a higher rate than that of the papers.
RATE = 1e-2
_adam = tf.keras.optimizers.Adam
_kernel, _first = _parts.Parts._kernel, _runs_before.first_stage


@tf.keras.utils.register_keras_serializable("differences")
class PerEpoch(tf.keras.optimizers.schedules.PolynomialDecay):
    """The rate of a linear decay at the end of the epoch, as in the published code."""

    steps = 1

    def __call__(self, step):
        steps = tf.cast(self.steps, tf.float32)
        return super().__call__((tf.cast(step, tf.float32) // steps + 1) * steps)


def per_epoch(settings, steps):
    PerEpoch.steps = steps
    return PerEpoch(settings.learning_rate, steps * settings.epochs, 0.0)


@tf.keras.utils.register_keras_serializable("differences")
class PublishedKernel(lq.quantizers.MagnitudeAwareSign):
    """The mean magnitude times the sign; its pseudo-gradient has no factor."""

    def call(self, inputs):
        clipped = tf.clip_by_value(inputs, -1.0, 1.0)
        return clipped + tf.stop_gradient(super().call(inputs) - clipped)


def own_start(self, name, scale, binary, pool=1):
    """The options of a kernel; PyTorch's start for one of the first stage."""
    options = _kernel(self, name, scale, binary, pool)
    if binary and not self.binary_weights:
        start = tf.keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform")
        options["kernel_initializer"] = start
    return options


def regularized(**arguments):
    made = partial(nobn.quantizers.BinaryRegularized, order=1, **arguments)
    return patch.dict(
        _network.KERNELS, bnn_plus=lambda: made(nobn.quantizers.SignSwish())
    )


def constants(owner, **values):
    return [partial(patch.object, owner, name, value) for name, value in values.items()]


published_epsilon = partial(
    patch.object,
    _adam.__init__,
    "__defaults__",
    tuple(1e-8 if value == 1e-7 else value for value in _adam.__init__.__defaults__),
)
VITA = {"recipe": "vita_cifar", "epochs": EPOCHS // 2}
BATCH_NORM = {"recipe": "plain", "normalization": "batch_norm"}
BNN_PLUS = {"recipe": "bnn_plus"}
FRN = {"recipe": "filter_response", "schedule": "cosine"}
# By the name of a difference: the settings, and what makes them those of the paper.
PAIRS = {
    "epsilon": ({"recipe": "plain"}, [published_epsilon]),
    "rate": (
        {"recipe": "plain"},
        constants(_network, schedule_for=per_epoch),
    ),
    "strength": (BNN_PLUS, [partial(regularized, strength=1e-6)]),
    "regularizer_start": (
        BNN_PLUS,
        [partial(regularized, strength=1e-7, initial_scale=1.0)],
    ),
    "batch_norm_gradient": (
        BATCH_NORM,
        constants(_parts.lq.quantizers, MagnitudeAwareSign=PublishedKernel),
    ),
    "zero_shifts": (
        {"recipe": "plain", "normalization": "none"},
        constants(_parts, OFFSET=0.0),
    ),
    "zero_shifts_batch_norm": (
        BATCH_NORM,
        [partial(patch.object, _normalizations.START, "value", 0.0)],
    ),
    "warm_up": (FRN, {"warmup_epochs": 2}),
    "first_stage_start": (VITA, constants(_parts.Parts, _kernel=own_start)),
    "first_stage_decay": (VITA, {"stage_one_decay": 0.0}),
    "epsilon_ab": ({"recipe": "ab_cifar", "epochs": EPOCHS // 2}, [published_epsilon]),
    "best_weights": (
        VITA | {"validation": 0.2},
        constants(
            _runs_before, first_stage=lambda settings: _first(settings).but(keep="best")
        ),
    ),
}


def accuracy(settings, changes, seed):
    """The test accuracy in percent of a run with these changes."""
    options = changes if isinstance(changes, dict) else {}
    chosen = {"recipe": "plain", "epochs": EPOCHS, "learning_rate": RATE}
    chosen |= {**NETWORK, **settings, "seed": seed}
    made = nobn.training.RunSettings.from_recipe(chosen.pop("recipe"), **chosen)
    tf.keras.backend.clear_session()
    with ExitStack() as stack, tempfile.TemporaryDirectory() as folder:
        for change in () if options else changes:
            stack.enter_context(change())
        run = nobn.training.train(made.but(**options), Path(folder) / "run")
    return 100 * run.record["metrics"]["test_accuracy"]


def as_here(settings):
    """The key of the runs without a change, which several pairs may share."""
    return "-".join(f"{name}={value}" for name, value in sorted(settings.items()))


def effects(runs):
    """By difference: accuracy for each seed, as here and as in the paper."""
    found = {}
    for name, (settings, _) in PAIRS.items():
        keys = as_here(settings), name
        done = [s for s in "012" if all(f"{key} {s}" in runs for key in keys)]
        pair = [", ".join(f"{runs[f'{key} {s}']:.1f}" for s in done) for key in keys]
        if done:
            found[name] = " / ".join(pair)
    return found


@click.command(help=__doc__)
@output("differences")
@seeds("0,1,2")
def main(output, seeds):
    found = output / "result.json"
    kept = json.loads(found.read_text(encoding="utf-8")) if found.exists() else {}
    runs = kept.get("accuracy", {})
    for seed in seeds:
        for name, (settings, changes) in PAIRS.items():
            for key, what in ((as_here(settings), ()), (name, changes)):
                if f"{key} {seed}" not in runs:
                    start = time.perf_counter()
                    runs[f"{key} {seed}"] = round(accuracy(settings, what, seed), 2)
                    print(key, seed, runs[f"{key} {seed}"], end=" ")
                    print(f"{time.perf_counter() - start:.0f} s", flush=True)
                    write({"command": command(), "accuracy": runs}, found)


if __name__ == "__main__":
    main()
