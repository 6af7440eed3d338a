"""What trained networks make of cropped images, as in training, and of whole ones.

Of every run in the folder, the loss on 2,000 training images of CIFAR-10: cropped at
random from a black border, as its training saw them, and as they are, which is how
test images are.

    python benchmarks/cropped.py --folder runs/evidence/methods
"""

from __future__ import annotations

from pathlib import Path

import larq_nobn as nobn
import click
import numpy as np
import tensorflow as tf
from _drawing import single
from _results import RESULTS, command, machine, versions, write, write_log

IMAGES, BATCH = 2_000, 500


def images(augment):
    """As many of each class, always the same, and their labels."""
    batches = nobn.data.load(
        "cifar10", "train", BATCH, augment=augment, shuffle=False, limit=IMAGES
    )
    found = zip(*batches.as_numpy_iterator(), strict=True)
    return [np.concatenate(part) for part in found]


def loss(model, pictures, labels):
    outputs = model.predict(pictures, BATCH, verbose=0)
    loss = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    return round(float(loss(labels, outputs)), 4)


@click.command()
@click.option("--folder", type=Path, required=True, help="Where the runs are.")
@click.option("--output", type=Path, default=RESULTS / "cropped", show_default=True)
def main(folder, output):
    cropped, whole = images(True), images(False)
    rows = {}
    for name in nobn.models.NORMALIZATIONS:
        for run in sorted(folder.glob(f"{name}-[0-9]*/run.json")):
            model = nobn.training.load_run(run.parent).model
            rows[run.parent.name] = {
                "normalization": name,
                "cropped": loss(model, *cropped),
                "whole": loss(model, *whole),
            }
            print(run.parent.name, rows[run.parent.name], flush=True)
    result = {
        "command": command(),
        "machine": machine(),
        "versions": versions(),
        "rows": rows,
    }
    write(result, output / "result.json")
    said = result["command"], __doc__.splitlines()[0], result["machine"]
    write_log(output, *said, tables=single.cropped(result))


if __name__ == "__main__":
    main()
