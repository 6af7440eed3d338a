"""A network of one's own on digits, step by step: what each step buys, and why.

Six binary convolutions of 32 channels after a float stem, trained on the 1,442 digits:
eight epochs in batches of 64, and two epochs in batches of two. Each step of STEPS
keeps those before it; the last row has Keras' batch norm after every convolution
instead of all that came after the shortcuts. Of each: test accuracy over the seeds; of
seed 0 in batches of 64 the file that it becomes, and what stands before each sign,
on the test images, before the training and after it. The last step's file is listed
operation by operation.

    python benchmarks/own_network.py
"""

from __future__ import annotations

import itertools
import tempfile
from collections import defaultdict
from pathlib import Path

import larq_nobn as nobn
import click
import larq as lq
import numpy as np
import tensorflow as tf
from _drawing import steps as drawing
from _results import RESULTS, leave

keras = tf.keras
BLOCKS, WIDTH = 6, 32
# Batch size, epochs, learning rate at the first step.
TASKS = {"batch 64": (64, 8, 3e-3), "batch 2": (2, 2, 1e-3)}
STEPS = (
    "plain",
    "shortcuts",
    "scaled kernels",
    "shifts",
    "calibration",
    "clipping",
)
ROWS = (*STEPS, "batch norm")


def network(row):
    """The network of a row, which has the parts of all steps up to it."""
    parts = set(STEPS[: STEPS.index(row) + 1]) if row in STEPS else {"shortcuts"}
    x = image = keras.Input((8, 8, 1))
    x = keras.layers.Conv2D(WIDTH, 3, padding="same", name="stem")(x)
    for number in range(BLOCKS):
        y = lq.layers.QuantConv2D(
            WIDTH,
            3,
            padding="same",
            pad_values=1.0,
            use_bias=False,
            input_quantizer=(
                nobn.quantizers.RSign() if "shifts" in parts else "approx_sign"
            ),
            kernel_quantizer=(
                nobn.quantizers.ScaledStdSign(
                    scale=0.5, variance_preserving=True, balanced=True
                )
                if "scaled kernels" in parts
                else "ste_sign"
            ),
            kernel_constraint=None if "scaled kernels" in parts else "weight_clip",
            name=f"binary_{number + 1}",
        )(x)
        if row == "batch norm":
            y = keras.layers.BatchNormalization(momentum=0.9)(y)
        x = keras.layers.add([x, y]) if "shortcuts" in parts else y
        if "shifts" in parts:
            x = nobn.layers.RPReLU()(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, keras.layers.Dense(10, name="head")(x))


def trained(row, seed, task, test):
    """The trained model, its accuracy in %, and what stands before its signs."""
    batch, epochs, rate = TASKS[task]
    train = nobn.data.load("digits", "train", batch_size=batch)
    keras.backend.clear_session()
    keras.utils.set_random_seed(seed)
    parts = set(STEPS[: STEPS.index(row) + 1]) if row in STEPS else set()
    model = network(row)
    if "calibration" in parts:
        nobn.calibrate(model, train)
    images = np.concatenate([x.numpy() for x, _ in test])
    fresh = list(before_signs(model, images).values())
    steps = epochs * len(train)
    rate = keras.optimizers.schedules.PolynomialDecay(rate, steps, 0.0)
    optimizer = keras.optimizers.Adam(rate)
    if "clipping" in parts:
        optimizer = nobn.optimizers.AdaptiveGradientClipping(optimizer, 0.02)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, metrics=["accuracy"])
    model.fit(train, epochs=epochs, verbose=0)
    accuracy = round(100 * model.evaluate(test, verbose=0)[1], 2)
    return (
        model,
        accuracy,
        {
            "fresh": fresh,
            "trained": list(before_signs(model, images).values()),
        },
    )


def before_signs(model, images):
    """What the sign is taken of, by binary convolution, over its channels."""
    convs = [x for x in model.layers if isinstance(x, lq.layers.QuantConv2D)]
    maps = keras.Model(model.input, [conv.input for conv in convs])(images)
    found = {}
    for conv, x in zip(convs, maps, strict=True):
        sign = conv.input_quantizer
        x = np.asarray(x, np.float64) * getattr(sign, "scale", 1)
        if (shift := getattr(sign, "shift", None)) is not None:
            x += shift.numpy()
        mean, deviation = x.mean((0, 1, 2)), x.std((0, 1, 2))
        positive = (x >= 0).mean((0, 1, 2))
        found[conv.name] = {
            "deviation": round(float(np.median(deviation)), 4),
            "offset": round(float(np.median(abs(mean) / deviation)), 4),
            "stuck": round(float((abs(positive - 0.5) > 0.45).mean()), 4),
            "window": round(float((abs(x) <= 1).mean()), 4),
        }
    return found


def filed(model, test):
    """What its file holds, in short, and operation by operation."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.tflite"
        report = nobn.convert(model, path, data=test)
        operations = nobn.audit(path).operations
    kinds = defaultdict(lambda: {"operations": 0, "macs": 0, "weights": 0, "maps": 0})
    for row in operations:
        kind = kinds[row["op"]]
        kind["operations"] += 1
        kind["macs"] += row["binary_macs"] + row["float_macs"]
        kind["weights"] += row["weight_bytes"]
        kind["maps"] += row["activation_bytes"]
    return {
        "bytes": report.size_bytes,
        "binary": report.lce_bconv2d,
        "float_ops": sum(op["count"] for op in report.float_ops),
        "exact_share": report.verify["exact_share"],
        "top1_agreement": report.verify["top1_agreement"],
    }, dict(kinds)


@click.command()
@click.option("--seeds", default=3, show_default=True, help="Trainings of each row.")
@click.option("--output", type=Path, default=RESULTS / "own_network", show_default=True)
def main(seeds, output):
    test = nobn.data.load("digits", "test", batch_size=256)
    rows, operations = {}, {}
    for row in ROWS:
        found = rows[row] = {"accuracy": {task: [] for task in TASKS}}
        for seed, task in itertools.product(range(seeds), TASKS):
            model, accuracy, signs = trained(row, seed, task, test)
            found["accuracy"][task].append(accuracy)
            if seed == 0 and task == "batch 64":
                found["file"], kinds = filed(model, test)
                found["before_signs"] = signs
                if row == STEPS[-1]:
                    operations = kinds
        print(row, found["accuracy"], found["file"], flush=True)
    leave(
        output,
        __doc__,
        drawing.own_network,
        tasks=TASKS,
        rows=rows,
        operations=operations,
    )


if __name__ == "__main__":
    main()
