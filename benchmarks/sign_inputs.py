"""What the signs of trained networks meet, stage by stage.

Of every ReActNet-18 in the folder, on 256 training images of CIFAR-10: the deviation of
what the sign of each binary convolution is taken of, behind its scale and shift, and
the share of it within [-1, 1], where the straight-through estimator lets gradients
pass; means over the convolutions of a stage.

    python benchmarks/sign_inputs.py --folder runs/evidence/budgets
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import larq_nobn as nobn
import click
import numpy as np
import tensorflow as tf
from _drawing import trained
from _results import RESULTS, command, machine, versions, write, write_log

keras = tf.keras
IMAGES = 256


def measured(folder, images):
    """Deviation and share within the window, for each stage of the network of a run."""
    run = nobn.training.load_run(folder)
    said = run.record["settings"]
    quantized = [
        layer
        for layer in run.model.layers
        if getattr(layer, "input_quantizer", None) is not None
    ]
    inputs = [layer.input for layer in quantized]
    maps = keras.Model(run.model.input, inputs)(images, training=False)
    stages = defaultdict(list)
    for layer, met in zip(quantized, maps, strict=True):
        sign = layer.input_quantizer
        behind = sign.scale * met.numpy().astype("float64") + sign.whole_shift()
        stages[layer.name.split("_")[0]].append(behind)
    return {
        **{name: said[name] for name in ("normalization", "epochs", "seed")},
        "stages": {
            stage: {
                "deviation": mean(map(np.std, found)),
                "share": mean(np.mean(abs(met) <= 1) for met in found),
            }
            for stage, found in stages.items()
        },
    }


def mean(values):
    return round(float(np.mean(list(values))), 3)


@click.command()
@click.option("--folder", type=Path, required=True, help="Where the runs are.")
@click.option("--output", type=Path, default=RESULTS / "sign_inputs", show_default=True)
def main(folder, output):
    batches = nobn.data.load("cifar10", "train", IMAGES, augment=False)
    images = next(batches.as_numpy_iterator())[0]
    runs = sorted(folder.glob("*/run.json"))
    result = {
        "command": command(),
        "machine": machine(),
        "versions": versions(),
        "rows": {run.parent.name: measured(run.parent, images) for run in runs},
    }
    write(result, output / "result.json")
    said = result["command"], __doc__.splitlines()[0], result["machine"]
    write_log(output, *said, tables=trained.sign_inputs(result))


if __name__ == "__main__":
    main()
