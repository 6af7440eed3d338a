"""Trainings on an accelerator that has JAX, but no TensorFlow.

`export` writes an epoch of a training as StableHLO, the weights that it starts from and
the images; accelerator_epochs.py, which needs NumPy and JAX alone, trains there;
`finish` tests here what comes back, leaves a run folder as `larq-nobn train` does, and
keeps its log in results/larger/ under the name of the folder.
The step is that of `Trainer`. Order, crops and initial latent weights are drawn by
NumPy instead of TensorFlow, and convolutions are those of the accelerator. SETTINGS are
arguments of `RunSettings.from_recipe` as JSON.

    python benchmarks/accelerator.py export SETTINGS runs/job
    python benchmarks/accelerator_epochs.py runs/job weights.npz
    python benchmarks/accelerator.py finish SETTINGS weights.npz runs/trained
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
from _results import RESULTS
from _runs import keep_run
from accelerator_epochs import drawn
from larq_nobn.calibration import calibrate
from larq_nobn.data._augment import variation_of, varied
from larq_nobn.models._weights import weights_by_name
from larq_nobn.optimizers._wrapper import parts_of
from larq_nobn.training._callbacks import HistoryWriter
from larq_nobn.training._trainer import first_stage

keras = tf.keras
# What an exported epoch leaves out.
USUAL = {"augment": None, "init": None, "limit": None, "mixup": 0.0}


def settings_of(text):
    chosen = json.loads(text)
    recipe = chosen.pop("recipe", None)
    settings = nobn.training.RunSettings.from_recipe(recipe, **chosen)
    for name, usual in USUAL.items():
        if (value := getattr(settings, name)) != usual:
            raise click.UsageError(
                f"{name}={value!r} cannot be exported. Leave it out."
            )
    return settings


def of_stage(settings, stage):
    """The settings of one of two stages, of which the second starts from the first."""
    if settings.stages == 1:
        return settings
    if stage == 1:
        return first_stage(settings)
    return replace(settings, stages=1, calibrate=False)


def export(settings, folder):
    """Writes what accelerator_epochs.py needs of a run of one stage."""
    trainer = nobn.training.Trainer(settings, output=folder / "run")
    network, dataset = trainer.build(), trainer.dataset
    model, optimizer, info = trainer.model, trainer.model.optimizer, dataset.info
    ranges = draw_latent_weights(network, settings)
    if settings.calibrate:
        calibrate(network, trainer._few_images())
    optimizer.build(network.trainable_variables)
    model.evaluate(trainer._few_images(), verbose=0)  # makes what its metrics need
    variables = {f"weights/{k}": v for k, v in weights_by_name(network).items()}
    variables |= {f"optimizer/{n}": v for n, v in enumerate(optimizer.variables)}
    measured = [v for metric in model.metrics for v in metric.variables]
    variables |= {f"metrics/{n}": v for n, v in enumerate(measured)}
    *_, innermost = parts_of(optimizer)
    variables["optimizer/rate"] = innermost._current_learning_rate

    variation = variation_of(True, info.name, info.image_shape, settings.reflect)
    epoch = epoch_of(model, variation, info)
    shape = (info.train_examples // settings.batch_size, settings.batch_size)
    arguments = [
        tf.zeros((info.train_examples, *info.image_shape), tf.uint8),
        tf.zeros(info.train_examples, tf.int32),
        tf.zeros(shape, tf.int32),
        tf.zeros((*shape, 3), tf.int32),
    ]
    text = epoch.experimental_get_compiler_ir(*arguments)(stage="stablehlo")
    # An identity that other readers of StableHLO do not know.
    copy = r"mhlo\.copy (%\S+) : (tensor<[^>]*>)"
    text = re.sub(copy, r"stablehlo.reshape \1 : (\2) -> \2", text)
    state = captured(epoch.get_concrete_function(*arguments), variables)
    job = {
        "seed": settings.seed,
        "epochs": settings.epochs,
        "order": shape,
        "pad": variation.pad,
        "flip": variation.flip,
        "metrics": sorted(metric.name for metric in model.metrics),
        "state": [[key, value.shape, value.dtype.name] for key, value in state.items()],
        "changed": [key for key in state if key in variables],
        "drawn": {f"weights/{name}": each for name, each in ranges.items()},
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "epoch.mlir.xz").write_bytes(lzma.compress(text.encode()))
    (folder / "job.json").write_text(json.dumps(job))
    rest = {k: v for k, v in state.items() if k not in job["drawn"] and v.any()}
    np.savez_compressed(folder / "state.npz", **rest)
    if not (folder / "images.npz").exists():
        images = dataset.read(range(info.train_examples))
        np.savez(folder / "images.npz", images=images, labels=dataset.labels())


def captured(function, variables):
    """What a function takes beside its arguments, in order: names and values."""
    names = {id(variable.handle): name for name, variable in variables.items()}
    # Variables of a teacher have no name here, and do not change.
    others = {id(variable.handle): variable for variable in function.graph.variables}
    found = {}
    for n, each in enumerate(function.captured_inputs):
        name = names.get(id(each), f"constant/{n}")
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


def epoch_of(model, variation, info):
    """A function of images, labels, order and draws; returns the metrics by name."""
    mean, deviation = tf.constant(info.mean), tf.constant(info.std)

    @tf.function(jit_compile=True, autograph=False)
    def epoch(images, labels, order, draws):
        def after(n):
            x = varied(tf.gather(images, order[n]), draws[n], variation)
            x = (tf.cast(x, tf.float32) / 255 - mean) / deviation
            model.train_step((x, tf.gather(labels, order[n])))
            return (n + 1,)

        model.reset_metrics()
        steps = order.shape[0]
        tf.while_loop(lambda n: n < steps, after, (0,), maximum_iterations=steps)
        return {metric.name: metric.result() for metric in model.metrics}

    return epoch


def finish(settings, weights, output):
    """Leaves the run folder of trained weights, tested; of two stages the second."""
    trainer = nobn.training.Trainer(of_stage(settings, 2), output=output)
    network = trainer.build()
    with np.load(weights) as found:
        rows = json.loads(str(found["history"]))
        for name, variable in weights_by_name(network).items():
            variable.assign(found[f"weights/{name}"])
    if len(rows) != settings.epochs:
        raise click.UsageError(
            f"{weights} has {len(rows)} epochs, but epochs={settings.epochs}. Give the "
            "settings that it was trained by."
        )
    tested = nobn.training.evaluate(network, trainer._batches(trainer._watched))
    for number, row in enumerate(rows):
        seconds = row.pop("seconds")
        for name in ("loss", "accuracy"):  # once, after the last
            row[f"val_{name}"] = tested[name] if row is rows[-1] else np.nan
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
@click.option("--stage", type=click.IntRange(1, 2), default=2, show_default=True)
def _export(settings, folder, stage):
    export(of_stage(settings_of(settings), stage), folder)


@main.command("finish", help="Test trained weights, and leave their run folder.")
@click.argument("settings")
@click.argument("weights", type=Path)
@click.argument("output", type=Path)
def _finish(settings, weights, output):
    print(finish(settings_of(settings), weights, output).history[-1])
    keep_run(output, RESULTS / "larger" / output.name)


if __name__ == "__main__":
    main()
