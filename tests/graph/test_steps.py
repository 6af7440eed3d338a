"""Maps of whole multiples of a step, against what Keras computes."""

import larq as lq
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from larq_nobn._keras import keras
from larq_nobn.graph._graph import Graph
from larq_nobn.graph._steps import (
    _MOST,
    Steps,
    sign_steps,
    steps_after_kernel,
    steps_after_layer,
    steps_of,
)
from larq_nobn.quantizers import RSign

layers = keras.layers
SIZE = 6


def conv(filters=4, size=3, **options):
    quantizers = {"input_quantizer": "ste_sign", "kernel_quantizer": "ste_sign"}
    options = {"use_bias": False, **quantizers, **options}
    return lq.layers.QuantConv2D(filters, size, **options)


def padded(value, **options):
    return conv(padding="same", pad_values=value, **options)


def biased(bias):
    bias = keras.initializers.Constant(bias)
    return conv(use_bias=True, bias_initializer=bias)


# Maps made of a map whose signs count.
KINDS = {
    "sums": lambda x: conv()(x),
    "padded with zeros": lambda x: padded(0.0)(x),
    "padded with ones": lambda x: padded(1.0)(x),
    "ternary": lambda x: conv(kernel_quantizer="ste_tern")(x),
    "scaled": lambda x: conv(kernel_quantizer="magnitude_aware_sign")(x),
    "a bias of whole numbers": lambda x: biased(3.0)(x),
    "maximum": lambda x: layers.MaxPooling2D()(conv()(x)),
    "average": lambda x: layers.AveragePooling2D()(conv()(x)),
    # Of fewer numbers where a window reaches over the border.
    "average at a border": lambda x: layers.AveragePooling2D(4, padding="same")(
        padded(0.0)(x)
    ),
    "average of all": lambda x: layers.GlobalAveragePooling2D()(conv()(x)),
    "rectified": lambda x: layers.ReLU()(conv()(x)),
    "rectifies": lambda x: conv(activation="relu")(x),
    "bounded": lambda x: layers.ReLU(6.0)(conv()(x)),
    "repeated": lambda x: layers.UpSampling2D(2)(conv()(x)),
    "flat": lambda x: layers.Flatten()(conv()(x)),
    "joined": lambda x: layers.Concatenate()([conv()(x), conv()(x)]),
    "added": lambda x: layers.Add()([conv()(x), conv()(x)]),
    "subtracted": lambda x: layers.Subtract()([conv()(x), conv()(x)]),
    "averaged": lambda x: layers.Average()([conv()(x), conv()(x)]),
    "larger": lambda x: layers.Maximum()([conv()(x), conv()(x)]),
    "residual": lambda x: conv()(x) + layers.Activation("ste_sign")(conv()(x)),
}
# Averages, in parts of as many numbers as a window or a map may have.
COARSE = {"average at a border": 32, "average of all": 4}


@pytest.mark.parametrize("kind", KINDS)
def test_maps_are_whole_multiples_of_their_steps(kind):
    channels = 5 if len(kind) % 2 else 8  # an odd or an even number of terms
    keras.utils.set_random_seed(channels)
    start = keras.Input((SIZE, SIZE, channels))
    model = keras.Model(start, KINDS[kind](start))
    x = np.random.default_rng(0).normal(size=(5, SIZE, SIZE, channels))
    steps = steps_of(Graph(model), steps_after_layer).get(id(model.output))
    assert steps is not None
    counts = model(x).numpy() / steps.step
    np.testing.assert_allclose(counts, np.round(counts), atol=1e-4)
    assert np.abs(counts).max() <= steps.most + 1e-4
    # They are no finer than need be: sums differ by 2 at least, as their parity is one.
    finest = COARSE.get(kind, 2)
    assert np.diff(np.unique(np.round(counts))).min() <= finest


UNKNOWN = {
    "a real kernel": lambda: layers.Conv2D(4, 3),
    "a bias between": lambda: biased(0.3),
    "padded between": lambda: conv(padding="same", pad_values=0.3),
    "a slope": lambda: keras.Sequential([conv(), layers.ReLU(negative_slope=0.1)]),
    "a bound between": lambda: keras.Sequential([conv(), layers.ReLU(0.3)]),
    "another function": lambda: conv(activation="tanh"),
    "real inputs": lambda: layers.ReLU(),
    "interpolated": lambda: keras.Sequential(
        [conv(), layers.UpSampling2D(interpolation="bilinear")]
    ),
}


@pytest.mark.parametrize("kind", UNKNOWN)
def test_other_maps_have_none(kind):
    keras.utils.set_random_seed(0)
    x = start = keras.Input((SIZE, SIZE, 4))
    made = UNKNOWN[kind]()
    for layer in made.layers if isinstance(made, keras.Sequential) else [made]:
        x = layer(x)
    model = keras.Model(start, x)
    assert id(model.output) not in steps_of(Graph(model), steps_after_layer)


@pytest.mark.parametrize(
    "sign", ["ste_sign", "ste_heaviside", "approx_sign", RSign(offset=0.5)]
)
def test_signs_are_whole_numbers(sign):
    start = keras.Input((SIZE, SIZE, 4))
    model = keras.Model(start, layers.Activation(lq.quantizers.get(sign))(start))
    steps = steps_of(Graph(model), steps_after_layer)[id(model.output)]
    values = model(np.random.default_rng(0).normal(size=(3, SIZE, SIZE, 4))).numpy()
    assert set(np.unique(values / steps.step)) <= {-1.0, 0.0, 1.0}
    assert steps.most == 1


@given(
    st.lists(st.lists(st.integers(-9, 9), min_size=3, max_size=3), min_size=1),
    st.lists(st.sampled_from([1.0, 0.5, 0.3, 3.0]), min_size=3, max_size=3),
    st.sampled_from([1.0, 0.25, 0.7]),
    st.sampled_from([0.0, 1.0, -2.0, 0.5]),
    st.randoms(use_true_random=False),
)
def test_sums_of_whole_numbers_are_whole(kernel, scales, step, border, random):
    counts = np.array(kernel)
    taken = Steps(np.full(5, step), 4.0)
    values = counts * np.float32(scales)
    found = steps_after_kernel(np.float32(values), taken, border * step)
    least = np.where(counts, np.abs(counts), 99).min(axis=0)
    dividing = np.all(counts % least == 0) and np.any(counts, axis=0).all()
    assert (found is not None) == bool(dividing and border == round(border))
    if found is None:
        return
    # Each term is of the map, or of what pads it.
    terms = np.array([random.choice([-4, -1, 0, 3, 4, border]) for _ in counts]) * step
    sums = terms @ values.astype(float) / found.step
    np.testing.assert_allclose(sums, np.round(sums), atol=1e-4)
    assert np.abs(sums).max() <= found.most * (1 + 1e-6) + 1e-4


def test_more_than_float32_tells_apart_has_no_steps():
    taken = sign_steps(4)
    assert steps_after_kernel(np.ones((2**20, 3)), taken) is not None
    assert steps_after_kernel(np.ones((2**20 + 1, 3)), taken) is None
    assert taken.plus(_MOST) is None


def test_gains_and_offsets_of_steps():
    steps = Steps(np.array([0.5, 1.0]), 3.0)
    np.testing.assert_array_equal(steps.times([-2.0, 3.0]).step, [1.0, 3.0])
    assert steps.times([1.0, 0.0]) is None
    assert steps.plus([1.5, -2.0]).most == 6
    # Of what rounding makes of a whole number, and of no more.
    assert steps.plus([1.5 * (1 + 1e-7), -2.0]) is not None
    assert steps.plus([1.5 * (1 + 1e-5), -2.0]) is None


@given(st.floats(-50, 50), st.booleans(), st.sampled_from([1.0, 0.5, 0.3]))
def test_a_threshold_moves_by_less_than_a_step_and_past_no_value(count, above, step):
    steps, threshold = Steps(np.array([step]), 100.0), np.array([count * step])
    moved = steps.between(threshold, np.array([above]))
    exact = float(moved[0] / step)
    distance = abs(count - round(count))
    assert abs(exact - count) < 0.7
    if distance >= 0.126:
        assert moved == threshold
    elif distance < 0.124:
        assert abs(exact - np.floor(exact) - 0.5) < 1e-9
    values = np.arange(-60, 61)
    if distance > 1e-4:  # no value, so on the same side of all
        assert np.array_equal(values >= exact, values >= count)
    elif distance == 0:
        assert np.array_equal(
            values >= exact, values > count if above else values >= count
        )


@pytest.mark.parametrize("dtype, told", [(np.float32, False), (np.float64, True)])
@pytest.mark.parametrize("above", [False, True])
def test_next_to_a_whole_number_float64_tells_more(dtype, told, above):
    steps = sign_steps(1)
    for off in (2.0**-30, -(2.0**-30)):
        moved = steps.between(np.array([3 + off]), np.array([above]), dtype)[0]
        beyond = off > 0 if told else above
        assert moved == (3.5 if beyond else 2.5)
    large = np.array([2.0**21 + 0.01])
    assert steps.between(large, np.array([above]), dtype) == large
