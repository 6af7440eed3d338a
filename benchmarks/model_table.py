"""Size, operations and latency of every network of the package as a TFLite model.

Networks for ImageNet take 224x224 images and have 1000 classes, the others 32x32 and
10; each without batch norm, with every vector of weights off its initial value, as
training leaves it. The trained networks of the package come with their accuracy. All
files are timed in one process, in turns, and the median of each is divided by that of
QuickNetSmall. Half an hour on two cores.

    python benchmarks/model_table.py
    python benchmarks/model_table.py --runs 1 --only ResNet20 --output runs/look
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import larq_nobn as nobn
import click
from _drawing import networks
from _files import float_operations, network, timed
from _results import leave, output
from larq_nobn.models import BUILDERS, open_pretrained, pretrained

REFERENCE = "QuickNetSmall"
SMALL = ("ResNet20", "VGGSmall")


def described(model, path):
    """Converts a network; what its file is, without the latency."""
    report = nobn.convert(model, path, verify=False)
    return {
        "input": list(model.input_shape[1:]),
        "parameters": model.count_params(),
        "binary_macs": report.binary_macs,
        "float_macs": report.float_macs,
        "size_bytes": report.size_bytes,
        "float_ops": float_operations(report),
    }


@click.command()
@click.option("--runs", default=20, help="Timed runs of each file.")
@click.option("--only", multiple=True, help="These networks alone, and QuickNetSmall.")
@output("models")
def main(runs, only, output):
    """Converts every network, and times the files in turns."""
    rows, files = {}, {}
    with tempfile.TemporaryDirectory() as folder:

        def describe(name, model, **more):
            files[name] = Path(folder) / f"{name}.tflite"
            rows[name] = {**described(model, files[name]), **more}
            print(name, rows[name], flush=True)

        # The first file is that to which the others are compared.
        for name in [REFERENCE, *(n for n in BUILDERS if n != REFERENCE)]:
            if not only or name in (*only, REFERENCE):
                size = (32, 10) if name in SMALL else (224, 1000)
                describe(name, network(name, *size))
        for row in pretrained():
            if not only or row.name in only:
                measured = {n: getattr(row, n) for n in ("accuracy", "dataset", "log")}
                describe(row.name, open_pretrained(row.name)[0], **measured)
        for name, found in timed(files, runs).items():
            ends = dict(zip(("low", "high"), found["interval"], strict=True))
            rows[name]["latency"] = {"ratio": found["ratio"], **ends}
    rows = {n: rows[n] for n in (*BUILDERS, *rows) if n in rows}  # in their own order
    leave(output, __doc__, networks.models, "larq-compute-engine", runs=runs, rows=rows)


if __name__ == "__main__":
    main()
