"""What watching a training costs: an epoch with and without the monitors.

ReActNet-18 of width 16 on random 32x32 images, batch 128, with clipped Adam. Both
models train in one process, an epoch each in turn, so that whatever else the machine
does hits both alike; ratio of medians. The monitors are `BinaryWeightMonitor` and
`GradientClippingMonitor`, writing to TensorBoard. What they do once per training,
before its first step, is not part of an epoch.

    python benchmarks/monitors.py                 # prints, and writes the JSON
    python benchmarks/monitors.py --rounds 1      # a quick look
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

import click
from train_step import machine, quartiles, versions, write

RESULT = Path(__file__).with_suffix(".json")
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
@click.option("--output", type=Path, default=RESULT, show_default=True)
def main(rounds, steps, output):
    with tempfile.TemporaryDirectory() as folder:
        seconds = measure(steps, rounds, folder)
    median = {name: statistics.median(s) for name, s in seconds.items()}
    long_epoch = median["without"] / steps * CIFAR_STEPS
    result = {
        "command": " ".join(["python benchmarks/monitors.py", *sys.argv[1:]]),
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
    write(result, output)
    print_result(result)


def print_result(result):
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"An epoch of {result['steps']} steps, batch {BATCH}")
    table.add_column("variant")
    table.add_column("ms (quartiles)", justify="right")
    for name, row in result["ms_quartiles"].items():
        label = "monitors, at begin and end" if name == "own" else f"{name} monitors"
        table.add_row(label, " / ".join(f"{q:.0f}" for q in row))
    table.caption = (
        f"with / without {result['epoch_ratio']:.3f}; at begin and end "
        f"{result['own_share']:.2%} of this epoch"
    )
    Console().print(table)


if __name__ == "__main__":
    main()
