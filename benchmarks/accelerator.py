"""Trainings on an accelerator that has JAX, but no TensorFlow.

`export` writes an epoch of a training as StableHLO, the weights that it starts from and
the images, and with a validation split the evaluation on it; accelerator_epochs.py,
which needs NumPy and JAX alone, trains there; `finish` tests here what comes back,
leaves a run folder as `larq-nobn train` does, and keeps its log in results/larger/, or
in that of `--experiment`, under the name of the folder.
The step is that of `Trainer`. Order, crops and initial latent weights are drawn by
NumPy instead of TensorFlow, and convolutions are those of the accelerator. SETTINGS are
arguments of `RunSettings.from_recipe` as JSON, and under "levers" those of `Levers`.
Of two stages, the folder contains the job of the first.

    python benchmarks/accelerator.py export SETTINGS runs/job
    python benchmarks/accelerator_epochs.py runs/job weights.npz
    python benchmarks/accelerator.py finish SETTINGS weights.npz runs/trained

`levers` exports the runs of results/levers/jobs.json, in order, or those of one job,
each with its SETTINGS as settings.json:

    python benchmarks/accelerator.py levers runs/levers --only batch_64
"""

from __future__ import annotations

import json
import lzma
import os
import re
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import larq_nobn as nobn
import click
import numpy as np
import tensorflow as tf
from _levers import Levers, measured_sigmas, weakened
from _results import RESULTS
from _runs import keep_run
from accelerator_epochs import drawn
from larq_nobn.calibration import calibrate
from larq_nobn.data._augment import (
    COLOUR,
    CROP,
    affine_maps,
    crop_and_flip,
    cutout,
    draw,
    jittered,
    uniform,
    variation_of,
    varied,
)
from larq_nobn.models._weights import weights_by_name
from larq_nobn.optimizers._wrapper import parts_of
from larq_nobn.training._callbacks import HistoryWriter
from larq_nobn.training._trainer import first_stage

keras = tf.keras
# What an exported epoch leaves out.
USUAL = {"init": None, "limit": None, "mixup": 0.0}
# The most images of the validation split in a batch.
EVALUATED = 500
UNCHANGED = Levers()


def levers_of(text):
    return Levers(**json.loads(text).get("levers", {}))


def settings_of(text):
    chosen = json.loads(text)
    recipe = chosen.pop("recipe", None)
    chosen.pop("levers", None)
    settings = nobn.training.RunSettings.from_recipe(recipe, **chosen)
    for name, usual in USUAL.items():
        if (value := getattr(settings, name)) != usual:
            raise click.UsageError(
                f"{name}={value!r} cannot be exported. Leave it out."
            )
    if settings.augment == "none":
        raise click.UsageError("augment='none' cannot be exported. Leave it out.")
    return settings


def of_stage(settings, stage):
    """The settings of one of two stages, of which the second starts from the first."""
    if settings.stages == 1:
        return settings
    if stage == 1:
        return first_stage(settings)
    return replace(settings, stages=1, calibrate=False)


def export(settings, folder, levers=UNCHANGED):
    """Writes what accelerator_epochs.py needs of a run; the images beside it."""
    name = f"{Path(settings.dataset).name}-{settings.validation:g}.npz"
    images = folder.parent / name
    if settings.stages == 2:
        export_stage(of_stage(settings, 1), folder / "stage1", images, levers)
    export_stage(of_stage(settings, 2), folder, images, levers)


def export_stage(settings, folder, images, levers):
    with levers.applied():
        trainer = nobn.training.Trainer(settings, output=folder / "run")
        network, dataset = trainer.build(), trainer.dataset
    model, optimizer, info = trainer.model, trainer.model.optimizer, dataset.info
    ranges = draw_latent_weights(network, settings)
    if settings.calibrate:
        calibrate(network, trainer._few_images())
    optimizer.build(network.trainable_variables)
    model.evaluate(trainer._few_images(), verbose=0)  # makes what its metrics need
    variables = variables_of(network)
    variables |= {f"optimizer/{n}": v for n, v in enumerate(optimizer.variables)}
    measured = [v for metric in model.metrics for v in metric.variables]
    variables |= {f"metrics/{n}": v for n, v in enumerate(measured)}
    *_, innermost = parts_of(optimizer)
    variables["optimizer/rate"] = innermost._current_learning_rate

    variation = variation_in(settings, info)
    shape = (info.train_examples // settings.batch_size, settings.batch_size)
    columns = draw(variation, 1, (0, 0)).shape[1]
    folder.mkdir(parents=True, exist_ok=True)
    state = write_function(
        epoch_of(model, variation, info, levers.strength),
        [
            tf.zeros((info.train_examples, *info.image_shape), tf.uint8),
            tf.zeros(info.train_examples, tf.int32),
            tf.zeros(shape, tf.int32),
            tf.zeros((*shape, columns), tf.int32),
        ],
        variables,
        folder / "epoch.mlir.xz",
    )
    job = {
        "images": os.path.relpath(images, folder),
        "seed": settings.seed,
        "epochs": settings.epochs,
        "order": shape,
        "columns": columns,
        "pad": variation.pad,
        "flip": variation.flip,
        "metrics": sorted(metric.name for metric in model.metrics),
        "state": places_of(state),
        "changed": [key for key in state if key in variables],
        "drawn": {f"weights/{name}": each for name, each in ranges.items()},
    }
    if count := info.validation_examples:
        size = max(n for n in range(1, EVALUATED + 1) if count % n == 0)
        batches = (count // size, size)
        used = write_function(
            evaluation_of(model, info),
            [
                tf.zeros((*batches, *info.image_shape), tf.uint8),
                tf.zeros(batches, tf.int32),
            ],
            variables,
            folder / "evaluation.mlir.xz",
            "evaluation/",
        )
        job["evaluation"] = places_of(used)
        state = {**used, **state}
    (folder / "job.json").write_text(json.dumps(job))
    rest = {k: v for k, v in state.items() if k not in job["drawn"] and v.any()}
    np.savez_compressed(folder / "state.npz", **rest)
    if not images.exists():
        write_images(dataset, images, batches if count else None)


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


def variables_of(network):
    """Weights by name, and the counters of layers, which are no part of the result."""
    return {
        f"{'weights' if v.dtype.is_floating else 'counters'}/{name}": v
        for name, v in weights_by_name(network).items()
    }


def places_of(state):
    return [[key, value.shape, value.dtype.name] for key, value in state.items()]


def variation_in(settings, info):
    augment = True if settings.augment is None else settings.augment
    return variation_of(augment, info.name, info.image_shape, settings.reflect)


def write_function(function, arguments, variables, file, prefix=""):
    """Writes a function as StableHLO; returns what it captures, by name."""
    text = function.experimental_get_compiler_ir(*arguments)(stage="stablehlo")
    # An identity that other readers of StableHLO do not know.
    copy = r"mhlo\.copy (%\S+) : (tensor<[^>]*>)"
    text = re.sub(copy, r"stablehlo.reshape \1 : (\2) -> \2", text)
    file.write_bytes(lzma.compress(text.encode()))
    return captured(function.get_concrete_function(*arguments), variables, prefix)


def captured(function, variables, prefix):
    """What a function takes beside its arguments, in order: names and values."""
    names = {id(variable.handle): name for name, variable in variables.items()}
    # Variables of a teacher have no name here, and do not change.
    others = {id(variable.handle): variable for variable in function.graph.variables}
    found = {}
    for n, each in enumerate(function.captured_inputs):
        name = names.get(id(each), f"{prefix}constant/{n}")
        found[name] = others.get(id(each), each).numpy()
    return found


def draw_latent_weights(network, settings):
    """Gives kernels that start uniform the numbers of `drawn`; returns their ranges."""
    weights, ranges = weights_by_name(network), {}
    for layer in network.layers:
        start = getattr(layer, "kernel_initializer", None)
        if isinstance(start, keras.initializers.RandomUniform):
            name = f"{layer.name}/kernel"
            scale = settings.latent_scale
            ends = scale * start.minval, scale * start.maxval
            ranges[name] = [len(ranges), *ends]
            drawing = drawn(ranges[name], weights[name].shape, settings.seed)
            weights[name].assign(drawing)
    return ranges


def epoch_of(model, variation, info, strength=1.0):
    """A function of images, labels, order and draws; returns the metrics by name."""

    @tf.function(jit_compile=True, autograph=False)
    def epoch(images, labels, order, draws):
        def after(n):
            x = tf.gather(images, order[n])
            x = varied_by_xla(x, draws[n], variation, strength)
            model.train_step((normalized(x, info), tf.gather(labels, order[n])))
            return (n + 1,)

        model.reset_metrics()
        steps = order.shape[0]
        tf.while_loop(lambda n: n < steps, after, (0,), maximum_iterations=steps)
        return {metric.name: metric.result() for metric in model.metrics}

    return epoch


def evaluation_of(model, info):
    """A function of batches of images and labels; returns loss and accuracy."""

    @tf.function(jit_compile=True, autograph=False)
    def evaluation(images, labels):
        def after(n):
            model.test_step((normalized(images[n], info), labels[n]))
            return (n + 1,)

        model.reset_metrics()
        count = images.shape[0]
        tf.while_loop(lambda n: n < count, after, (0,), maximum_iterations=count)
        named = {metric.name: metric.result() for metric in model.metrics}
        return {f"val_{name}": named[name] for name in ("loss", "accuracy")}

    return evaluation


def normalized(images, info):
    return (tf.cast(images, tf.float32) / 255 - info.mean) / info.std


def varied_by_xla(images, draws, variation, strength=1.0):
    """As `varied`, whose ImageProjectiveTransformV3 XLA does not compile.

    Of strong augmentation, `strength` is how much of it.
    """
    if not variation.strong:
        return varied(images, draws, variation)
    images = crop_and_flip(images, draws[:, :CROP], variation)
    numbers, loses_square = weakened(uniform(draws[:, CROP:]), strength)
    images = jittered(images, numbers[:, :COLOUR])
    maps = affine_maps(images.shape[1:3], numbers[:, COLOUR:-2])
    images = resampled(images, maps)
    with_hole = cutout(images, numbers[:, -2:])
    return tf.where(loses_square[:, None, None, None], with_hole, images)


def resampled(images, maps):
    """Images seen through affine maps: bilinear, mirrored beyond the border."""
    height, width = images.shape[1:3]
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


def finish(settings, weights, output, levers=UNCHANGED):
    """Leaves the run folder of trained weights, tested; of two stages the second."""
    trainer = nobn.training.Trainer(of_stage(settings, 2), output=output)
    split = trainer._watched
    with np.load(weights) as found:
        rows, values = json.loads(str(found["history"])), dict(found)
    if len(rows) != settings.epochs:
        raise click.UsageError(
            f"{weights} has {len(rows)} epochs, but epochs={settings.epochs}. Give the "
            "settings that it was trained by."
        )
    if ("val_loss" in rows[0]) != (split == "validation"):
        raise click.UsageError(
            f"{weights} was not trained with validation={settings.validation}. Give "
            "the settings that it was trained by."
        )
    with levers.at_inference.applied():
        network = trainer.build()
    for name, variable in weights_by_name(network).items():
        variable.assign(values[f"weights/{name}"])
    # Test images are read once, after the last epoch; that one in float32, here.
    found = nobn.training.evaluate(network, trainer._batches(split))
    for name in ("loss", "accuracy"):
        for row in rows:
            row.setdefault(f"val_{name}", np.nan)
        rows[-1][f"val_{name}"] = found[name]
    for number, row in enumerate(rows):
        seconds = row.pop("seconds")
        row["learning_rate"] = float(trainer._learning_rate(number * trainer._steps))
        row["seconds"] = seconds
    trainer.config = settings
    with trainer._at_work():
        history = HistoryWriter(
            trainer._lock_folder() / "history.csv",
            trainer._learning_rate,
            trainer._steps,
        )
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
    export(settings_of(settings), folder, levers_of(settings))


@main.command("levers", help="Export the runs of results/levers/jobs.json, in order.")
@click.argument("folder", type=Path)
@click.option("--only", help="Name of one job.")
def _levers(folder, only):
    jobs = json.loads((RESULTS / "levers" / "jobs.json").read_text(encoding="utf-8"))
    for number, (name, chosen) in enumerate(runs_of(jobs, only)):
        job, text = folder / f"{number:02}-{name}", json.dumps(chosen)
        export(settings_of(text), job, levers_of(text))
        (job / "settings.json").write_text(text, encoding="utf-8")
        print(job, flush=True)


def runs_of(jobs, only=None):
    """Names and SETTINGS of the runs of all jobs, or of one."""
    names = [job["name"] for job in jobs["jobs"]]
    if only not in (None, *names):
        raise click.UsageError(
            f"{only!r} is not a job. Choose from {', '.join(names)}."
        )
    for job in jobs["jobs"]:
        if only not in (None, job["name"]):
            continue
        for seed in jobs["seeds"]:
            for normalization, own in job["of"].items():
                chosen = {**jobs["shared"], **job["settings"], **own, "seed": seed}
                name = f"{normalization}_{job['name']}-{seed}"
                yield name, {"recipe": normalization, **chosen}


@main.command("sigmas", help="Measure standard deviations before the blocks of nobn.")
@click.argument("settings")
def _sigmas(settings):
    chosen = settings_of(settings)
    with TemporaryDirectory() as scratch:
        trainer = nobn.training.Trainer(chosen, output=scratch)
        network = trainer.build()
        draw_latent_weights(network, chosen)
        ((images, _),) = trainer._few_images()
    rounds = max(chosen.blocks or (4,))
    found = measured_sigmas(network, images.numpy(), rounds)
    print([round(sigma, 2) for sigma in found])


@main.command("finish", help="Test trained weights, and leave their run folder.")
@click.argument("settings")
@click.argument("weights", type=Path)
@click.argument("output", type=Path)
@click.option("--experiment", default="larger", show_default=True)
def _finish(settings, weights, output, experiment):
    run = finish(settings_of(settings), weights, output, levers_of(settings))
    print(run.history[-1])
    keep_run(output, RESULTS / experiment / output.name)


if __name__ == "__main__":
    main()
