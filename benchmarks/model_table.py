"""Size, operations and latency of every network of the package as a TFLite model.

Networks for ImageNet take 224x224 images and have 1000 classes, the others 32x32 and
10; each without batch norm, with every weight off its initial value, as training leaves
it. The trained networks of the package come with their accuracy. All files are timed in
one process, in turns, and the median of each is divided by that of QuickNetSmall. Half
an hour on two cores.

    python benchmarks/model_table.py
    python benchmarks/model_table.py --runs 1 --only ResNet20 --output runs/look
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import larq_nobn as nobn
import click
import numpy as np
from _drawing import networks
from _results import RESULTS, leave
from larq_nobn._keras import keras
from larq_nobn.models import BUILDERS, open_pretrained, pretrained

SEED = 0
REFERENCE = "QuickNetSmall"
SMALL = ("ResNet20", "VGGSmall")


def build(name):
    """A network whose weights no preparation takes for absent."""
    keras.utils.set_random_seed(SEED)
    shape, classes = ((32, 32, 3), 10) if name in SMALL else ((224, 224, 3), 1000)
    model = BUILDERS[name](shape, classes)
    random = np.random.default_rng(SEED)
    for weight in model.trainable_weights:
        if weight.shape.rank == 1:
            weight.assign_add(0.1 * random.normal(size=weight.shape))
    return model


def described(model, path):
    """Converts a network; what its file is, without the latency."""
    report = nobn.convert(model, path, verify=False)
    return {
        "input": list(model.input_shape[1:]),
        "parameters": model.count_params(),
        "binary_macs": report.binary_macs,
        "float_macs": report.float_macs,
        "size_bytes": report.size_bytes,
        "float_ops": sum(op["count"] for op in report.float_ops),
    }


def trained(row, path):
    model, _ = open_pretrained(row.name)
    measured = {"accuracy": row.accuracy, "dataset": row.dataset, "log": row.log}
    return {**described(model, path), **measured}


@click.command()
@click.option("--runs", default=20, help="Timed runs of each file.")
@click.option("--only", multiple=True, help="These networks alone, and QuickNetSmall.")
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    default=RESULTS / "models",
    help="Where result.json goes.",
)
def main(runs, only, output):
    """Converts every network, and times the files in turns."""
    chosen = [n for n in BUILDERS if not only or n in (*only, REFERENCE)]
    rows, files = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        for name in chosen:
            files[name] = Path(folder) / f"{name}.tflite"
            rows[name] = described(build(name), files[name])
            print(name, rows[name], flush=True)
        for row in (r for r in pretrained() if not only or r.name in only):
            files[row.name] = Path(folder) / f"{row.name}.tflite"
            rows[row.name] = trained(row, files[row.name])
        others = [file for name, file in files.items() if name != REFERENCE]
        timed = nobn.benchmark(files[REFERENCE], others, runs=runs, warmup=2, seed=SEED)
    for timing in timed.timings:
        row = rows[Path(timing.path).stem]
        row["latency"] = {
            "ratio": timing.ratio,
            "low": timing.ratio_low,
            "high": timing.ratio_high,
        }
    leave(output, __doc__, networks.models, "larq-compute-engine", runs=runs, rows=rows)


if __name__ == "__main__":
    main()
