"""Random draws: none follows from another one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import combinations

import larq_nobn as nobn
import larq as lq
import numpy as np
import pytest
import tensorflow as tf
from larq_nobn._keras import keras
from larq_nobn.data import _imagenet
from larq_nobn.data._augment import Augmentation, draw, mixup_weights
from larq_nobn.data._batches import Plan, taken
from larq_nobn.data._source import Arrays
from larq_nobn.training._callbacks import Reseeding, own_generators
from tensorflow.python.framework import op_callbacks

STRONG = Augmentation(pad=4, flip=True, colour=True, strong=True)


@contextmanager
def seeds_used() -> Iterator[list[tuple[int, ...]]]:
    """The seeds of all stateless random operations that run eagerly inside."""
    found: list[tuple[int, ...]] = []

    def noted(kind, inputs, attributes, outputs, op_name=None, graph=None):
        if graph is None and tf.compat.as_str(kind).startswith("Stateless"):
            pairs = [x for x in inputs if x.dtype.is_integer and x.shape == (2,)]
            # A seed, or what was made of one alone; what comes before is a shape.
            found.append(tuple(np.int64(pairs[-1].numpy()).tolist()))

    op_callbacks.add_op_callback(noted)
    try:
        yield found
    finally:
        op_callbacks.remove_op_callback(noted)


def assert_uncorrelated(columns: dict[str, np.ndarray]) -> None:
    """Within five standard errors, 1 / sqrt(N), of 0; the seeds are fixed."""
    for (one, x), (other, y) in combinations(columns.items(), 2):
        correlation = np.corrcoef(x, y)[0, 1]
        assert abs(correlation) < 5 / np.sqrt(len(x)), (one, other, correlation)


# --- ImageNet


@pytest.fixture(scope="module")
def random_parts() -> dict[str, np.ndarray]:
    """Place, size and direction of 400 random parts of an image of two slopes."""
    height, width = 180, 240
    y, x = np.mgrid[0:height, 0:width]
    ramps = np.stack([x, y, 0 * x], -1).astype(np.uint8)
    jpeg = tf.io.encode_jpeg(ramps, quality=100, chroma_downsampling=False)

    @tf.function(autograph=False)
    def corners(seed: tf.Tensor) -> tf.Tensor:
        part = _imagenet.random_part(jpeg, seed)[:, :, :2]
        lines = (part[:, 20, 0], part[:, 203, 0], part[20, :, 1], part[203, :, 1])
        return tf.stack([tf.reduce_mean(line) for line in lines])

    rows = [corners(tf.constant([seed, 1], tf.int64)).numpy() for seed in range(400)]
    left, right, top, bottom = np.transpose(rows)
    wide, high = abs(right - left), bottom - top
    return {
        "mirrored": (left > right).astype(float),
        "ratio": np.log(wide / high),
        "area": wide * high,
        "across": left + right,
        "down": top + bottom,
    }


def test_an_imagenet_mirror_image_does_not_follow_from_the_crop(random_parts):
    for other in ("ratio", "area", "across", "down"):
        assert_uncorrelated({name: random_parts[name] for name in ("mirrored", other)})


def test_an_imagenet_crop_is_of_any_place_and_ratio(random_parts):
    assert_uncorrelated({name: random_parts[name] for name in ("across", "down")})
    ratio, mirrored = random_parts["ratio"], random_parts["mirrored"]
    for chosen in (ratio < 0, ratio > 0):
        assert 0.4 < mirrored[chosen].mean() < 0.6


def test_no_two_draws_of_an_imagenet_image_have_one_seed():
    jpeg = tf.io.encode_jpeg(np.zeros((50, 60, 3), np.uint8))
    with seeds_used() as seeds:
        for seed in range(3):
            _imagenet.random_part(jpeg, tf.constant([seed, 1], tf.int64))
    assert len(seeds) == len(set(seeds)) >= 3 * 3


# --- images in memory


def source(count: int) -> Arrays:
    labels = tf.zeros(count, tf.int64)
    return Arrays(tf.zeros((count, 8, 8, 3), tf.uint8), labels)


def test_no_two_draws_of_epochs_and_runs_have_one_seed():
    with seeds_used() as seeds:
        for seed in range(2):
            plan = Plan(np.arange(8), 4, seed, shuffle=True, whole=True)
            made = taken(source(8), STRONG, 0.2, 10)
            for epoch in range(2):
                made(seed, tf.constant(epoch, tf.int64))
                plan.numbers(tf.constant(epoch, tf.int64), tf.constant(0, tf.int64))
    # Order, crop and mirror image, all that is strong, and the fractions of mixup.
    assert len(seeds) == len(set(seeds)) >= 2 * 2 * 4


@pytest.mark.parametrize("seed, epoch", [(0, 0), (7, 3)])
def test_draws_of_images_in_memory_are_independent(seed: int, epoch: int):
    examples = 2000
    epoch = tf.constant(epoch, tf.int64)
    keys = tf.random.stateless_uniform(
        (examples,), (seed, 2 * epoch), None, None, tf.int64, alg="philox"
    )
    rows = draw(STRONG, examples, (seed, 2 * epoch + 1)).numpy()
    columns = {f"draw {place}": rows[:, place] for place in range(rows.shape[1])}
    columns["order"] = keys.numpy().astype(float)
    columns["mixup"] = mixup_weights(0.2, examples, (seed, epoch)).numpy()
    for name, values in [*columns.items()]:
        columns[f"{name} of the next image"] = np.roll(values, 1)
    for name, others in {
        "next epoch": (seed, 2 * epoch + 3),
        "next seed": (seed + 1, 2 * epoch + 1),
    }.items():
        rows = draw(STRONG, examples, others).numpy()
        columns |= {f"{name} {place}": rows[:, place] for place in range(12)}
    assert_uncorrelated(columns)


def drawn_by(kind: str, shape: tuple[int, ...]) -> tuple[keras.Model, Callable]:
    """A model of two random layers, and what they draw in one step."""
    with own_generators():
        if kind == "sign_flip_dropout":
            layers = [nobn.layers.SignFlipDropout(0.5) for _ in range(2)]
            inputs = keras.Input(shape)
            model = keras.Model(inputs, layers[1](layers[0](inputs)))
        else:
            layers = [nobn.quantizers.BernoulliSign() for _ in range(2)]
            model = keras.Sequential(
                [keras.Input((shape[0],))]
                + [
                    lq.layers.QuantDense(shape[0], kernel_quantizer=each)
                    for each in layers
                ]
            )
    like = tf.zeros((1, *shape))
    return model, lambda: [np.ravel(each._draw(like)) for each in layers]


@pytest.mark.parametrize("kind", ["sign_flip_dropout", "bernoulli_sign"])
def test_layers_steps_epochs_and_runs_draw_independently(kind: str):
    model, drawn = drawn_by(kind, (40, 40))
    columns = {}
    for seed in range(2):
        reseeding = Reseeding(seed)
        reseeding.set_model(model)
        for epoch in range(2):
            reseeding.on_epoch_begin(epoch)
            for step in range(3):
                for layer, values in enumerate(drawn()):
                    columns[f"{seed=} {epoch=} {step=} {layer=}"] = values
    assert len(columns) == 24
    assert_uncorrelated(columns)


# --- inside of a network
