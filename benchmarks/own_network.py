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
from collections import Counter, defaultdict
from pathlib import Path

import larq_nobn as nobn
import click
import larq as lq
import numpy as np
import tensorflow as tf
from _drawing import steps as drawing
from _files import float_operations
from _results import leave, output, seeds

keras = tf.keras
BLOCKS, WIDTH = 6, 32
# Batch size, epochs, learning rate at the first step.
TASKS = {"batch 64": (64, 8, 3e-3), "batch 2": (2, 2, 1e-3)}
STEPS = ("plain", "shortcuts", "scaled kernels", "shifts", "calibration", "clipping")
# Each has the parts of all steps up to it.
ROWS = {step: STEPS[: number + 1] for number, step in enumerate(STEPS)}
ROWS["batch norm"] = ("shortcuts", "batch norm")


def network(parts):
    """The network of a row, by its parts."""
    x = image = keras.Input((8, 8, 1))
    x = keras.layers.Conv2D(WIDTH, 3, padding="same", name="stem")(x)
    for number in range(BLOCKS):
        kernel = {"kernel_quantizer": "ste_sign", "kernel_constraint": "weight_clip"}
        if "scaled kernels" in parts:
            scaled = {"scale": 0.5, "variance_preserving": True, "balanced": True}
            kernel = {"kernel_quantizer": nobn.quantizers.ScaledStdSign(**scaled)}
        sign = nobn.quantizers.RSign() if "shifts" in parts else "approx_sign"
        around = {"padding": "same", "pad_values": 1.0, "use_bias": False}
        name = f"binary_{number + 1}"
        y = lq.layers.QuantConv2D(
            WIDTH, 3, input_quantizer=sign, name=name, **around, **kernel
        )(x)
        if "batch norm" in parts:
            y = keras.layers.BatchNormalization(momentum=0.9)(y)
        x = keras.layers.add([x, y]) if "shortcuts" in parts else y
        if "shifts" in parts:
            x = nobn.layers.RPReLU()(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, keras.layers.Dense(10, name="head")(x))


def trained(parts, seed, task, test):
    """The trained model, its accuracy in %, and what stands before its signs."""
    batch, epochs, rate = TASKS[task]
    train = nobn.data.load("digits", "train", batch_size=batch)
    keras.backend.clear_session()
    keras.utils.set_random_seed(seed)
    model = network(parts)
    if "calibration" in parts:
        nobn.calibrate(model, train)
    images = np.concatenate([x.numpy() for x, _ in test])
    fresh = before_signs(model, images)
    steps = epochs * len(train)
    rate = keras.optimizers.schedules.PolynomialDecay(rate, steps, 0.0)
    optimizer = keras.optimizers.Adam(rate)
    if "clipping" in parts:
        optimizer = nobn.optimizers.AdaptiveGradientClipping(optimizer, 0.02)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, metrics=["accuracy"])
    model.fit(train, epochs=epochs, verbose=0)
    accuracy = round(100 * model.evaluate(test, verbose=0)[1], 2)
    signs = {"fresh": fresh, "trained": before_signs(model, images)}
    return model, accuracy, signs


def before_signs(model, images):
    """What the sign is taken of, by binary convolution, over its channels."""
    convs = [x for x in model.layers if isinstance(x, lq.layers.QuantConv2D)]
    maps = keras.Model(model.input, [conv.input for conv in convs])(images)
    found = []
    for conv, x in zip(convs, maps, strict=True):
        sign = conv.input_quantizer
        x = np.asarray(x, np.float64) * getattr(sign, "scale", 1)
        if (shift := getattr(sign, "shift", None)) is not None:
            x += shift.numpy()
        mean, deviation = x.mean((0, 1, 2)), x.std((0, 1, 2))
        positive = (x >= 0).mean((0, 1, 2))
        row = {
            "deviation": np.median(deviation),
            "offset": np.median(abs(mean) / deviation),
            "stuck": (abs(positive - 0.5) > 0.45).mean(),
            "window": (abs(x) <= 1).mean(),
        }
        found.append({name: round(float(value), 4) for name, value in row.items()})
    return found


def filed(model, test):
    """What its file holds, in short, and operation by operation."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.tflite"
        report = nobn.convert(model, path, data=test)
        operations = nobn.audit(path).operations
    kinds = defaultdict(Counter)
    for row in operations:
        kinds[row["op"]].update(
            operations=1,
            macs=row["binary_macs"] + row["float_macs"],
            weights=row["weight_bytes"],
            maps=row["activation_bytes"],
        )
    return {
        "bytes": report.size_bytes,
        "binary": report.lce_bconv2d,
        "float_ops": float_operations(report),
        "exact_share": report.verify["exact_share"],
        "top1_agreement": report.verify["top1_agreement"],
    }, dict(kinds)


@click.command()
@seeds("0,1,2")
@output("own_network")
def main(seeds, output):
    test = nobn.data.load("digits", "test", batch_size=256)
    rows, operations = {}, {}
    for name, parts in ROWS.items():
        row = rows[name] = {"accuracy": {task: [] for task in TASKS}}
        for seed, task in itertools.product(seeds, TASKS):
            model, accuracy, signs = trained(parts, seed, task, test)
            row["accuracy"][task].append(accuracy)
            if seed == seeds[0] and task == "batch 64":
                row["before_signs"] = signs
                row["file"], kinds = filed(model, test)
                operations = kinds if name == STEPS[-1] else operations
        print(name, row["accuracy"], row["file"], flush=True)
    found = {"rows": rows, "operations": operations}
    leave(output, __doc__, drawing.own_network, tasks=TASKS, **found)


if __name__ == "__main__":
    main()
