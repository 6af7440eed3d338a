"""How long `convert` takes, beside the converter of Larq Compute Engine itself.

Both convert the same networks of 224 pixels in turns in one process, after a small one
that fills caches. Times are processor seconds of all threads, so that other programs on
the machine matter little. What `convert` does besides are its rewrites and the
comparison of model and file, of which `verify=False` does the least.

    python benchmarks/convert_time.py                # some minutes
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
from larq_nobn.deploy.lite._converter import compute_engine

NETWORKS = ("QuickNetLarge", "ReActNetA")


def seconds(function):
    start = time.process_time()
    function()
    return time.process_time() - start


def measure(model):
    """Seconds of LCE alone, of `convert` with the least verification, and with all."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.tflite"
        return (
            seconds(lambda: compute_engine().convert_keras_model(model)),
            seconds(lambda: nobn.convert(model, path, verify=False)),
            seconds(lambda: nobn.convert(model, path)),
        )


@click.command()
@click.option("--rounds", default=2, show_default=True)
@output("convert_time")
def main(rounds, output):
    rows = {}
    for name in NETWORKS:
        measure(network(name, 32, 10))
        model = network(name, 224, 1000)
        times = [measure(model) for _ in range(rounds)]
        rows[name] = [statistics.median(each) for each in zip(*times, strict=True)]
    load = round(os.getloadavg()[0], 1)
    leave(output, __doc__, drawn, "larq_compute_engine", load=load, rows=rows)


def drawn(result):
    """CPU seconds, and ratios to those of LCE alone."""
    rows = [
        [name, *(f"{n:.1f}" for n in row), *(f"{n / row[0]:.2f}" for n in row[1:])]
        for name, row in result["rows"].items()
    ]
    head = ["network", "LCE", "`verify=False`", "`convert`", "ratio", "ratio"]
    return table(head, rows)


if __name__ == "__main__":
    main()
