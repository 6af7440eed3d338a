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

import larq_nobn as nobn
import click
from _drawing.markdown import table
from _files import network
from _results import leave, output
from larq_nobn.deploy.lite._engine import compute_engine

NETWORKS = ("QuickNetLarge", "ReActNetA")


def seconds(function, *arguments, **options):
    """Processor seconds of a call."""
    start = time.process_time()
    function(*arguments, **options)
    return time.process_time() - start


def measure(model):
    """Seconds of LCE alone, of `convert` with the least verification, and with all."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.tflite"
        return (
            seconds(compute_engine().convert_keras_model, model),
            seconds(nobn.convert, model, path, verify=False),
            seconds(nobn.convert, model, path),
        )


@click.command()
@click.option("--network", "names", multiple=True, default=NETWORKS, show_default=True)
@click.option("--size", default=224, show_default=True)
@click.option("--rounds", default=3, show_default=True)
@output("convert_time")
def main(names, size, rounds, output):
    rows = []
    for name in names:
        measure(network(name, 32, 1000))
        model = network(name, size, 1000)
        times = [measure(model) for _ in range(rounds)]
        own, quick, full = map(statistics.median, zip(*times, strict=True))
        row = {
            "lce_seconds": own,
            "unverified_seconds": quick,
            "unverified_ratio": quick / own,
            "seconds": full,
            "ratio": full / own,
        }
        rows.append({"network": name} | {n: round(x, 2) for n, x in row.items()})
    load = [round(load, 1) for load in os.getloadavg()]
    about = "Conversion, CPU seconds", drawn, "larq_compute_engine"
    leave(output, *about, load=load, size=size, rounds=rounds, rows=rows)


def drawn(result):
    head = ("network", "LCE", "verify=False", "ratio", "verify=True", "ratio")
    return table(head, [row.values() for row in result["rows"]])


if __name__ == "__main__":
    main()
