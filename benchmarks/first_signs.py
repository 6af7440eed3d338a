"""How one-sided the signs of a fresh network are, and what calibration makes of it.

ReActNet-18 of width 16 under every normalization, as its recipe builds it, on 256
training images of CIFAR-10. For a channel in front of a binary convolution that is
positive in a share p of all places of all images, |2p - 1| is 0 if it is balanced and 1
if it says nothing; stuck are channels beyond 0.9. Where batch norm, Kalman batch norm
or whitening stand between, there is nothing to calibrate; as in training, these look at
the batch.

    python benchmarks/first_signs.py
"""

from __future__ import annotations

from pathlib import Path

import larq_nobn as nobn
import click
import numpy as np
import tensorflow as tf
from _drawing import tuning
from _results import RESULTS, command, machine, versions, write, write_log

keras = tf.keras
IMAGES = 256


def one_sidedness(network, images):
    """|2p - 1| of every channel that meets a binary convolution."""
    maps = [
        layer.input_quantizer(layer.input)
        for layer in network.layers
        if getattr(layer, "input_quantizer", None) is not None
    ]
    signs = keras.Model(network.input, maps)(images, training=True)
    means = [tf.reduce_mean(each, axis=(0, 1, 2)).numpy() for each in signs]
    return np.abs(np.concatenate(means))


def measured(normalization, images):
    keras.utils.set_random_seed(0)
    settings = nobn.training.RunSettings.from_recipe(
        normalization=normalization, width=16
    )
    network = nobn.models.ReActNet18(
        images.shape[1:], 10, normalization, width=16, **settings.network
    )
    row = {"fresh": shown(one_sidedness(network, images))}
    if settings.calibrate:
        nobn.calibrate(network, images)
        row["calibrated"] = shown(one_sidedness(network, images))
    return row


def shown(channels):
    stuck = float(np.mean(channels > 0.9))
    return {"mean": round(float(channels.mean()), 3), "stuck": round(stuck, 3)}


@click.command()
@click.option("--output", type=Path, default=RESULTS / "first_signs", show_default=True)
def main(output):
    batches = nobn.data.load("cifar10", "train", IMAGES, augment=False)
    images = next(batches.as_numpy_iterator())[0]
    result = {
        "command": command(),
        "machine": machine(),
        "versions": versions(),
        "seed": 0,
        "rows": {name: measured(name, images) for name in nobn.models.NORMALIZATIONS},
    }
    write(result, output / "result.json")
    lines = result["command"], __doc__.splitlines()[0], result["machine"]
    write_log(output, *lines, tables=tuning.first_signs(result))


if __name__ == "__main__":
    main()
