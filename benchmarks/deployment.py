"""What preparing a network for LCE saves, and what a network without batch norm saves.

Every network is converted twice, with batch norm and without: unprepared, which is what
LCE's own `convert_keras_model` makes of it, and prepared, by `larq_nobn.convert`. Float
operations, all operations, bytes, and ratios of latency with 95 % intervals, measured
side by side in LCE's interpreter with one thread. Weights are random; gains, shifts,
slopes and statistics are moved off where they start, or half of them would vanish.
About seven minutes on two cores; finished networks in the folder are not repeated.

    python benchmarks/deployment.py --folder runs/deployment
    python benchmarks/deployment.py --folder runs/look --output runs/look/results \
        --only ResNet20   # a quick look
"""

from __future__ import annotations

import itertools
import platform
from pathlib import Path

import larq_nobn as nobn
import click
import numpy as np
from _drawing import files as drawing
from _files import SEED, float_operations, network, timed
from _results import kept, leave, output
from larq_nobn.deploy.lite._converter import compute_engine, quiet

# Name: builder, side of the image, arguments, timed runs.
NETWORKS = {
    "ReActNet18": ("ReActNet18", 32, {"width": 64}, 30),
    "ReActNet18, 224 px": ("ReActNet18", 224, {"width": 64}, 12),
    "BiRealNet18": ("BiRealNet18", 32, {}, 30),
    "XNORNet18": ("XNORNet18", 32, {}, 30),
    "ResNet20": ("ResNet20", 32, {}, 50),
    "VGGSmall": ("VGGSmall", 32, {}, 30),
    "BinaryDenseNet28": ("BinaryDenseNet28", 32, {}, 20),
    "MeliusNet22": ("MeliusNet22", 32, {}, 20),
    "ReActNetA": ("ReActNetA", 64, {}, 50),
}
NORMALIZATIONS = ("batch_norm", "nobn")
KINDS = ("unprepared", "prepared")


def converted(kind, model, path):
    """What LCE alone, or `convert`, makes of a model; or why it makes nothing."""
    try:
        if kind == "unprepared":
            with quiet():
                path.write_bytes(compute_engine().convert_keras_model(model))
            nobn.benchmark(path, runs=1, warmup=0)  # some files convert but do not run
        else:
            shape = (4, *model.input.shape[1:])
            images = np.random.default_rng(SEED).normal(size=shape).astype(np.float32)
            nobn.convert(model, path, data=images)
    except Exception as error:  # MLIR's complaints have no common type
        path.unlink(missing_ok=True)
        return {"refused": str(error).strip().splitlines()[-1][:300]}
    found = nobn.audit(path)
    return {
        "lce_bconv2d": found.lce_bconv2d,
        "float_ops": float_operations(found),
        "ops": sum(found.ops.values()),
        "bytes": found.size_bytes,
    }


def compared(base, other, runs):
    """How long the second file takes relative to the first; None unless both exist."""
    if not (base.exists() and other.exists()):
        return None
    return timed({"base": base, "other": other}, runs)["other"]


def measure(name, folder):
    """One row: four files, and three pairs of them timed side by side."""
    builder, side, arguments, runs = NETWORKS[name]
    classes = 1000 if side == 224 else 10
    stem = name.replace(", ", "-").replace(" ", "")
    files = {
        pair: folder / f"{stem}-{'-'.join(pair)}.tflite"
        for pair in itertools.product(NORMALIZATIONS, KINDS)
    }
    row = {}
    for n in NORMALIZATIONS:
        model = network(builder, side, classes, n, **arguments)
        row[n] = {kind: converted(kind, model, files[n, kind]) for kind in KINDS}
        pair = files[n, "unprepared"], files[n, "prepared"]
        row[n]["prepared_to_unprepared"] = compared(*pair, runs)
    pair = files["batch_norm", "prepared"], files["nobn", "prepared"]
    return {**row, "nobn_to_batch_norm": compared(*pair, runs)}


@click.command()
@click.option("--folder", type=Path, required=True, help="Where the files go.")
@click.option("--only", multiple=True, type=click.Choice(list(NETWORKS)))
@output("deployment")
def main(folder, only, output):
    folder.mkdir(parents=True, exist_ok=True)
    rows = {}
    for name in only or NETWORKS:
        rows[name] = kept(folder / f"{name}.json", measure, name, folder)
        print(name, flush=True)
    keys = ("builder", "side", "arguments", "runs")
    measured = {
        "note": f"{platform.machine()}: latency here is no guide to another processor",
        "seed": SEED,
        "threads": 1,
        "networks": {n: dict(zip(keys, NETWORKS[n], strict=True)) for n in rows},
        "rows": rows,
    }
    leave(output, __doc__, drawing.deployment, "larq_compute_engine", **measured)


if __name__ == "__main__":
    main()
