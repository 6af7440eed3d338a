"""Trainings on an accelerator that has JAX, but no TensorFlow.

`export` writes an epoch of a training as StableHLO, the weights that it starts from and
the images, and with a validation split the evaluation on it; accelerator_epochs.py,
which needs NumPy and JAX alone, trains there; `finish` tests here what comes back,
leaves a run folder as `larq-nobn train` does, and keeps its log in results/larger/, or
in that of `--experiment`, under the name of the folder.
The step is that of `Trainer`. Order, crops and initial latent weights are drawn by
NumPy instead of TensorFlow, and convolutions are those of the accelerator. SETTINGS are
arguments of `RunSettings.from_recipe` as JSON. Of two stages, the folder contains the
job of the first.

    python benchmarks/accelerator.py export SETTINGS runs/job
    python benchmarks/accelerator_epochs.py runs/job weights.npz
    python benchmarks/accelerator.py finish SETTINGS weights.npz runs/trained
"""

from __future__ import annotations

import json
import lzma
import os
import re
from dataclasses import replace
from pathlib import Path
from unittest import mock

import larq_nobn as nobn
import click
import numpy as np
import tensorflow as tf
from _results import RESULTS
from _runs import keep_run
from accelerator_epochs import drawn
from larq_nobn.calibration import calibrate
from larq_nobn.data import _augment
from larq_nobn.models._weight_names import weights_by_name
from larq_nobn.optimizers._wrapper import parts_of
from larq_nobn.training._callbacks import HistoryWriter
from larq_nobn.training._network import schedule_for
from larq_nobn.training._runs_before import first_stage

# What an exported epoch leaves out.
USUAL = {"init": None, "limit": None, "mixup": 0.0, "cutmix": 0.0}
# The most images of the validation split in a batch.
EVALUATED = 500


def settings_of(text):
    chosen = json.loads(text)
    recipe = chosen.pop("recipe", None)
    settings = nobn.training.RunSettings.from_recipe(recipe, **chosen)
    wrong = [name for name, usual in USUAL.items() if getattr(settings, name) != usual]
    wrong += ["augment"] * (
        settings.augment not in (None, "crop", "standard", "strong")
    )
    for name in wrong:
        raise click.UsageError(
            f"{name}={getattr(settings, name)!r} cannot be exported. Leave it out."
        )
    return settings


def last_stage(settings):
    """The settings of the second of two stages, which starts from the first."""
    two = settings.stages == 2
    return replace(settings, stages=1, calibrate=False) if two else settings


def export(settings, folder):
    """Writes what accelerator_epochs.py needs of a run; the images beside it."""
    name = f"{Path(settings.dataset).name}-{settings.validation:g}.npz"
    images = folder.parent / name
    # XLA does not compile the operation of the package.
    with mock.patch.object(_augment, "random_affine", random_affine):
        if settings.stages == 2:
            export_stage(first_stage(settings), folder / "stage1", images)
        export_stage(last_stage(settings), folder, images)


def export_stage(settings, folder, images):
    trainer = nobn.training.Trainer(settings, output=folder / "run")
    network, dataset = trainer.build(), trainer.dataset
    model, optimizer, info = trainer.model, trainer.model.optimizer, dataset.info
    ranges = draw_latent_weights(network, settings)
    if settings.calibrate:
        calibrate(network, trainer._images.few())
    optimizer.build(network.trainable_variables)
    model.evaluate(trainer._images.few(), verbose=0)  # makes what its metrics need
    measured = [v for metric in model.metrics for v in metric.variables]
    variables = {f"weights/{n}": v for n, v in weights_by_name(network).items()}
    variables |= {f"optimizer/{n}": v for n, v in enumerate(optimizer.variables)}
    variables |= {f"metrics/{n}": v for n, v in enumerate(measured)}
    *_, innermost = parts_of(optimizer)
    variables["optimizer/rate"] = innermost._current_learning_rate

    given = settings.augment, settings.flip, settings.reflect
    variation = dataset.transform(*given)
    shape = (info.train_examples // settings.batch_size, settings.batch_size)
    columns = variation.draw(1, (0, 0), info.image_shape).shape[1]
    folder.mkdir(parents=True, exist_ok=True)
    state = write_function(
        epoch_of(model, variation, info),
        tf.zeros((info.train_examples, *info.image_shape), tf.uint8),
        tf.zeros(info.train_examples, tf.int32),
        tf.zeros(shape, tf.int32),
        tf.zeros((*shape, columns), tf.int32),
        variables=variables,
        file=folder / "epoch.mlir.xz",
    )
    job = {
        "images": os.path.relpath(images, folder),
        "seed": settings.seed,
        "epochs": settings.epochs,
        "order": shape,
        "columns": columns,
        "pad": _augment.padding(info.image_shape),
        "flip": variation.flip,
        "metrics": sorted(metric.name for metric in model.metrics),
        "state": places_of(state),
        "changed": [key for key in state if key in variables],
        "drawn": {f"weights/{name}": each for name, each in ranges.items()},
    }
    batches = None
    if count := info.validation_examples:
        size = max(n for n in range(1, EVALUATED + 1) if count % n == 0)
        batches = (count // size, size)
        used = write_function(
            evaluation_of(model, info),
            tf.zeros((*batches, *info.image_shape), tf.uint8),
            tf.zeros(batches, tf.int32),
            variables=variables,
            file=folder / "evaluation.mlir.xz",
            prefix="evaluation/",
        )
        job["evaluation"] = places_of(used)
        state = {**used, **state}
    (folder / "job.json").write_text(json.dumps(job))
    rest = {k: v for k, v in state.items() if k not in job["drawn"] and v.any()}
    np.savez_compressed(folder / "state.npz", **rest)
    if not images.exists():
        write_images(dataset, images, batches)


def write_images(dataset, file, batches):
    """Writes training images and labels, and those held out in batches."""
    info = dataset.info
    arrays = {
        "images": dataset.read(range(info.train_examples)),
        "labels": dataset.labels(),
    }
    if batches is not None:
        held_out = dataset.read(range(info.validation_examples), "validation")
        arrays["held_out"] = held_out.reshape(*batches, *info.image_shape)
        arrays["held_out_labels"] = dataset.labels("validation").reshape(batches)
    np.savez(file, **arrays)


def places_of(state):
    return [[key, value.shape, value.dtype.name] for key, value in state.items()]


def write_function(function, *arguments, variables, file, prefix=""):
    """Writes a function as StableHLO; returns what it captures, by name and in order.

    Variables of a teacher have no name in `variables`, and do not change.
    """
    text = function.experimental_get_compiler_ir(*arguments)(stage="stablehlo")
    # An identity that other readers of StableHLO do not know.
    copy = r"mhlo\.copy (%\S+) : (tensor<[^>]*>)"
    text = re.sub(copy, r"stablehlo.reshape \1 : (\2) -> \2", text)
    file.write_bytes(lzma.compress(text.encode()))
    concrete = function.get_concrete_function(*arguments)
    names = {id(variable.handle): name for name, variable in variables.items()}
    others = {id(variable.handle): variable for variable in concrete.graph.variables}
    return {
        names.get(id(each), f"{prefix}constant/{n}"): others.get(id(each), each).numpy()
        for n, each in enumerate(concrete.captured_inputs)
    }


def draw_latent_weights(network, settings):
    """Gives kernels that start uniform the numbers of `drawn`; returns their ranges."""
    weights, ranges = weights_by_name(network), {}
    for layer in network.layers:
        start = getattr(layer, "kernel_initializer", None)
        if isinstance(start, tf.keras.initializers.RandomUniform):
            name = f"{layer.name}/kernel"
            scale = settings.latent_scale
            ends = scale * start.minval, scale * start.maxval
            ranges[name] = [len(ranges), *ends]
            drawing = drawn(ranges[name], weights[name].shape, settings.seed)
            weights[name].assign(drawing)
    return ranges


def epoch_of(model, variation, info):
    """A function of images, labels, order and draws; returns the metrics by name."""

    @tf.function(jit_compile=True, autograph=False)
    def epoch(images, labels, order, draws):
        def step(n):
            x = variation.vary(tf.gather(images, order[n]), draws[n])
            model.train_step((normalized(x, info), tf.gather(labels, order[n])))

        return metrics_after(order.shape[0], step, model)

    return epoch


def evaluation_of(model, info):
    """A function of batches of images and labels; returns loss and accuracy."""

    @tf.function(jit_compile=True, autograph=False)
    def evaluation(images, labels):
        def step(n):
            model.test_step((normalized(images[n], info), labels[n]))

        found = metrics_after(images.shape[0], step, model)
        return {f"val_{name}": found[name] for name in ("loss", "accuracy")}

    return evaluation


def metrics_after(count, step, model):
    """The metrics of a model by name, after so many steps."""
    model.reset_metrics()

    def after(n):
        step(n)
        return (n + 1,)

    tf.while_loop(lambda n: n < count, after, (0,), maximum_iterations=count)
    return {metric.name: metric.result() for metric in model.metrics}


def normalized(images, info):
    return (tf.cast(images, tf.float32) / 255 - info.mean) / info.std


def random_affine(images, uniform):
    """As the function of the package: bilinear, mirrored beyond the border."""
    height, width = images.shape[1:3]
    maps = _augment.affine_maps((height, width), uniform)
    flat = tf.reshape(images, [-1, height * width, images.shape[3]])
    r = [each[:, None, None] for each in tf.unstack(maps, axis=1)]
    y, x = tf.range(float(height))[:, None], tf.range(float(width))
    x, y = (
        within(r[0] * x + r[1] * y + r[2], width),
        within(r[3] * x + r[4] * y + r[5], height),
    )
    left, top = tf.floor(x), tf.floor(y)
    found = 0.0
    for row, part in ((top, top + 1 - y), (top + 1, y - top)):
        for column, share in ((left, left + 1 - x), (left + 1, x - left)):
            # A pixel beyond the last has no part in the result.
            pixel = tf.minimum(row, height - 1) * width + tf.minimum(column, width - 1)
            place = tf.reshape(tf.cast(pixel, tf.int32), [-1, height * width])
            pixels = tf.reshape(tf.gather(flat, place, batch_dims=1), tf.shape(images))
            found += (part * share)[..., None] * pixels
    return found


def within(place, count):
    """A coordinate up to `count` outside of an image, in its mirror image."""
    place = tf.where(place < 0, -place - 1, place)
    place = tf.where(place >= count, 2 * count - place - 1, place)
    return tf.clip_by_value(place, 0, count - 1)


def finish(settings, weights, output):
    """Leaves the run folder of trained weights, tested; of two stages the second."""
    trainer = nobn.training.Trainer(last_stage(settings), output=output)
    images, split = trainer._images, trainer._images.watched
    with np.load(weights) as found:
        rows, values = json.loads(str(found["history"])), dict(found)
    trained = len(rows), "val_loss" in (rows or [{}])[0]
    if trained != (settings.epochs, split == "validation"):
        raise click.UsageError(
            f"{weights} was not trained with epochs={settings.epochs} and "
            f"validation={settings.validation}. Give the settings that it was trained "
            "by."
        )
    network = trainer.build()
    for name, variable in weights_by_name(network).items():
        variable.assign(values[f"weights/{name}"])
    # Test images are read once, after the last epoch; that one in float32, here.
    found = nobn.training.evaluate(network, images.batches(split))
    prefix = "val" if split == "validation" else "test"
    for name in ("loss", "accuracy"):
        for row in rows:
            row.setdefault(f"{prefix}_{name}", np.nan)
        rows[-1][f"{prefix}_{name}"] = found[name]
    steps = len(images.batches("train"))
    rate = schedule_for(settings, steps)
    for number, row in enumerate(rows):
        seconds = row.pop("seconds")
        row["learning_rate"] = float(rate(number * steps))
        row["seconds"] = seconds
    trainer.config = settings
    with trainer._at_work():
        place = trainer._lock_folder() / "history.csv"
        history = HistoryWriter(place, settings, steps)
        history.set_state(rows)
        trainer.history = history.rows
        return trainer.save()


@click.group(help=__doc__.partition("\n")[0])
def main():
    pass


@main.command("export", help="Write what accelerator_epochs.py needs.")
@click.argument("settings")
@click.argument("folder", type=Path)
def _export(settings, folder):
    export(settings_of(settings), folder)


@main.command("finish", help="Test trained weights, and leave their run folder.")
@click.argument("settings")
@click.argument("weights", type=Path)
@click.argument("output", type=Path)
@click.option("--experiment", default="larger", show_default=True)
def _finish(settings, weights, output, experiment):
    print(finish(settings_of(settings), weights, output).history[-1])
    keep_run(output, RESULTS / experiment / output.name)


if __name__ == "__main__":
    main()
