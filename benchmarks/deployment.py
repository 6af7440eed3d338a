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

import json
import platform
import time
from pathlib import Path

import larq_nobn as nobn
import click
import numpy as np
import tensorflow as tf
from _drawing import files as drawing
from _results import RESULTS, leave, write
from larq_nobn.deploy.lite._engine import compute_engine, quiet

SEED = 0
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


def build(name, normalization):
    """The network, with every vector moved to where training may leave it."""
    builder, side, arguments, _ = NETWORKS[name]
    tf.keras.backend.clear_session()
    tf.keras.utils.set_random_seed(SEED)
    shape, classes = (side, side, 3), 1000 if side == 224 else 10
    model = getattr(nobn.models, builder)(shape, classes, normalization, **arguments)
    random = np.random.default_rng(SEED)
    for weight in model.weights:
        if weight.shape.rank == 1:
            weight.assign(weight + random.uniform(0.05, 0.2, weight.shape))
    return model


def unprepared(model, path):
    """What LCE alone makes of the model, or the reason why it makes nothing."""
    try:
        with quiet():
            content = compute_engine().convert_keras_model(model)
        path.write_bytes(content)
        nobn.benchmark(path, runs=1, warmup=0)  # some files convert but do not run
    except Exception as error:  # MLIR's complaints have no common type
        path.unlink(missing_ok=True)
        return {"refused": str(error).strip().splitlines()[-1][:300]}
    return contents(path)


def prepared(model, path):
    """What `larq_nobn.convert` makes of it, or why it rejects."""
    shape = (4, *model.input.shape[1:])
    images = np.random.default_rng(SEED).normal(size=shape).astype(np.float32)
    try:
        nobn.convert(model, path, data=images)
    except nobn.deploy.ConversionError as error:
        return {"refused": str(error)}
    return contents(path)


def contents(path):
    found = nobn.audit(path)
    return {
        "lce_bconv2d": found.lce_bconv2d,
        "float_ops": sum(op["count"] for op in found.float_ops),
        "ops": sum(found.ops.values()),
        "bytes": found.size_bytes,
    }


def compared(first, second, runs, log):
    """How long `first` takes relative to `second`; None unless both exist."""
    if not (first.exists() and second.exists()):
        return None
    result = nobn.benchmark(second, first, runs=runs, seed=SEED)
    log.write(f"{result}\n\n")
    base, timing = result.timings
    return {
        "ms_quartiles": [
            round(t, 3) for t in (timing.low_ms, timing.ms, timing.high_ms)
        ],
        "ms_of_other": round(base.ms, 3),
        "ratio": round(timing.ratio, 3),
        "interval": [round(timing.ratio_low, 3), round(timing.ratio_high, 3)],
    }


def measure(name, folder, output):
    """One row: four files, and three pairs of them timed side by side."""
    runs = NETWORKS[name][-1]
    stem = name.replace(", ", "-").replace(" ", "")
    done = folder / f"{stem}.json"
    if done.exists():
        return json.loads(done.read_text())
    files = {
        (n, kind): folder / f"{stem}-{n}-{kind}.tflite"
        for n in NORMALIZATIONS
        for kind in KINDS
    }
    row = {n: {} for n in NORMALIZATIONS}
    for n in NORMALIZATIONS:
        model = build(name, n)
        row[n]["unprepared"] = unprepared(model, files[n, "unprepared"])
        row[n]["prepared"] = prepared(model, files[n, "prepared"])
    timings = output / "timings"
    timings.mkdir(parents=True, exist_ok=True)
    with (timings / f"{stem}.txt").open("w") as log:
        for n in NORMALIZATIONS:
            pair = files[n, "prepared"], files[n, "unprepared"]
            row[n]["prepared_to_unprepared"] = compared(*pair, runs, log)
        pair = files["nobn", "prepared"], files["batch_norm", "prepared"]
        row["nobn_to_batch_norm"] = compared(*pair, runs, log)
    write(row, done)
    return row


@click.command()
@click.option("--folder", type=Path, required=True, help="Where the files go.")
@click.option("--only", multiple=True, type=click.Choice(list(NETWORKS)))
@click.option("--output", type=Path, default=RESULTS / "deployment", show_default=True)
def main(folder, only, output):
    folder.mkdir(parents=True, exist_ok=True)
    rows = {}
    for name in only or NETWORKS:
        start = time.perf_counter()
        rows[name] = measure(name, folder, output)
        print(f"{name}: {time.perf_counter() - start:.0f} s", flush=True)
    leave(
        output,
        __doc__,
        drawing.deployment,
        "larq_compute_engine",
        note=f"{platform.machine()}: latency here is no guide to another processor",
        seed=SEED,
        threads=1,
        networks={
            name: {"builder": b, "side": side, "arguments": arguments, "runs": runs}
            for name, (b, side, arguments, runs) in NETWORKS.items()
            if name in rows
        },
        rows=rows,
    )


if __name__ == "__main__":
    main()
