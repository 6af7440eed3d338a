"""Two forms of a network, compared segment by segment."""

import larq as lq
import numpy as np
import pytest
import tensorflow as tf
from deploy.nets import binary_conv, chain, head, images
from larq_nobn._keras import keras
from larq_nobn.deploy.lite._converter import io_spec
from larq_nobn.deploy.trace._trace import Trace
from larq_nobn.deploy.verify._same import compare_models
from larq_nobn.deploy.verify._segments import (
    MARGIN,
    Segments,
    compare,
    compare_sign,
    compare_thresholds,
    compare_values,
    recorder,
)

_layers = keras.layers
REAL = np.float32([[4.0, -3.0], [2.17, 0.71], [-0.313, 2.53], [1.09, -1.37]])
REAL += np.random.default_rng(0).normal(size=REAL.shape).astype(np.float32) / 1000


def is_positive(x):
    return np.asarray(x) >= 0


def turned(x, flips=(), rectified=False):
    """The result at a sign of `x`, whose other form differs at some positions."""
    x = np.float32(x)
    bits = is_positive(x)
    for place in flips:
        bits[place] = not bits[place]
    result, rows = Segments(len(x)).result("sign", "a"), [*range(len(x))]
    place = "between layer 'b' and it", rows, result
    compare_sign(x, is_positive, bits, *place, rectified=rectified)
    return result


def test_equal_signs_need_no_excuse_and_others_are_named():
    place = turned(REAL)
    assert (place.fault, place.flipped_examples, place.count) == ("", set(), 8)
    place = turned(REAL, [(2, 0)])
    assert place.faulty == {2}
    for words in (
        "first sign to differ is that of layer 'a', whose input there is 0.31",
        "lies between layer 'b' and it",
    ):
        assert words in place.fault


@pytest.mark.parametrize("last, found", [(38, True), (20.00001, False), (2, False)])
def test_a_threshold_is_known_of_three_numbers(last, found):
    """Two always lie on a line, as those of a tanh and of what it is taken of."""
    numbers = np.float32([[2], [20], [last]])
    x, rows = 1 + (numbers - 20) * 0.04 / 18, [0, 1, 2]
    result = Segments(len(x)).result("sign", "a")
    compare_thresholds(x, np.ones_like(x, bool), numbers, "here", rows, result)
    assert bool(result.fault) == found


NOISY = 0.1 * np.float32([[4, -2], [0, 6], [0, 2], [-2, 4]])
# A number in the place of one, and whether its sign may not turn.
TIES = {
    "within rounding": (REAL, 2e-5, False),
    "an exact 0 among real numbers": (REAL, 0.0, False),
    # In Keras, as many +c as -c are ±1e-9.
    "noise around 0": (NOISY, 3e-9, False),
    "more of the channel": (REAL * np.float32([1, 10]), 3.0 * MARGIN * 4, True),
    "the 0 of a ReLU": (np.maximum(REAL, 0), 0.0, True),
    "the least of some numbers": (np.maximum(REAL, 0), 0.0, False),
}


@pytest.mark.parametrize("kind", TIES)
def test_signs_within_rounding_of_0_may_turn(kind):
    x, number, fault = TIES[kind]
    place = (1, 0) if x.min() < 0 else (2, 0)
    x = x.copy()
    x[place] = number
    actual = turned(x, [place], rectified="ReLU" in kind)
    assert bool(actual.fault) == fault
    assert fault or actual.flipped_examples == {place[0]} and actual.near


def fault_of(first, second, tolerance=1e-3):
    place = Segments(len(first)).result("output", "y")
    rows = [*range(len(first))]
    compare_values(np.float32(first), np.float32(second), tolerance, "x", rows, place)
    return place.fault


def test_channels_are_compared_by_their_own_magnitude():
    """Boxes a thousand times as large do not hide a probability that is wrong."""
    both = np.concatenate([1000 * REAL, np.abs(REAL) / 5], axis=1)
    wrong = both.copy()
    wrong[1, 2] += 0.84
    assert fault_of(both, both * (1 + 1e-4)) == ""
    assert "by 0.84 in channel 2, whose largest number is 0.8" in fault_of(both, wrong)


def test_what_processors_take_for_0_is_0():
    zeros, tiny = np.zeros((2, 1)), np.full((2, 1), 2.3e-38)
    assert fault_of(zeros, tiny) == fault_of(tiny, zeros) == ""
    assert fault_of(zeros, tiny * 1e20)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_that_are_none_differ_unless_both_are(value):
    wrong = REAL.copy()
    wrong[0, 0] = value
    assert fault_of(REAL, wrong)
    assert fault_of(wrong, REAL)
    assert fault_of(wrong, wrong) == ""


def finding_with(model, examples, tolerance, change):
    """What is found where the outputs of the same model were changed."""
    io = io_spec(model)
    trace = Trace(model, io)
    signs = trace.signs()
    read = recorder(trace.form, signs)

    def other(group):
        recording = read(group)
        return recording._replace(outputs=[change(recording.outputs[0])])

    return compare(trace.form, io, signs, other, examples, tolerance).finding


def plus(error, index):
    def change(values):
        values = values.copy()
        values[index] += error
        return values

    return change


def test_no_tie_excuses_what_follows_and_the_model_stays():
    aware = {"kernel_quantizer": "magnitude_aware_sign"}
    rows = [binary_conv(8, name=name, **aware) for name in ("first", "third")]
    model = chain(*rows, *head())
    quantizers = [getattr(layer, "input_quantizer", None) for layer in model.layers]
    finding = finding_with(model, [images(20)], 1e-3, plus(100, np.s_[:, 2]))
    assert "after that of layer 'third': output 'output' differs, by 100" in finding
    now = [getattr(layer, "input_quantizer", None) for layer in model.layers]
    assert all(a is b for a, b in zip(quantizers, now, strict=True))


def cancelling(channels=2):
    """A channel of small sums of large terms, beside one of large sums."""
    inputs = keras.Input((64,), name="input")
    kernel = np.random.default_rng(0).normal(size=(64, channels)) * 1000
    kernel[1::2, 0] = -kernel[::2, 0]
    dense = _layers.Dense(channels, use_bias=False, name="sums")
    model = keras.Model(inputs, dense(inputs))
    dense.set_weights([kernel])
    x = images(8, (64,))
    # Pairs of nearly equal numbers, whose large products cancel.
    x[:, 1::2] = x[:, ::2] * (1 + 1e-7 * np.sign(images(8, (32,), 2)))
    return model, x


@pytest.mark.parametrize("channels, error", [(2, 0.0), (1, 0.0), (1, 0.1)])
def test_large_terms_that_cancel_may_round(channels, error):
    """Also where no channel of large numbers says how much: noise does."""
    model, x = cancelling(channels)
    kernel = model.get_layer("sums").get_weights()[0].astype(float)
    exact = x.astype(float) @ kernel
    own, rows = Segments(8).result("output", "y"), [*range(8)]
    compare_values(model(x).numpy(), exact, 1e-5, "x", rows, own)
    assert "in channel 0" in own.fault  # it is more than its own numbers tell
    finding = finding_with(model, [x], 1e-5, lambda sums: exact + error)
    assert bool(finding) == bool(error)


@pytest.mark.parametrize("whole", [False, True], ids=["a float", "a whole number"])
def test_a_step_that_noise_turns_excuses_no_more_than_a_part_of_the_map(whole):
    """Noise turns what is rounded where it is at a half: that says nothing."""
    inputs = keras.Input((4,), name="input")
    x = _layers.Rescaling(1.0)(inputs)
    x = _layers.Activation(keras.backend.round, name="step")(x)
    model = keras.Model(inputs, x)
    x = images(8, (4,)) if not whole else np.rint(images(8, (4,)))
    x[0, 0] = 0.5
    finding = finding_with(model, [x], 1e-5, plus(0.1, (2, 0)))
    assert "by 0.1 in channel 0" in finding


def shifted(function):
    """Models of a function of inputs plus a number, and of inputs."""

    def net(more):
        keras.backend.clear_session()  # so that layers have equal names
        start = keras.Input((2,), name="input")
        return keras.Model(start, function(start + np.float32(more), start))

    return net


COMPARISONS = {
    "greater": tf.math.greater,
    "from": tf.math.greater_equal,
    "less": tf.math.less,
    "up to": lambda x, c: x <= c,
}


def above(kind, threshold):
    return lambda x, start: tf.where(COMPARISONS[kind](x, threshold), start, -1.0)


# Functions that jump, by the name of their layer; where, and what is beyond with 1.5.
JUMPS = {
    "tf.math.greater": (above("greater", 0.0), 0.0),
    "tf.math.less": (above("less", np.float32([0.3, -0.2])), np.float32([0.3, -0.2])),
    "tf.math.sign": (lambda x, _: tf.sign(x), 0.0),
    "ste_tern": (lambda x, _: lq.quantizers.SteTern(0.3, name="ste_tern")(x), 0.3),
}


@pytest.mark.parametrize("name", JUMPS)
def test_comparisons_with_constants_and_ternary_signs_are_signs(name):
    """What is within rounding of a jump may turn, and nothing after it counts."""
    sign, threshold = JUMPS[name]
    net = shifted(lambda x, start: 100 * sign(x, start))
    x = REAL + np.float32(threshold)
    x[1] = threshold + np.float32([2e-6, -2e-6])
    given = net(0.0)
    # The threshold itself is compared, whichever examples pass it.
    for more, faulty in ((0.0, []), (4e-6, []), (-4e-6, []), (0.35, [0, 2, 3])):
        segments = compare_models(given, net(more), [x], 1e-5)
        results = [p for (of, _), p in segments.results.items() if of == "sign"]
        assert {result.name.partition(" (")[0] for result in results} == {name}
        assert [i for i in segments.faulty if i != 1] == faulty  # 1 is beside the jump
        if abs(more) == 4e-6:
            flipped = set().union(*(result.flipped_examples for result in results))
            assert (flipped, segments.finding) == ({1}, "")


@pytest.mark.parametrize("tolerance, positions", [(1e-3, 1), (1e-4, 9)])
def test_beside_a_large_bias_numbers_are_compared_by_how_they_vary(
    tolerance, positions
):
    """A kernel that is 1.5 times too large, beside a bias of 1e4."""
    sums = np.random.default_rng(0).normal(size=(8, positions, 4))
    for factor, is_fault in ((1.5, True), (1 + tolerance / 9, False)):
        mine, theirs = (np.float32(1e4 + k * sums) for k in (1.0, factor))
        place = Segments(8).result("output", "y")
        compare_values(mine, theirs, tolerance, "it differs", [*range(8)], place)
        assert bool(place.fault) == is_fault


@pytest.mark.parametrize(
    "function, wanted",
    [
        (lambda x: tf.nn.max_pool2d(tf.nn.relu(x), 2, 2, "VALID"), True),
        (lambda x: tf.clip_by_value(x, 0.0, 1.0), True),
        (tf.square, True),
        (lambda x: tf.clip_by_value(x, -1.0, 1.0), False),
        (lambda x: tf.nn.relu(x) - 1.0, False),
    ],
)
def test_what_is_never_below_0_is_known(function, wanted):
    signs = [_layers.Lambda(function), _layers.Activation(lq.math.sign)]
    model = chain(*signs, stem=False)
    (sign,) = Trace(model, io_spec(model)).signs()
    assert sign.is_rectified == wanted
