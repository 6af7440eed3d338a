"""Trainings on an accelerator that has JAX, but no TensorFlow.

`export` compiles an epoch of a training to StableHLO, with the weights it starts from;
`_accelerator_epochs.py`, which needs NumPy and JAX alone, trains there; `finish` tests
what comes back here, and leaves a run folder as `larq-nobn train` does. Loss, clipping,
optimizer and learning rate are those of the recipe. Order, crops and latent weights are
drawn by NumPy instead of TensorFlow, and convolutions are those of the accelerator.

    python benchmarks/accelerator.py export runs/there '{"recipe": "nobn", "width": 64}'
    python benchmarks/_accelerator_epochs.py runs/there images.npz weights.npz --epochs 30
    python benchmarks/accelerator.py finish weights.npz runs/here '{"recipe": "nobn",
        "width": 64, "epochs": 30}'
"""

from __future__ import annotations

import json
import lzma
import re
from dataclasses import replace
from pathlib import Path

import larq_nobn as nobn
import click
import numpy as np
import tensorflow as tf
from _accelerator_epochs import drawn
from larq_nobn.calibration import calibrate
from larq_nobn.data._augment import varied, variation_of
from larq_nobn.models._weights import weights_by_name
from larq_nobn.training._callbacks import HistoryWriter
from larq_nobn.training._optimizer import optimizer_for

keras = tf.keras
# What an exported epoch does not do.
_UNSUPPORTED = {
    "accumulate": 1,
    "balance_classes": False,
    "init": None,
    "label_smoothing": 0.0,
    "limit": None,
    "mixup": 0.0,
    "schedule": "linear",
    "teacher": None,
}


class Linear(keras.optimizers.schedules.LearningRateSchedule):
    """Falls linearly from `height[0]` to 0 over `height[1]` steps."""

    def __init__(self, height):
        self.height = height

    def __call__(self, step):
        return self.height[0] * (1 - tf.cast(step, tf.float32) / self.height[1])


def settings_of(text):
    chosen = json.loads(text)
    recipe = chosen.pop("recipe", None)
    settings = nobn.training.RunSettings.from_recipe(recipe, **chosen)
    for name, usual in _UNSUPPORTED.items():
        if (value := getattr(settings, name)) != usual:
            raise click.UsageError(f"{name}={value!r} is not supported; it is {usual!r}.")
    return settings


def export(settings, folder):
    """Writes what `_accelerator_epochs.py` needs of a run of one stage."""
    trainer = nobn.training.Trainer(settings, output=folder / "unused")
    network = trainer.build()
    ranges = draw_latent_weights(network, settings.seed)
    if settings.calibrate:
        calibrate(network, trainer._few_images())
    info, batch = trainer.dataset.info, settings.batch_size
    steps = info.train_examples // batch
    height = tf.Variable([settings.learning_rate, 1.0], trainable=False)
    optimizer = optimizer_for(settings, Linear(height), network)
    optimizer.build(network.trainable_variables)
    variation = variation_of(True, info.name, info.image_shape, settings.reflect)
    epoch = epoch_of(network, optimizer, variation, info)
    shapes = {
        "images": ((info.train_examples, *info.image_shape), np.uint8),
        "labels": ((info.train_examples,), np.int32),
        "order": ((steps, batch), np.int32),
        "draws": ((steps, batch, 3), np.int32),
    }
    arguments = [tf.zeros(shape, dtype) for shape, dtype in shapes.values()]
    text = epoch.experimental_get_compiler_ir(*arguments)(stage="stablehlo")
    # An identity that other readers of StableHLO do not know.
    copy = r"mhlo\.copy (%\S+) : (tensor<[^>]*>)"
    text = re.sub(copy, r"stablehlo.reshape \1 : (\2) -> \2", text)
    found = epoch.get_concrete_function(*arguments)
    variables = {f"optimizer/{n}": v for n, v in enumerate(optimizer.variables)}
    for name, variable in weights_by_name(network).items():
        variables[f"weights/{name}"] = variable
    variables["height"] = height
    keys = {id(variable.handle): key for key, variable in variables.items()}
    for variable in found.graph.variables:
        keys.setdefault(id(variable.handle), f"other/{variable.name}")
        variables.setdefault(f"other/{variable.name}", variable)
    values = {}
    for n, each in enumerate(found.captured_inputs):
        key = keys.get(id(each), f"constant/{n}")
        values[key] = (variables.get(key, each)).numpy()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "epoch.mlir.xz").write_bytes(lzma.compress(text.encode()))
    described = {
        "arguments": {name: [list(shape), np.dtype(dtype).name] for name, (shape, dtype) in shapes.items()},
        "pad": variation.pad,
        "flip": variation.flip,
        "learning_rate": settings.learning_rate,
        "state": [[key, list(v.shape), v.dtype.name] for key, v in values.items()],
        "drawn": {f"weights/{name}": each for name, each in ranges.items()},
    }
    (folder / "job.json").write_text(json.dumps(described))
    there = {k: v for k, v in values.items() if k not in described["drawn"] and v.any()}
    np.savez_compressed(folder / f"state-{settings.seed}.npz", **there)
    return epoch


def draw_latent_weights(network, seed):
    """Gives kernels that start uniform the numbers of `drawn`; returns their ranges."""
    weights, ranges = weights_by_name(network), {}
    for layer in network.layers:
        start = getattr(layer, "kernel_initializer", None)
        if isinstance(start, keras.initializers.RandomUniform):
            name = f"{layer.name}/kernel"
            ranges[name] = [len(ranges), start.minval, start.maxval]
            weights[name].assign(drawn(ranges[name], weights[name].shape, seed))
    return ranges


def epoch_of(network, optimizer, variation, info):
    """A function of images, labels, order and draws; returns loss and number right."""
    mean, deviation = tf.constant(info.mean), tf.constant(info.std)
    cross_entropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def step(n, loss, right, images, labels, order, draws):
        chosen = tf.gather(labels, order[n])
        x = varied(tf.gather(images, order[n]), draws[n], variation)
        x = (tf.cast(x, tf.float32) / 255 - mean) / deviation
        with tf.GradientTape() as tape:
            logits = network(x, training=True)
            found = cross_entropy(chosen, logits)
            minimized = tf.add_n([found, *network.losses])
        variables = network.trainable_variables
        optimizer.apply_gradients(zip(tape.gradient(minimized, variables), variables))
        hits = tf.argmax(logits, -1, tf.int32) == chosen
        return n + 1, loss + found, right + tf.reduce_sum(tf.cast(hits, tf.int32))

    @tf.function(jit_compile=True)
    def epoch(images, labels, order, draws):
        steps = order.shape[0]
        _, loss, right = tf.while_loop(
            lambda n, *_: n < steps,
            lambda *state: step(*state, images, labels, order, draws),
            (0, 0.0, 0),
            maximum_iterations=steps,
        )
        return loss / steps, right

    return epoch


def finish(weights, settings, output):
    """Leaves the run folder of trained weights, tested.

    Of two stages only the second leaves its weights and its history.
    """
    last = replace(settings, stages=1, calibrate=False)
    trainer = nobn.training.Trainer(last, output=output)
    network = trainer.build()
    with np.load(weights) as found:
        rows = json.loads(str(found["history"]))
        for name, variable in weights_by_name(network).items():
            variable.assign(found[f"weights/{name}"])
    tested = nobn.training.evaluate(network, trainer.dataset.batches("test", 500))
    for row in rows:  # tested once, after the last
        row |= {"val_loss": np.nan, "val_accuracy": np.nan}
    rows[-1] |= {f"val_{name}": tested[name] for name in ("loss", "accuracy")}
    trainer.config = settings
    with trainer._at_work():
        folder = trainer._lock_folder()
        writer = HistoryWriter(folder / "history.csv", lambda step: 0.0, 1)
        writer.set_state(rows)
        trainer.history = writer.rows
        return trainer.save()


def first_stage(settings):
    """The settings of the first of two stages, as `Trainer` has them."""
    return replace(
        settings,
        stages=1,
        kernel=None,
        weight_decay=settings.stage_one_decay,
        network={**settings.network, "binary_weights": False},
    )
