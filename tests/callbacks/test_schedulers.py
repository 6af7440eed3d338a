"""Schedules of quantizers: the published values, which are moved, how they resume."""

import numpy as np
import pytest
from callback_networks import binary, compiled, fit, functional, nested, wrapped
from larq_nobn._keras import keras
from larq_nobn.callbacks import PowerScheduler, ProgressiveBinarization, TauScheduler
from larq_nobn.quantizers import BinaryRegularized, ProgressiveSign, ReCU, ReSTE, RSign
from larq_nobn.training import RunSettings
from larq_nobn.training._callbacks import callbacks_of
from numpy.testing import assert_allclose

# τ in 600 epochs from 0.85 to 0.99. The published e, 2.71828, differs from e by 7e-7 of
# itself.
TAU = {
    **{0: 0.85, 150: 0.8731414647, 300: 0.9028556936, 450: 0.9410095188},
    **{599: 0.9896311795, 600: 0.99, 700: 0.99},
}
# 1000 epochs from 1 to 3: 1 + 2 (1 - cos(pi e / 2000)); a third and two thirds of a
# quarter turn have the cosines sqrt(3)/2 and 1/2.
POWER = {
    **{0: 1.0, 250: 1.1522409349774265, 1000 / 3: 3 - 3**0.5, 500: 3 - 2**0.5},
    **{2000 / 3: 2, 999: 2.9968584086, 1000: 3, 1100: 3},
}


def test_the_published_values():
    for epoch, tau in TAU.items():
        assert_allclose(TauScheduler().value_at(epoch / 600, 0), tau, rtol=1e-6)
    for epoch, power in POWER.items():
        assert_allclose(PowerScheduler().value_at(epoch / 1000, 0), power, rtol=1e-9)
    assert_allclose(PowerScheduler(2, 5).value_at(0.5, 0), 5 - 3 / 2**0.5)
    callback, times = ProgressiveBinarization(), np.linspace(0, 1.2, 13)
    callback._quantizers = [ProgressiveSign(), ProgressiveSign()]
    fractions = [[callback.value_at(time, place) for time in times] for place in (0, 1)]
    first = [0, 0.2, 0.4, 0.6, 0.8, 1, 1, 1, 1, 1, 1, 1, 1]
    second = [0, 0, 0, 0, 0, 0, 0.2, 0.4, 0.6, 0.8, 1, 1, 1]
    assert_allclose(fractions, [first, second], atol=1e-12)


def of_reste(**kwargs):
    """One kind after the other: a power in the kernel and one before it."""
    sign = RSign(estimator="reste")
    return binary(quantizer=ReSTE, input_quantizer=sign, **kwargs)


def progressive(**kwargs):
    return binary(input_quantizer=ProgressiveSign(), **kwargs)


class Recorder(keras.callbacks.Callback):
    """A weight of every quantizer that has it, at every training step."""

    def __init__(self, weight):
        super().__init__()
        self.weight = weight
        self.seen = []

    def on_train_batch_end(self, batch, logs=None):
        modules = self.model.submodules
        values = [getattr(module, self.weight, None) for module in modules]
        self.seen.append([float(value) for value in values if value is not None])


SCHEDULES = [
    (TauScheduler(0.6, 0.9), binary, 2, 0),
    (PowerScheduler(1.5, 4), of_reste, 4, 2),
]


@pytest.mark.parametrize("callback, layer, count, begin", SCHEDULES)
def test_every_step_of_an_epoch_has_its_value(callback, layer, count, begin):
    recorder, model = Recorder(callback.weight), compiled(nested, layer=layer)
    history = fit(model, callback, recorder, initial_epoch=begin, epochs=3)
    expected = [callback.value_at(epoch / 3, 0) for epoch in range(begin, 3)]
    assert_allclose(history[callback.weight], expected, rtol=1e-6)
    # Four steps per epoch.
    steps = np.outer(np.repeat(expected, 4), [1] * count)
    assert_allclose(recorder.seen, steps, rtol=1e-6)


def test_every_step_has_its_fractions():
    recorder, model = Recorder("fraction"), compiled(functional, layer=progressive)
    callback = ProgressiveBinarization(2)
    history = fit(model, callback, recorder, initial_epoch=1, epochs=3)
    # Four steps per epoch: the first layer in the first, the second in the next one.
    expected = [*((1, p) for p in (0, 0.25, 0.5, 0.75)), *[(1, 1)] * 4]
    assert_allclose(recorder.seen, expected)
    assert_allclose(history["fraction"], [0.875, 1])
    # Half of the epochs are progressive unless told otherwise.
    recorder, model = Recorder("fraction"), compiled(functional, layer=progressive)
    fit(model, ProgressiveBinarization(), recorder, epochs=2)
    growing = [*((p, 0) for p in (0, 0.5)), *((1, p) for p in (0, 0.5))]
    assert_allclose(recorder.seen, [*growing, *[(1, 1)] * 4])


@pytest.mark.parametrize("network", [nested, wrapped, functional])
def test_progressive_signs_are_in_order_from_the_input_on(network):
    model = compiled(network, layer=progressive)
    quantizers = ProgressiveBinarization.quantizers_of(model)
    assert len(quantizers) == {nested: 2, wrapped: 1, functional: 2}[network]
    if network is nested:
        layers = [model.get_layer(name).get_layer("binary") for name in ("one", "two")]
        assert quantizers == [layer.input_quantizer for layer in layers]
    if network is functional:
        layers = [model.get_layer(name) for name in ("first", "second")]
        assert quantizers == [layer.input_quantizer for layer in layers]


def test_which_quantizers_are_moved():
    other = RSign(estimator="approx_sign")
    layer = binary(quantizer=ReSTE, input_quantizer=other)
    model = keras.Sequential([keras.Input((6,)), layer])
    assert PowerScheduler.quantizers_of(model) == [layer.kernel_quantizer]
    # Inside another quantizer too.
    outer = BinaryRegularized(ReCU())
    layer = binary(quantizer=lambda: outer)
    model = keras.Sequential([keras.Input((6,)), layer])
    assert TauScheduler.quantizers_of(model) == [outer.quantizer]


def test_a_run_moves_what_its_network_has(tmp_path):
    def kinds(layer):
        network, history = compiled(layer=layer), keras.callbacks.Callback()
        callbacks = callbacks_of(RunSettings(), network, history, tmp_path, list)
        schedulers = (TauScheduler, PowerScheduler, ProgressiveBinarization)
        return [type(each) for each in callbacks if isinstance(each, schedulers)]

    def both(**kwargs):
        return binary(input_quantizer=RSign(estimator="reste"), **kwargs)

    assert kinds(of_reste) == [PowerScheduler]
    assert kinds(binary) == [TauScheduler]
    assert kinds(both) == [TauScheduler, PowerScheduler]
    assert kinds(progressive) == [TauScheduler, ProgressiveBinarization]
    assert kinds(lambda **kw: keras.layers.Dense(5, **kw)) == []


@pytest.mark.parametrize(
    "cls, arguments, error, message",
    [
        (TauScheduler, {"start": 0.5}, ValueError, r"start=0.5 is outside \(0.5, 1\)."),
        (TauScheduler, {"start": 0.99}, ValueError, "0.99 is not below end=0.99"),
        (ProgressiveBinarization, {"epochs": 0}, ValueError, "below 1. Use None for"),
    ],
)
def test_bad_arguments(cls, arguments, error, message):
    with pytest.raises(error, match=message):
        cls(**arguments)
