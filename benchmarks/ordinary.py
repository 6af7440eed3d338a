"""Ordinary networks beside a binary one: float32 and int8 of its size and latency.

`train`: ResNet-18 with batch norm and real-valued weights on CIFAR-10, of widths whose
float32 or int8 file is as large as that of the binary ReActNet-18 of width 16, or whose
int8 file takes about as long on x86 as that one's int8 file for LiteRT, with the same
epochs, batches, augmentation and clipping. The learning rate is the best of three after
two epochs of width 8 on a tenth of the training images. TensorFlow's converter writes
each network in float32 and, with ranges from 256 training images and without training
for them, in int8. A network whose numbers are in `--output` is not repeated.

`latency`: one image at a time and one thread, all files in turns, with two files of the
trained binary network of width 16.

    python benchmarks/ordinary.py train --folder runs/ordinary
    python benchmarks/ordinary.py latency --folder runs/ordinary  # on a quiet machine
"""

from __future__ import annotations

import json
from pathlib import Path

import larq_nobn as nobn
import click
import tensorflow as tf
from _drawing import accuracy as drawing
from _results import RESULTS, leave
from runtimes import sizes, trained_file

RATES = (1e-3, 3e-3, 1e-2)
CHOOSING = {"width": 8, "epochs": 2, "validation": 0.1, "seed": 100}
# Width and epochs.
CELLS = ((4, 5), (8, 5), (16, 5))
BINARY = "reactnet18-w16-cifar10"
FORMS = ("float32", "int8")


def train(cell, **chosen):
    tf.keras.backend.clear_session()
    settings = nobn.training.RunSettings.from_recipe(
        "plain",
        model="FloatResNet",
        normalization="batch_norm",
        dataset="cifar10",
        reflect=True,
        **chosen,
    )
    return nobn.training.train(settings, cell, resume=True)


def convert(model, form, images, path):
    """Has TensorFlow write a file for one image at a time."""
    shape = (1, *model.input_shape[1:])
    function = tf.function(lambda image: model(image, training=False))
    concrete = function.get_concrete_function(tf.TensorSpec(shape, tf.float32))
    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], model)
    if form == "int8":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([image[None]] for image in images)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    path.write_bytes(converter.convert())


def scores(model, images):
    found = nobn.training.evaluate(model, images)
    return {
        "accuracy": round(100 * found["accuracy"], 2),
        "loss": round(found["loss"], 4),
        "calibration_error": round(100 * found["calibration_error"], 2),
    }


def kept(output, part):
    path = output / part / "result.json"
    return json.loads(path.read_text("utf-8")) if path.exists() else {}


@click.group()
def main():
    """Ordinary networks beside a binary one."""


@main.command("train")
@click.option("--folder", type=Path, required=True, help="Where the runs go.")
@click.option("--seeds", default="0,1", show_default=True, help="Between commas.")
@click.option("--output", type=Path, default=RESULTS / "ordinary", show_default=True)
def train_all(folder, seeds, output):
    found = kept(output, "accuracy")
    rates, rows = found.get("rates", {}), found.get("rows", {})

    def save():
        leave(
            output / "accuracy",
            __doc__,
            drawing.ordinary,
            choosing=CHOOSING,
            rates=rates,
            rows=rows,
        )

    for rate in RATES:
        if f"{rate:g}" not in rates:
            run = train(folder / f"rate-{rate:g}", learning_rate=rate, **CHOOSING)
            rates[f"{rate:g}"] = round(100 * run.history[-1]["val_accuracy"], 2)
            save()
    rate = float(max(rates, key=rates.get))
    how = {"augment": False, "shuffle": False}
    test = nobn.data.load("cifar10", "test", 256, **how)
    images, _ = next(iter(nobn.data.load("cifar10", "train", 256, **how)))
    for seed in map(int, seeds.split(",")):
        for width, epochs in CELLS:
            name = f"{width}-{epochs}-{seed}"
            if name in rows:
                continue
            chosen = {"width": width, "epochs": epochs, "seed": seed}
            run = train(folder / name, learning_rate=rate, **chosen)
            rows[name] = {"parameters": run.model.count_params()}
            for form in FORMS:
                path = folder / f"{name}-{form}.tflite"
                convert(run.model, form, images, path)
                runner = nobn.deploy.Runner(path)
                rows[name][form] = {**sizes(path), **scores(runner, test)}
            save()


@main.command()
@click.option("--folder", type=Path, required=True, help="Where the runs are.")
@click.option("--runs", default=100, show_default=True)
@click.option("--output", type=Path, default=RESULTS / "ordinary", show_default=True)
def latency(folder, runs, output):
    files = {
        f"{BINARY}, {form}": trained_file(folder, BINARY, form)
        for form in ("LCE", "LiteRT, int8")
    }
    for width in dict.fromkeys(width for width, _ in CELLS):
        for form in FORMS:
            path = folder / f"{width}-5-0-{form}.tflite"
            if path.exists():
                files[f"ResNet-18, width {width}, {form}"] = path
    first, *others = files.values()
    timings = nobn.benchmark(first, others, runs=runs, seed=0).timings
    rows = {
        name: {
            "bytes": path.stat().st_size,
            "ms": round(timing.ms, 3),
            "quartiles_ms": [round(timing.low_ms, 3), round(timing.high_ms, 3)],
        }
        for (name, path), timing in zip(files.items(), timings, strict=True)
    }
    engine = "larq_compute_engine"
    measured = {"runs": runs, "threads": 1, "rows": rows}
    leave(output / "latency", __doc__, drawing.ordinary_latency, engine, **measured)


if __name__ == "__main__":
    main()
