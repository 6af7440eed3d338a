"""A U-Net of binary convolutions that removes noise from images, by normalization.

Ten binary convolutions of 32 channels on three scales, between a real-valued first and
last layer; the output is the input plus what the network computes. Gaussian noise of
standard deviation 50/255 on the two images of scikit-learn: trained on the left four
fifths of china.jpg; learning rate and gradient clipping of each form are the best of
four on the rest of it, in a quarter of the steps; tested on flower.jpg, also after a
training on crops whose channels are darkened at random. Each number is the mean PSNR in
dB over patches that do not overlap, whose noise is the same for all.
Of seed 0 without batch norm: the files that it becomes.

    python benchmarks/dense_prediction.py
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
from _drawing import accuracy as drawing
from _files import float_operations
from _results import leave, output, seeds
from sklearn.datasets import load_sample_images

keras = tf.keras
SIDE, WIDTH, SCALES, NOISE = 48, 32, 2, 50 / 255
LIGHT = 0.2, 1.0
BATCH, STEPS, SEARCH = 8, 600, 150
RATES, CLIPS = (3e-3, 1e-2), (None, 0.02)
# By name, the first value of the factor of each branch, if it has one.
FORMS = {"shortcuts": None, "nobn": "zeros", "batch_norm": "zeros", "ones": "ones"}
RUNTIMES = {"lce": "tflite", "litert": "tflite", "c": "c"}


def branch(x, form):
    """What a block adds to its input."""
    kernel = {"kernel_quantizer": "ste_sign", "kernel_constraint": "weight_clip"}
    if form == "nobn":
        scaled = {"scale": 1.0, "variance_preserving": True, "balanced": True}
        kernel = {"kernel_quantizer": nobn.quantizers.ScaledStdSign(**scaled)}
    around = {"padding": "same", "pad_values": 1.0, "use_bias": False}
    sign = nobn.quantizers.RSign()
    x = lq.layers.QuantConv2D(WIDTH, 3, input_quantizer=sign, **around, **kernel)(x)
    if form == "nobn":
        return nobn.layers.SkipInit(FORMS[form])(x)
    gamma = {"gamma_initializer": FORMS[form]}
    return keras.layers.BatchNormalization(momentum=0.9, **gamma)(x)


def network(form):
    def block(x):
        if form != "shortcuts":
            x = keras.layers.add([branch(x, form), x])
        return nobn.layers.RPReLU()(x)

    noisy = keras.Input((SIDE, SIDE, 3))
    x = keras.layers.Rescaling(4.0, -2.0)(noisy)
    x = keras.layers.Conv2D(WIDTH, 3, padding="same", name="stem")(x)
    skips = []
    for _ in range(SCALES):
        skips.append(block(block(x)))
        x = keras.layers.AveragePooling2D()(skips[-1])
    x = block(block(x))
    for skip in reversed(skips):
        x = keras.layers.add([keras.layers.UpSampling2D()(x), skip])
        x = block(block(keras.layers.Rescaling(0.5**0.5)(x)))
    zeros = {"kernel_initializer": "zeros", "name": "head"}
    x = keras.layers.Conv2D(3, 3, padding="same", **zeros)(x)
    return keras.Model(noisy, keras.layers.add([noisy, x]))


def batches(image, seed, colored):
    """Random crops with new noise and the same without, maybe in light of a color."""

    def example(number):
        crop = tf.image.stateless_random_crop(image, (SIDE, SIDE, 3), (seed, number))
        clean = tf.image.stateless_random_flip_left_right(crop, (seed, number))
        if colored:
            clean *= tf.random.stateless_uniform((3,), (seed, number), *LIGHT)
        noise = tf.random.stateless_normal(clean.shape, (number, seed), stddev=NOISE)
        return clean + noise, clean

    numbers = tf.data.Dataset.counter(dtype=tf.int32)
    return numbers.map(example).batch(BATCH, drop_remainder=True)


def patches(image):
    """An image in patches that do not overlap, with noise and without."""
    rows, columns = (size // SIDE for size in image.shape[:2])
    clean = image[: rows * SIDE, : columns * SIDE]
    clean = clean.reshape(rows, SIDE, columns, SIDE, 3).swapaxes(1, 2)
    clean = clean.reshape(-1, SIDE, SIDE, 3)
    noise = np.random.default_rng(0).normal(0, NOISE, clean.shape)
    return (clean + noise).astype(np.float32), clean


def psnr(restored, clean):
    """The mean over patches, in dB, of values in [0, 1]."""
    errors = np.square(np.clip(restored, 0, 1) - clean).mean((1, 2, 3))
    return round(float(-10 * np.log10(errors).mean()), 3)


def trained(form, seed, steps, rate, clip, image, colored=False):
    keras.backend.clear_session()
    keras.utils.set_random_seed(seed)
    model, data = network(form), batches(image, seed, colored)
    if form == "nobn":
        nobn.calibrate(model, data.take(16))
    rate = keras.optimizers.schedules.PolynomialDecay(rate, steps, 0.0)
    optimizer = keras.optimizers.Adam(rate)
    if clip:
        optimizer = nobn.optimizers.AdaptiveGradientClipping(optimizer, clip)
    model.compile(optimizer, "mae")
    model.fit(data.take(steps), verbose=0)
    return model


def restored(model, noisy, training=False):
    parts = np.array_split(noisy, max(1, len(noisy) // BATCH))
    return np.concatenate([model(part, training=training) for part in parts])


def filed(model, noisy):
    """Its files for each runtime, verified on noisy patches."""
    rows = {}
    with tempfile.TemporaryDirectory() as folder:
        for runtime, ending in RUNTIMES.items():
            path = Path(folder) / f"model.{ending}"
            report = nobn.convert(model, path, data=noisy, runtime=runtime)
            print(report, flush=True)
            rows[runtime] = {
                "bytes": nobn.audit(path).flash_bytes or report.size_bytes,
                "binary": report.binary_layers,
                "binary_kernels": report.lce_bconv2d,
                "float_ops": float_operations(report),
                "exact_share": report.verify["exact_share"],
            }
    return rows


@click.command()
@seeds("0,1,2")
@output("dense_prediction")
def main(seeds, output):
    china, flower = (x.astype(np.float32) / 255 for x in load_sample_images().images)
    image, held_out = china[:, :512], patches(china[:, 512:])
    noisy, clean = patches(flower)
    rows, files = {}, {}
    for form in FORMS:
        row = rows[form] = defaultdict(list)
        for rate, clip in itertools.product(RATES, CLIPS):
            model = trained(form, 0, SEARCH, rate, clip, image)
            validated = psnr(restored(model, held_out[0]), held_out[1])
            row["search"].append({"rate": rate, "clip": clip, "psnr": validated})
        best = max(row["search"], key=lambda each: each["psnr"])
        row["rate"], row["clip"] = best["rate"], best["clip"]
        for seed in seeds:
            settings = STEPS, best["rate"], best["clip"], image
            model = trained(form, seed, *settings)
            row["psnr"].append(psnr(restored(model, noisy), clean))
            if form in ("batch_norm", "ones"):
                of_batches = psnr(restored(model, noisy, training=True), clean)
                row["batch_statistics"].append(of_batches)
            if form == "nobn" and seed == seeds[0]:
                files = filed(model, noisy[:BATCH])
            if form != "ones":
                model = trained(form, seed, *settings, colored=True)
                row["colored"].append(psnr(restored(model, noisy), clean))
        print(form, row, flush=True)
    found = {"noisy": psnr(noisy, clean), "patches": len(clean), "rows": rows}
    leave(output, __doc__, drawing.dense_prediction, **found, files=files)


if __name__ == "__main__":
    main()
