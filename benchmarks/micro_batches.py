"""What fine-tuning in batches of two images does to a network trained with batch norm.

ReActNet-18 of width 16 is trained on CIFAR-10 with batch norm, 5 epochs in batches of
128, and then further in batches of two: as it is, with batch norm in training mode, and
with batch norm folded away. Pairs are drawn at random, or of one class each, as in
class-correlated streams. Gradient descent with momentum and adaptive gradient
clipping, at two learning rates. The accuracy is that on all 10,000 test images; what
the folder contains already is not repeated.

    python benchmarks/micro_batches.py --folder runs/micro_batches
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import larq_nobn as nobn
import click
import numpy as np
import tensorflow as tf
from _drawing import accuracy as drawing
from _drawing import plots
from _results import RESULTS, command, machine, say, versions, write
from _runs import keep_run

keras = tf.keras
STREAMS = ("random pairs", "pairs of one class")
RATES = (1e-4, 1e-3)
FORMS = ("batch norm", "folded")


def trained(folder, seed, output):
    """The run that is to be fine-tuned; its record goes to the results."""
    run = folder / f"cifar-10-{seed}"
    if not (run / "run.json").exists():
        keras.backend.clear_session()
        settings = nobn.training.RunSettings(
            normalization="batch_norm", width=16, epochs=5, seed=seed
        )
        nobn.training.train(settings, run)
    keep_run(run, output / run.name)
    return run


def pairs(stream, steps, seed):
    """Augmented training images, two by two."""
    train = nobn.data.load("cifar10", "train", 2 * steps, seed=seed)
    images, labels = (part.numpy() for part in next(iter(train)))
    if stream == "pairs of one class":
        order = np.argsort(labels, kind="stable").reshape(-1, 2)
        order = np.random.default_rng(seed).permutation(order).ravel()
        images, labels = images[order], labels[order]
    return tf.data.Dataset.from_tensor_slices((images, labels)).batch(2)


def accuracy(model):
    found = nobn.training.evaluate(model, nobn.data.load("cifar10", "test", 250))
    return round(100 * found["accuracy"], 2)


def fine_tuned(run, form, stream, steps, learning_rate, seed):
    """Test accuracy in % after so many steps of two images, measured once."""
    name = f"{stream}, {learning_rate:g}, {form}, {seed}, {steps}".replace(" ", "_")
    known = run.parent / f"{name}.json"
    if known.exists():
        return json.loads(known.read_text())
    keras.backend.clear_session()
    keras.utils.set_random_seed(seed)
    model = nobn.training.open_model(run)
    if form == "folded":
        model = nobn.fold_batch_norm(model)
    descent = keras.optimizers.SGD(learning_rate, momentum=0.9)
    optimizer = nobn.optimizers.AdaptiveGradientClipping(descent, 0.02)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss)
    model.fit(pairs(stream, steps, seed), verbose=0)
    found = accuracy(model)
    write(found, known)
    print(name, found, flush=True)
    return found


@click.command()
@click.option("--folder", type=Path, required=True, help="Where the runs go.")
@click.option("--seeds", default=3, show_default=True, help="Runs of each.")
@click.option("--steps", default=1000, show_default=True, help="Steps of two images.")
@click.option(
    "--output", type=Path, default=RESULTS / "micro_batches", show_default=True
)
def main(folder, seeds, steps, output):
    runs = [trained(folder, seed, output) for seed in range(seeds)]
    models = [nobn.training.open_model(run) for run in runs]
    rows = {
        "before": {
            "batch norm": [accuracy(model) for model in models],
            "folded": [accuracy(nobn.fold_batch_norm(model)) for model in models],
        }
    }
    print("before", rows["before"], flush=True)
    for stream, rate in itertools.product(STREAMS, RATES):
        row = rows[f"{stream}, {rate:g}"] = {form: [] for form in FORMS}
        for (seed, run), form in itertools.product(enumerate(runs), FORMS):
            row[form].append(fine_tuned(run, form, stream, steps, rate, seed))
    result = {
        "command": command(),
        "machine": machine(),
        "versions": versions(),
        "steps": steps,
        "rows": rows,
    }
    write(result, output / "result.json")
    show(result, output)


def show(result, place):
    said = result["command"], __doc__.splitlines()[0], result["machine"]
    say(*said, tables=drawing.micro_batches(result))
    title = f"CIFAR-10 after {result['steps']} steps of two images, lowest to highest"
    panels = drawing.micro_batches_panels(result)
    plots.dots(place / "result.png", title, panels)


if __name__ == "__main__":
    main()
