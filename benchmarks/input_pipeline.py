"""How many images a second a training reads, and what part of its time that takes.

A folder of random JPEG files of several sizes, read as a training run does, against a
training step of ReActNet-18 of width 16, each on all cores and without the other.
*Alone* is the pipeline, *limit* the decoder without a pipeline, one thread per core,
*training* the step on one and the same batch. *Share* is the part that reading has in
the time of both, one after the other: where both run at once, on cores that the step
keeps busy, it takes no more.

    python benchmarks/input_pipeline.py
    python benchmarks/input_pipeline.py --rounds 2 --output runs/look   # a quick look
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import click
from _drawing import cost
from _results import RESULTS, leave

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
WIDTH, CLASSES = 16, 10
# Side of the images in pixels: images, batch size.
SIZES = {32: (2048, 128), 64: (1024, 128), 224: (128, 32)}
CACHES = ("memory", "disk", "none")
EPOCHS = 8  # of a round of reading


def write_pictures(folder, side, count):
    """JPEG files with as much detail as photos have: noise of several scales."""
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(side)
    for number in range(count + CLASSES):
        split = "train" if number < count else "test"
        place = folder / split / f"{number % CLASSES}"
        place.mkdir(parents=True, exist_ok=True)
        pixels = np.full((side, side, 3), 128.0)
        for scale in (4, 8, 16, 32):
            small = rng.normal(0, 3 * scale**0.5, (side // scale, side // scale, 3))
            pixels += small.repeat(scale, 0).repeat(scale, 1)
        image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
        image.save(place / f"{number}.jpg", quality=90)


def batches(folder, side, batch, cache):
    """An iterator over the batches of training, for ever."""
    import larq_nobn as nobn

    images = nobn.data.load(
        folder, "train", batch, image_size=side, augment="crop_flip", cache=cache
    )
    return iter(images.repeat())


def make_step(side, batch):
    """A compiled training step."""
    import larq_nobn as nobn  # first: it selects legacy Keras
    import tensorflow as tf

    keras = tf.keras
    keras.utils.set_random_seed(0)
    model = nobn.models.ReActNet18((side, side, 3), CLASSES, "nobn", width=WIDTH)
    optimizer = nobn.optimizers.AdaptiveGradientClipping("adam", 0.02)
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(True))
    signature = [
        tf.TensorSpec((batch, side, side, 3)),
        tf.TensorSpec((batch,), tf.int64),
    ]
    step = tf.function(lambda *given: model.train_step(given), signature)
    return lambda given: step(*given)["loss"].numpy()


def seconds_of(action, times):
    start = time.perf_counter()
    for _ in range(times):
        action()
    return (time.perf_counter() - start) / times


def decode_limit(folder, rounds):
    """Images per second of the decoder alone."""
    import larq_nobn as nobn

    contents = [path.read_bytes() for path in folder.glob("train/*/*.jpg")]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        taken = [
            seconds_of(lambda: list(pool.map(nobn.data.decode, contents)), 1)
            for _ in range(rounds)
        ]
    return len(contents) / statistics.median(taken)


def per_second(action, batch, times, rounds):
    """Images per second, the median of some rounds."""
    action()
    return batch / statistics.median(seconds_of(action, times) for _ in range(rounds))


def measure(folder, side, rounds):
    """All that the tables have of one size."""
    count, batch = SIZES[side]
    write_pictures(folder, side, count)
    limit, steps = decode_limit(folder, rounds), count // batch
    step, given = make_step(side, batch), next(batches(folder, side, batch, "none"))
    training = per_second(lambda: step(given), batch, steps, rounds)
    rows = {}
    for cache in CACHES:
        source = batches(folder, side, batch, cache)
        for _ in range(steps):  # the first epoch fills the cache
            next(source)
        # Several epochs, since the first few batches were read ahead.
        alone = per_second(partial(next, source), batch, EPOCHS * steps, rounds)
        rows[cache] = {
            "alone_per_second": round(alone, 1),
            "share": round(training / (training + alone), 4),
        }
        source = None  # and all that it reads ahead
    return {
        "limit": round(limit, 1),
        "step_per_second": round(training, 1),
        "rows": rows,
    }


@click.command()
@click.option("--rounds", default=9, show_default=True, help="Of each in turn.")
@click.option("--sides", default="32,64,224", show_default=True, help="In pixels.")
@click.option(
    "--output", type=Path, default=RESULTS / "input_pipeline", show_default=True
)
def main(rounds, sides, output):
    sizes = {}
    for side in map(int, sides.split(",")):
        with tempfile.TemporaryDirectory() as name:
            sizes[side] = measure(Path(name), side, rounds)
    about = __doc__, cost.input_pipeline, "pillow"
    leave(output, *about, width=WIDTH, rounds=rounds, sizes=sizes)


if __name__ == "__main__":
    main()
