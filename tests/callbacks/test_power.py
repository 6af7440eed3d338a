"""The power's schedule: the published values, where it is found, how it resumes."""

import larq_nobn as nobn
import numpy as np
import pytest
from callback_networks import binary, compiled, fit, nested
from larq_nobn._keras import keras
from larq_nobn.callbacks import PowerScheduler, TauScheduler
from larq_nobn.callbacks._power import power_at
from larq_nobn.training import RunSettings
from larq_nobn.training._callbacks import callbacks_of
from numpy.testing import assert_allclose

# 1000 epochs from 1 to 3: 1 + 2 (1 - cos(pi e / 2000)); a third and two thirds of a
# quarter turn have the cosines sqrt(3)/2 and 1/2.
PUBLISHED = {0: 1.0, 250: 1.1522409349774265, 500: 3 - 2**0.5, 999: 2.9968584086}


def test_the_published_values():
    for epoch, power in PUBLISHED.items():
        assert_allclose(power_at(epoch, 1000, 1, 3), power, rtol=1e-9)
    assert power_at(1, 3, 1, 3) == pytest.approx(3 - 3**0.5)
    assert power_at(2, 3, 1, 3) == pytest.approx(2)
    assert power_at(1000, 1000, 1, 3) == power_at(1100, 1000, 1, 3) == pytest.approx(3)
    assert power_at(500, 1000, 2, 5) == pytest.approx(5 - 3 / 2**0.5)


def of_reste(**kwargs):
    """One kind after the other: a power in the kernel and one before it."""
    sign = nobn.quantizers.RSign(estimator="reste")
    return binary(quantizer=nobn.quantizers.ReSTE, input_quantizer=sign, **kwargs)


class Recorder(keras.callbacks.Callback):
    """The power of every quantizer that has one, at every training step."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def on_train_batch_end(self, batch, logs=None):
        modules = self.model.submodules
        found = [getattr(module, "power", None) for module in modules]
        self.seen.append([float(power) for power in found if power is not None])


def test_every_step_of_an_epoch_has_its_value_in_kernels_and_activations():
    recorder = Recorder()
    model = compiled(nested, layer=of_reste)
    history = fit(model, PowerScheduler(1.5, 4), recorder, epochs=3)
    expected = [power_at(epoch, 3, 1.5, 4) for epoch in range(3)]
    assert_allclose(history["power"], expected, rtol=1e-6)
    # Four steps per epoch, two layers of two quantizers each.
    assert_allclose(recorder.seen, np.outer(np.repeat(expected, 4), [1] * 4), rtol=1e-6)


def test_the_number_of_the_epoch_decides_after_a_resume():
    model = compiled(layer=of_reste)
    history = fit(model, PowerScheduler(epochs=8), initial_epoch=2, epochs=4)
    expected = [power_at(epoch, 8, 1, 3) for epoch in (2, 3)]
    assert_allclose(history["power"], expected, rtol=1e-6)


def test_files_keep_the_power(tmp_path):
    model = compiled(layer=of_reste)
    fit(model, PowerScheduler(epochs=3))
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras", compile=False)
    layer = again.get_layer("binary")
    for quantizer in (layer.kernel_quantizer, layer.input_quantizer):
        assert_allclose(quantizer.power, power_at(1, 3, 1, 3), rtol=1e-6)


def test_other_estimators_of_rsign_are_left_alone():
    other = nobn.quantizers.RSign(estimator="approx_sign")
    layer = binary(quantizer=nobn.quantizers.ReSTE, input_quantizer=other)
    model = keras.Sequential([keras.Input((6,)), layer])
    assert PowerScheduler.quantizers_of(model) == [layer.kernel_quantizer]


def test_a_run_moves_what_its_network_has(tmp_path):
    def kinds(layer):
        network, history = compiled(layer=layer), keras.callbacks.Callback()
        found = callbacks_of(RunSettings(), network, history, tmp_path, list)
        schedulers = (TauScheduler, PowerScheduler)
        return [type(each) for each in found if isinstance(each, schedulers)]

    def both(**kwargs):
        sign = nobn.quantizers.RSign(estimator="reste")
        return binary(input_quantizer=sign, **kwargs)

    assert kinds(of_reste) == [PowerScheduler]
    assert kinds(binary) == [TauScheduler]
    assert kinds(both) == [TauScheduler, PowerScheduler]
    assert kinds(lambda **kw: keras.layers.Dense(5, **kw)) == []


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        (
            {"start": 0.5},
            ValueError,
            r"start=0.5 is outside \[1, inf\). Start at 1 a",
        ),
        ({"end": "x"}, TypeError, "end='x' is not a number"),
        ({"start": 3}, ValueError, "start=3 is not below end=3.0, but power must grow"),
        ({"epochs": 0}, ValueError, "epochs=0 is below 1. Use None for those of fit."),
    ],
)
def test_bad_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        PowerScheduler(**arguments)
