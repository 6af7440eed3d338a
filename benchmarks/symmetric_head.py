"""What a symmetric head does to alignment, to the steadiness of training, to accuracy.

Reads the runs that `experiments.py heads` has left in a folder, dense and symmetric
heads side by side for each data set. Alignment is the mean cosine of
`class_center_alignment` over the classes, on the test images; steadiness is the
standard deviation of the test accuracy over the second half of the epochs, and that of
the last one over the seeds.

With --choose, the scale that a symmetric head starts at: digits, four fifths of the
training images to train on and the others to measure, two seeds each.

    python benchmarks/symmetric_head.py --choose
    python benchmarks/symmetric_head.py --folder runs/evidence/heads
"""

from __future__ import annotations

import itertools
import json
from collections import defaultdict
from pathlib import Path

import larq_nobn as nobn
import click
import numpy as np
import tensorflow as tf
from _drawing import classifiers
from _results import RESULTS, command, machine, versions, write
from posterior import splits

keras = tf.keras


def measured(cell):
    """Of one run: data set and head, and what it says of them."""
    settings = json.loads((cell / "run.json").read_text())["settings"]
    run = nobn.training.load_run(cell)
    images = nobn.data.load(settings["dataset"], "test", 256)
    found = nobn.class_center_alignment(run.model, images)
    accuracies = [100 * row["val_accuracy"] for row in run.history]
    return (settings["dataset"], settings["network"].get("head", "dense")), {
        "seed": settings["seed"],
        "accuracy": round(accuracies[-1], 2),
        "epoch_std": round(float(np.std(accuracies[len(accuracies) // 2 :])), 3),
        "alignment": round(float(np.nanmean(found.cosine)), 4),
        "alignment_min": round(float(np.nanmin(found.cosine)), 4),
        "weight_sum": round(found.weight_sum_norm / np.mean(found.weight_norm), 4),
    }


def scales():
    """The accuracy in % on held-out images, by the scale at the start."""
    train, rest = splits("digits", None, held_out=True)
    recipe = nobn.training.RECIPES["nobn"]
    epochs, batch_size, found = 20, 32, {}
    for scale, seed in itertools.product((1.0, 5.0, 20.0, 100.0), (0, 1)):
        keras.utils.set_random_seed(seed)
        model = nobn.models.ReActNet18(
            (8, 8, 1), 10, width=16, blocks=(2, 2), head="symmetric", **recipe.network
        )
        nobn.calibrate(model, train[0][:256])
        model.get_layer("head").scale.assign(scale)
        steps = epochs * (len(train[0]) // batch_size)
        rate = keras.optimizers.schedules.PolynomialDecay(
            recipe.learning_rate, steps, 0.0
        )
        descent = keras.optimizers.Adam(rate, beta_2=recipe.beta_2)
        optimizer = nobn.optimizers.AdaptiveGradientClipping(
            descent, recipe.clip_factor
        )
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(optimizer, loss, metrics=["accuracy"])
        model.fit(*train, batch_size, epochs=epochs, verbose=0)
        accuracy = 100 * model.evaluate(*rest, verbose=0)[1]
        found.setdefault(f"{scale:g}", []).append(round(accuracy, 2))
        print(scale, seed, round(accuracy, 2), flush=True)
    return found


@click.command()
@click.option("--folder", type=Path, help="Of the finished runs.")
@click.option("--choose", is_flag=True, help="Instead, the scale at the start.")
@click.option("--output", type=Path, default=RESULTS / "heads", show_default=True)
def main(folder, choose, output):
    said = {"command": command(), "machine": machine(), "versions": versions()}
    if choose:
        write({**said, "accuracy": scales()}, output / "scale.json")
        return
    groups = defaultdict(list)
    for cell in sorted(path.parent for path in folder.glob("*/run.json")):
        kind, row = measured(cell)
        groups[kind].append(row)
    found = {**said, "rows": {"-".join(kind): rows for kind, rows in groups.items()}}
    write(found, output / "alignment.json")
    print(classifiers.heads(found))


if __name__ == "__main__":
    main()
