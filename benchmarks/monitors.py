"""What watching a training costs: an epoch with and without the monitors.

ReActNet-18 of width 16 on random 32x32 images, batch 128, with clipped Adam. Both
models train in one process, an epoch each in turn, so that whatever else the machine
does hits both alike; ratio of medians. The monitors are `BinaryWeightMonitor` and
`GradientClippingMonitor`, writing to TensorBoard. What they do once per training,
before its first step, is not part of an epoch.

    python benchmarks/monitors.py
    python benchmarks/monitors.py --rounds 1 --output runs/look      # a quick look
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

import click
from _drawing import cost, pictures
from _results import RESULTS, command, machine, quartiles, versions, write, write_log

WIDTH, BATCH = 16, 128
CIFAR_STEPS = 390  # an epoch of 50,000 images


def make_model():
    import larq_nobn as nobn  # first: it selects legacy Keras
    import tensorflow as tf

    keras = tf.keras
    keras.utils.set_random_seed(0)
    model = nobn.models.ReActNet18((32, 32, 3), 10, "nobn", width=WIDTH)
    model.compile(
        nobn.optimizers.AdaptiveGradientClipping(keras.optimizers.Adam(1e-3), 0.02),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    return model


def make_data(steps):
    import tensorflow as tf

    images = tf.random.stateless_normal((BATCH, 32, 32, 3), (0, 1))
    return tf.data.Dataset.from_tensors((images, tf.range(BATCH) % 10)).repeat(steps)


def make_epoch(model, steps, monitors):
    """Returns what trains one epoch: seconds in all, and in the monitors alone."""
    import tensorflow as tf

    data, log = make_data(steps), []

    def note(*_):
        log.append(time.perf_counter())

    stamp = tf.keras.callbacks.LambdaCallback(on_epoch_begin=note, on_epoch_end=note)

    def epoch():
        log.clear()
        model.fit(data, verbose=0, callbacks=[stamp, *monitors, stamp])
        begin, ready, trained, end = log
        return {"epoch": end - begin, "own": ready - begin + end - trained}

    return epoch


def measure(steps, rounds, folder):
    import larq_nobn as nobn

    monitors = [
        nobn.callbacks.BinaryWeightMonitor(log_dir=folder),
        nobn.callbacks.GradientClippingMonitor(log_dir=folder),
    ]
    epochs = {
        "without": make_epoch(make_model(), steps, []),
        "with": make_epoch(make_model(), steps, monitors),
    }
    for epoch in epochs.values():  # compiles
        epoch()
    seconds = {"without": [], "with": [], "own": []}
    for _ in range(rounds):
        for name, epoch in epochs.items():
            measured = epoch()
            seconds[name].append(measured["epoch"])
        seconds["own"].append(measured["own"])
    return seconds


@click.command()
@click.option("--rounds", default=12, show_default=True, help="Timed epochs of each.")
@click.option("--steps", default=100, show_default=True, help="Steps per epoch.")
@click.option("--output", type=Path, default=RESULTS / "monitors", show_default=True)
def main(rounds, steps, output):
    with tempfile.TemporaryDirectory() as folder:
        seconds = measure(steps, rounds, folder)
    median = {name: statistics.median(s) for name, s in seconds.items()}
    long_epoch = median["without"] / steps * CIFAR_STEPS
    result = {
        "command": command(),
        "machine": machine(),
        "versions": versions(),
        "seed": 0,
        "rounds": rounds,
        "steps": steps,
        "width": WIDTH,
        "batch": BATCH,
        "ms_quartiles": {name: quartiles(s) for name, s in seconds.items()},
        "epoch_ratio": round(median["with"] / median["without"], 4),
        # Once per epoch, whatever its length; counting is part of the steps.
        "own_share": round(median["own"] / median["without"], 5),
        f"own_share_of_{CIFAR_STEPS}_steps": round(median["own"] / long_epoch, 5),
    }
    write(result, output / "result.json")
    show(result, output)


def show(result, place):
    said = result["command"], __doc__.splitlines()[0], result["machine"]
    write_log(place, *said, tables=cost.monitors(result))
    title = "ReActNet-18 with and without monitors, quartiles"
    pictures.dots(place / "result.png", title, cost.monitors_panels(result))


if __name__ == "__main__":
    main()
