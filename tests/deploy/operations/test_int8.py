"""Programs between ranges: of how many operations, and what they compute."""

from collections import Counter
from functools import partial

import numpy as np
import pytest
import tensorflow as tf
from deploy.nets import binary_conv, images
from deploy.operations.programs import kinds_of
from larq_nobn._keras import keras
from larq_nobn.deploy.lite._converter import io_spec
from larq_nobn.deploy.operations import stages_of
from larq_nobn.deploy.operations._emit import outputs_of
from larq_nobn.deploy.trace._trace import Trace
from larq_nobn.layers import FakeQuantization
from numpy.testing import assert_allclose

layers = keras.layers


def span(low=-4.0, high=3.0):
    """A range of these ends."""
    ends = [np.array(low, np.float32), np.array(high, np.float32)]
    return FakeQuantization(trainable=False, weights=ends)


def clip(x):
    return tf.clip_by_value(x, -0.5, 0.7)


# A network between its first and its last range, and the operations of its program for
# each runtime, without ranges.
CASES = {
    "none": ([], {}, {}),
    "a batch norm": ([layers.BatchNormalization()], {"Kernel": 1}, {"Kernel": 1}),
    "of a kernel": (
        [layers.Conv2D(4, 3), layers.BatchNormalization()],
        {"Kernel": 1},
        {"Kernel": 1},
    ),
    "a ReLU": (
        [layers.Conv2D(4, 3), span(), layers.ReLU()],
        {"Kernel": 1, "Clip": 1},
        {"Kernel": 1, "Clip": 1},
    ),
    "a clip": (
        [layers.Activation(clip), span(-0.5, 0.7)],
        {"Kernel": 1},
        {"Kernel": 1},
    ),
    "zeros around signs": (
        [binary_conv(4, padding="same", pad_values=0.0)],
        {"Sign": 1, "Kernel": 1, "Copy": 1},
        {"SaturatingSign": 1, "Kernel": 1},
    ),
    "a pool": (
        [layers.Conv2D(4, 1), span(), layers.MaxPooling2D()],
        {"Kernel": 1, "MaxPool": 1},
        {"Kernel": 1, "MaxPool": 1},
    ),
    "a mean": ([layers.AveragePooling2D()], {"AvgPool": 1}, {"Kernel": 1}),
    "a slope": (
        [layers.PReLU("uniform", shared_axes=[1, 2])],
        {"PReLU": 1},
        {"SummedPReLU": 1},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_programs_of_both_runtimes(case):
    rows, *expected = CASES[case]
    given = keras.Input((8, 8, 3))
    x = span()(given)
    for layer in [*rows, span()]:
        x = layer(x)
    model = keras.Model(given, x)
    io = io_spec(model)
    numbers = images(1)
    step = 7 / 255
    for runtime, kinds in zip(("lce", "litert"), expected, strict=True):
        stages = stages_of(Trace(model, io), runtime, int8=True)
        actual = Counter(kinds_of(stages.spelled))
        del actual["Range"]
        assert actual == kinds, runtime
        for program in (stages.rounded, stages.spelled):
            (y,) = tf.function(partial(outputs_of, program))([tf.constant(numbers)])
            # Kernels are rounded, too, and an inner range is left out.
            assert_allclose(y, model(numbers), rtol=0, atol=2.01 * step)
