"""How long `convert` takes, beside Larq Compute Engine's own converter.

Both convert the same model in turns in this process, after a small one that fills
caches. Times are processor seconds of all threads, so that other programs on the
machine matter little. What `convert` does besides is rewriting, counting and the
comparison of given model, prepared model and file; `verify=False` has the least of it.

    python benchmarks/convert_time.py                # five minutes on a quiet machine
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from pathlib import Path

import click
from _drawing.markdown import table
from _results import RESULTS, leave

NETWORKS = ("QuickNetLarge", "ReActNetA")


def seconds(function):
    """Processor seconds of a call."""
    start = time.process_time()
    function()
    return time.process_time() - start


def network(name, size):
    """A network whose weights are all away from where they start."""
    import larq_nobn as nobn
    import numpy as np
    from larq_nobn._keras import keras

    keras.utils.set_random_seed(0)
    model = getattr(nobn.models, name)((size, size, 3), 1000)
    random = np.random.default_rng(0)
    for weight in model.trainable_weights:
        noise = 0.05 * random.normal(size=weight.shape)
        weight.assign_add(noise.astype(np.float32))
    return model


def measure(model):
    """Seconds of LCE alone, of `convert` with the least verification, and with all."""
    import larq_nobn as nobn
    from larq_nobn.deploy.lite._engine import compute_engine

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.tflite"
        return (
            seconds(lambda: compute_engine().convert_keras_model(model)),
            seconds(lambda: nobn.convert(model, path, verify=False)),
            seconds(lambda: nobn.convert(model, path)),
        )


@click.command()
@click.option("--network", "names", multiple=True, default=NETWORKS, show_default=True)
@click.option("--size", default=224, show_default=True)
@click.option("--rounds", default=3, show_default=True)
def main(names, size, rounds):
    rows = []
    for name in names:
        measure(network(name, 32))
        model = network(name, size)
        times = [measure(model) for _ in range(rounds)]
        own, quick, full = (
            statistics.median(column) for column in zip(*times, strict=True)
        )
        rows.append(
            {
                "network": name,
                "lce_seconds": round(own, 2),
                "unverified_seconds": round(quick, 2),
                "unverified_ratio": round(quick / own, 2),
                "seconds": round(full, 2),
                "ratio": round(full / own, 2),
                "ratios": [round(f / o, 2) for o, _, f in times],
            }
        )
    load = [round(load, 1) for load in os.getloadavg()]
    about = f"Conversion at {size} px, CPU seconds", drawn, "larq_compute_engine"
    place = RESULTS / "convert_time"
    leave(place, *about, load=load, size=size, rounds=rounds, rows=rows)


def drawn(result):
    head = ("network", "LCE", "verify=False", "ratio", "verify=True", "ratio")
    return table(head, [list(row.values())[:-1] for row in result["rows"]])


if __name__ == "__main__":
    main()
