"""Two forms of a network, compared segment by segment."""

import re

import larq as lq
import numpy as np
import pytest
import tensorflow as tf
from deploy.nets import binary_conv, chain, head, images
from larq_nobn._keras import keras
from larq_nobn.graph import (
    MARGIN,
    Found,
    Grid,
    Segments,
    Sign,
    compare,
    compare_sign,
    compare_values,
    record,
)
from larq_nobn.quantizers import RSign

_layers = keras.layers
# No multiples of anything: of whole numbers, an exact 0 is judged otherwise.
REAL = np.float32([[4.0, -3.0], [2.17, 0.71], [-0.313, 2.53], [1.09, -1.37]])
REAL += np.random.default_rng(0).normal(size=REAL.shape).astype(np.float32) / 1000


def turned(x, quantizer, flips=()):
    """The place of a sign of `x`, whose other form differs at some positions."""
    sign = Sign("a", quantizer, np.float32(x))
    bits = sign.positive(sign.values)
    for place in flips:
        bits[place] = not bits[place]
    place = Segments(len(x)).place("sign", "a")
    compare_sign(sign, bits, "between layer 'b' and it", [*range(len(x))], place)
    return place


def larqs(x):
    return np.where(np.asarray(x) >= 0, 1.0, -1.0)


def test_equal_signs_need_no_excuse():
    place = turned(REAL, larqs)
    assert (place.fault, place.turned, place.count) == ("", set(), 8)


def test_a_sign_within_rounding_of_0_may_turn():
    x = REAL.copy()
    x[1, 0] = 2e-5
    place = turned(x, larqs, [(1, 0)])
    assert (place.fault, place.turned, place.near) == ("", {1}, 1)


def test_another_may_not():
    place = turned(REAL, larqs, [(2, 0)])
    assert place.faulty == {2}
    assert (
        "first sign to differ is that of layer 'a', whose input there is 0.31"
        in place.fault
    )
    assert "lies between layer 'b' and it" in place.fault


@pytest.mark.parametrize("share, fault", [(0.9, False), (3.0, True)])
def test_rounding_is_relative_to_the_largest_of_the_channel(share, fault):
    """Another channel of numbers ten times as large excuses little."""
    x = REAL * np.float32([1, 10])
    x[1, 0] = share * MARGIN * 4
    assert bool(turned(x, larqs, [(1, 0)]).fault) == fault


@pytest.mark.parametrize("step", [1.0, 0.37, 3.0])
def test_the_sign_of_an_exact_0_among_whole_numbers_is_no_matter_of_rounding(step):
    x = np.float32(step) * np.float32([[4, -3], [0, 5], [-6, 2], [10, -1]])
    place = turned(x, larqs, [(1, 0)])
    assert "exactly 0, a sum of whole numbers" in place.fault


def test_among_real_numbers_it_is():
    x = REAL.copy()
    x[1, 0] = 0
    assert turned(x, larqs, [(1, 0)]).fault == ""


def test_noise_around_0_is_a_matter_of_rounding():
    """In Keras, as many +c as -c are ±1e-9."""
    x = 0.1 * np.float32([[4, -2], [0, 6], [0, 2], [-2, 4]])
    x[1, 0] = 3e-9
    assert turned(x, larqs, [(1, 0)]).fault == ""


def test_the_0_of_a_relu_is_no_matter_of_rounding():
    assert turned(np.maximum(REAL, 0), larqs, [(2, 0)]).fault


@pytest.mark.parametrize("x, fault", [(-0.5, False), (-0.4, True), (0.0, True)])
def test_the_threshold_is_that_of_the_sign(x, fault):
    quantizer = RSign(offset=0.5)
    values = REAL.copy()
    values[1, 0] = x
    quantizer(values)
    assert bool(turned(values, quantizer, [(1, 0)]).fault) == fault


def fault_of(first, second, tolerance=1e-3):
    place = Segments(len(first)).place("output", "y")
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


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_none_differ_unless_both_are(value):
    wrong = REAL.copy()
    wrong[0, 0] = value
    assert fault_of(REAL, wrong)
    assert fault_of(wrong, REAL)
    assert fault_of(wrong, wrong) == ""


def tied():
    """Signs of sums that are noise in Keras, early, in the middle and late."""
    aware = {"kernel_quantizer": "magnitude_aware_sign"}
    rows = [binary_conv(name=name, **aware) for name in ("first", "second", "third")]
    return chain(*rows, *head())


def changed(name, change):
    """A model and what reads another in which a weight of one layer was changed."""
    model, other = tied(), tied()
    other.set_weights(model.get_weights())
    weight = other.get_layer(name).weights[0]
    value = weight.numpy()
    change(value)
    weight.assign(value)
    return model, lambda group: record(other, group)


def test_equal_models_are_equal():
    model, other = changed("first", lambda value: None)
    found = compare(model, other, [images(20)], 1e-6)
    assert found.finding == ""
    assert found.to_dict()["compared"] == 4
    assert len(found.outputs[0]) == 20


def test_no_tie_excuses_what_follows():
    model = tied()

    def other(group):
        found = record(model, group)
        found.outputs[0][:, 2] += 100
        return found

    finding = compare(model, other, [images(20)], 1e-3).finding
    assert "after that of layer 'third': output 'head' differs, by 100" in finding


@pytest.mark.parametrize("name", ["stem", "first", "second", "third", "head"])
def test_a_fault_is_placed_where_it_is(name):
    def negate(value):
        value[..., 3] *= -1

    model, other = changed(name, negate)
    finding = compare(model, other, [images(8)], 1e-4).finding
    expected = {
        "stem": "that of layer 'first', .* between the input and it",
        "first": "that of layer 'second', .* between layer 'first' and it",
        "second": "that of layer 'third', .* between layer 'second' and it",
        "third": "after that of layer 'third': output",
        "head": "after that of layer 'third': output",
    }
    assert re.search(expected[name], finding)


def test_signs_that_are_not_shown_are_not_cut_at():
    model, other = changed("second", lambda value: None)

    def blind(group):
        found = other(group)
        del found.signs["second"]
        return found

    assert compare(model, blind, [images(8)], 1e-4).to_dict()["compared"] == 3


def test_models_of_a_fixed_batch_get_their_number():
    inputs = keras.Input((8, 8, 3), batch_size=3)
    x = binary_conv(4, name="conv")(_layers.Conv2D(32, 3)(inputs))
    model = keras.Model(inputs, _layers.GlobalAveragePooling2D()(x))
    found = compare(model, lambda group: record(model, group), [images(7)], 1e-6)
    assert found.examples == len(found.outputs[0]) == 7


def boxes_and_probabilities():
    inputs = keras.Input((16,), name="input")
    boxes = _layers.Rescaling(1000.0)(_layers.Dense(4)(inputs))
    scores = _layers.Softmax(name="scores")(_layers.Dense(3)(inputs))
    return keras.Model(inputs, _layers.Concatenate(name="both")([boxes, scores]))


@pytest.mark.parametrize("error", [2e-3, 2e-4])
def test_large_numbers_beside_a_probability_hide_nothing_of_it(error):
    keras.utils.set_random_seed(0)
    model, x = boxes_and_probabilities(), images(8, (16,))

    def other(group):
        found = record(model, group)
        found.outputs[0][3, 5] += error
        return found

    assert np.abs(model(x)).max() > 1000
    finding = compare(model, other, [x], 1e-5).finding
    assert f"by {error:.3g}"[:6] in finding and "in channel 5" in finding


def cancelling(quantizer=None):
    """A channel of small sums of large terms, beside one of large sums."""
    inputs = keras.Input((64,), name="input")
    kernel = np.random.default_rng(0).normal(size=(64, 2)) * 1000
    kernel[1::2, 0] = -kernel[::2, 0]
    dense = _layers.Dense(2, use_bias=False, name="sums")
    x = dense(inputs)
    outputs = x if quantizer is None else _layers.Activation(quantizer)(x)
    model = keras.Model(inputs, outputs)
    dense.set_weights([kernel])
    x = images(8, (64,))
    # Pairs of nearly equal numbers, whose large products cancel.
    x[:, 1::2] = x[:, ::2] * (1 + 1e-7 * np.sign(images(8, (32,), 2)))
    return model, x


def test_large_terms_that_cancel_may_round():
    model, x = cancelling()
    kernel = model.get_layer("sums").get_weights()[0]

    def other(group):
        return Found([group[0].astype(float) @ kernel.astype(float)], {})

    sums = model(x).numpy()
    rows = [*range(8)]
    own = Segments(8).place("output", "y")
    compare_values(sums, other([x]).outputs[0], 1e-5, "x", rows, own)
    assert "in channel 0" in own.fault  # it is more than its own numbers tell
    assert compare(model, other, [x], 1e-5).finding == ""


def test_their_signs_may_turn():
    model, x = cancelling("ste_sign")
    before = keras.Model(model.inputs, model.get_layer("sums").output)(x).numpy()

    def other(group):
        found = record(model, group)
        (label,) = found.signs
        worst = np.argmin(np.abs(before[:, 0]))
        found.signs[label][worst, 0] ^= True
        found.outputs[0][worst, 0] *= -1
        return found

    assert compare(model, other, [x], 1e-5).finding == ""


def test_a_wrong_weight_of_such_a_channel_is_found():
    model, x = cancelling()

    def other(group):
        found = record(model, group)
        found.outputs[0][2, 0] += 0.1
        return found

    assert "by 0.1 in channel 0" in compare(model, other, [x], 1e-5).finding


@pytest.mark.parametrize("whole", [False, True], ids=["a float", "a whole number"])
def test_a_step_that_noise_turns_excuses_no_more_than_a_part_of_the_map(whole):
    """Noise turns what is rounded where it is at a half: that says nothing."""
    inputs = keras.Input((4,), name="input")
    x = _layers.Activation(keras.backend.round, name="step")(inputs)
    model = keras.Model(inputs, x)
    x = images(8, (4,)) if not whole else np.rint(images(8, (4,)))
    x[0, 0] = 0.5

    def other(group):
        found = record(model, group)
        found.outputs[0][2, 0] += 0.1
        return found

    assert "by 0.1 in channel 0" in compare(model, other, [x], 1e-5).finding


def test_a_walk_with_noise_leaves_the_model_as_it_was():
    model = tied()
    quantizers = [getattr(layer, "input_quantizer", None) for layer in model.layers]

    def other(group):
        found = record(model, group)
        found.outputs[0][:, 2] += 100
        return found

    assert compare(model, other, [images(2)], 1e-3).finding
    now = [getattr(layer, "input_quantizer", None) for layer in model.layers]
    assert all(a is b for a, b in zip(quantizers, now, strict=True))


@pytest.mark.parametrize(
    "value, held, grid, steps",
    [
        (0.34, 0.3, Grid(0.1), 0.4),
        (0.5, 0.3, Grid(0.1), 2.0),
        (7.0, 1.0, Grid(0.1, -1.0, 1.0), 0.0),  # what is beyond a range is at its end
        (-7.0, -0.8, Grid(0.1, -1.0, 1.0), 2.0),
        (0.5, 0.5 + 1e-5, Grid(None), 1.0),  # a rounding error of 1, the largest
    ],
)
def test_numbers_of_a_grid_are_compared_in_its_steps(value, held, grid, steps):
    mine, theirs = np.zeros((2, 3)), np.zeros((2, 3))
    mine[0, 0] = theirs[0, 0] = 1.0
    mine[1, 2], theirs[1, 2] = value, held
    place = Segments(2).place("map", "a")
    compare_values(mine, theirs, 1.5, "it differs", [0, 1], place, grid=grid)
    assert place.worst == pytest.approx(steps, abs=1e-6)
    assert place.faulty == ({1} if steps > 1.5 else set())


@pytest.mark.parametrize(
    "others, step, noisy, fault",
    [
        (REAL[:, 1], 2.0**-25, True, False),
        (REAL[:, 1], 2.0**-25, False, True),  # nothing says that it is rounding
        (REAL[:, 1], 1.0, True, True),
        (np.float32([3, -6, 0, 9]), 2.0**-25, True, True),
        (np.float32([3, -6, 0, 9]), 0.0, True, True),
        (REAL[:, 1], 0.0, True, False),
    ],
)
def test_units_in_the_last_place_are_no_whole_numbers(others, step, noisy, fault):
    """As a map less its mean has in a channel of equal numbers."""
    x = np.stack([step * np.float32([0, 1, -2, 3]), others], axis=1)
    sign, place = Sign("a", larqs, x), Segments(4).place("sign", "a")
    bits = sign.positive(x)
    bits[0, 0] = False
    noise = [x + np.float32(size) for size in (1e-7, 64e-7)] if noisy else []
    compare_sign(sign, bits, "between layer 'b' and it", [*range(4)], place, noise)
    assert bool(place.fault) == fault


COMPARISONS = {
    "greater": tf.math.greater,
    "from": tf.math.greater_equal,
    "less": tf.math.less,
    "up to": lambda x, c: x <= c,
}


@pytest.mark.parametrize("threshold", [0.0, 0.3, np.float32([0.3, -0.2])])
@pytest.mark.parametrize("kind", COMPARISONS)
def test_comparisons_with_constants_are_signs(kind, threshold):
    """What is within rounding of the constant may turn, and nothing after it counts."""

    def net(more):
        keras.backend.clear_session()  # so that layers have equal names
        start = keras.Input((2,), name="input")
        above = COMPARISONS[kind](start + np.float32(more), threshold)
        return keras.Model(start, 100 * tf.where(above, start, -1.0))

    x = REAL + np.float32(threshold)
    x[1] = threshold + np.float32([2e-6, -2e-6])
    given = net(0.0)
    for more, faulty in ((0.0, []), (4e-6, []), (-4e-6, []), (0.35, [2])):
        other = net(more)
        found = compare(given, lambda group, m=other: record(m, group), [x], 1e-5)
        assert [i for i in found.faulty if i != 1] == faulty  # 1 is beside the constant
        (place,) = (p for (of, _), p in found.places.items() if of == "sign")
        if abs(more) == 4e-6:
            assert (place.turned, found.finding) == ({1}, "")
        if faulty:
            assert "sign to differ is that of layer 'tf.math." in found.finding


@pytest.mark.parametrize("kind", COMPARISONS)
def test_a_comparison_of_whole_numbers_is_exact(kind):
    def net(more):
        keras.backend.clear_session()
        start = keras.Input((2,), name="input")
        above = COMPARISONS[kind](start + np.float32(more), 2.0)
        return keras.Model(start, tf.where(above, 1.0, -1.0))

    x = np.float32([[4, -3], [2, 5], [-6, 2], [10, -1]])
    more = 1e-6 if kind in ("greater", "up to") else -1e-6
    found = compare(net(0.0), lambda group: record(net(more), group), [x], 1e-5)
    assert "exactly 0, a sum of whole numbers" in found.finding


TERNARY = {
    "tf.math.sign": (tf.sign, 0.0),
    "mine": (keras.layers.Activation(lq.quantizers.SteTern(0.1), name="mine"), 0.1),
    "ste_tern": (lambda x: lq.quantizers.SteTern(0.3, name="ste_tern")(x), 0.3),
}


@pytest.mark.parametrize("kind", TERNARY)
def test_ternary_signs_are_signs(kind):
    """What is within rounding of a step may turn, and nothing after it counts."""
    sign, threshold = TERNARY[kind]

    def net(more):
        keras.backend.clear_session()  # so that layers have equal names
        start = keras.Input((2,), name="input")
        return keras.Model(start, 100 * sign(start + np.float32(more)))

    x = REAL + np.float32(threshold)
    x[1] = threshold + np.float32([2e-6, -2e-6])
    given = net(0.0)
    for more, faulty in ((0.0, []), (4e-6, []), (-4e-6, []), (1.5, [2, 3])):
        other = net(more)
        found = compare(given, lambda group, m=other: record(m, group), [x], 1e-5)
        places = [p for (of, _), p in found.places.items() if of == "sign"]
        assert [place.name for place in places] == [kind]
        assert [i for i in found.faulty if i != 1] == faulty  # 1 is beside the step
        if abs(more) == 4e-6:
            assert (places[0].turned, found.finding) == ({1}, "")


@pytest.mark.parametrize("more", [1e-6, -1e-6])
def test_a_ternary_sign_of_whole_numbers_is_exact(more):
    def net(more):
        keras.backend.clear_session()
        start = keras.Input((2,), name="input")
        return keras.Model(start, tf.sign(start + np.float32(more)))

    x = np.float32([[2, -5], [0, 3], [-8, 0], [8, -3]])
    found = compare(net(0.0), lambda group: record(net(more), group), [x], 1e-5)
    assert "exactly 0, a sum of whole numbers" in found.finding
    assert found.faulty == [1, 2]


@pytest.mark.parametrize("error, fault", [(0.0, False), (0.1, True)])
def test_where_all_channels_cancel_they_may_round(error, fault):
    """No channel of large numbers says how much: noise of two sizes does."""
    inputs = keras.Input((64,), name="input")
    kernel = np.random.default_rng(0).normal(size=(64, 1)) * 1000
    kernel[1::2] = -kernel[::2]
    dense = _layers.Dense(1, use_bias=False, name="sums")
    model = keras.Model(inputs, dense(inputs))
    dense.set_weights([kernel])
    x = images(8, (64,))
    x[:, 1::2] = x[:, ::2] * (1 + 1e-7 * np.sign(images(8, (32,), 2)))
    exact = x.astype(float) @ kernel.astype(np.float32).astype(float)
    assert np.abs(exact - model(x)).max() > 1e-3 * np.abs(exact).max()
    found = compare(model, lambda _: Found([exact + error], {}), [x], 1e-5)
    assert bool(found.finding) == fault


@pytest.mark.parametrize("tolerance", [1e-3, 1e-4])
@pytest.mark.parametrize("positions", [1, 9])
def test_beside_a_large_bias_numbers_are_compared_by_how_they_vary(
    tolerance, positions
):
    """A kernel that is 1.5 times too large, beside a bias of 1e4."""
    sums = np.random.default_rng(0).normal(size=(8, positions, 4))
    for factor, is_fault in ((1.5, True), (1 + tolerance / 9, False)):
        mine, theirs = (np.float32(1e4 + k * sums) for k in (1.0, factor))
        place = Segments(8).place("output", "y")
        compare_values(mine, theirs, tolerance, "it differs", [*range(8)], place)
        assert bool(place.fault) == is_fault


def test_a_number_alone_is_compared_by_its_size():
    place = Segments(1).place("output", "y")
    one = np.float32([[3.0]])
    compare_values(one, one * np.float32(1.0009), 1e-3, "it", [0], place)
    assert not place.fault
