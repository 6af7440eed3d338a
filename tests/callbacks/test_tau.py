"""The τ schedule: the published values, where it is found, how it resumes."""

import larq_nobn as nobn
import numpy as np
import pytest
from callback_networks import binary, compiled, fit, nested
from larq_nobn._keras import keras
from larq_nobn.callbacks import TauScheduler
from larq_nobn.callbacks._tau import tau_at
from numpy.testing import assert_allclose

# 600 epochs from 0.85 to 0.99
PUBLISHED = {0: 0.85, 150: 0.8731414647, 300: 0.9028556936, 450: 0.9410095188,
             599: 0.9896311795}  # fmt: skip


class Recorder(keras.callbacks.Callback):
    """τ of every ReCU at every training step."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def on_train_batch_end(self, batch, logs=None):
        modules = self.model.submodules
        found = [m for m in modules if isinstance(m, nobn.quantizers.ReCU)]
        self.seen.append([float(quantizer.tau) for quantizer in found])


def test_the_published_values():
    for epoch, tau in PUBLISHED.items():
        # The published e, 2.71828, differs from e by 7e-7 of itself.
        assert_allclose(tau_at(epoch, 600, 0.85, 0.99), tau, rtol=1e-6)
    assert tau_at(600, 600, 0.85, 0.99) == pytest.approx(0.99, abs=1e-12)
    assert tau_at(700, 600, 0.85, 0.99) == pytest.approx(0.99, abs=1e-12)


def test_every_step_of_an_epoch_has_its_value():
    recorder = Recorder()
    model = compiled(nested)
    history = fit(model, TauScheduler(0.6, 0.9), recorder, epochs=3)
    expected = [tau_at(epoch, 3, 0.6, 0.9) for epoch in range(3)]
    assert_allclose(history["tau"], expected, rtol=1e-6)
    # Four steps per epoch, two quantizers.
    assert_allclose(recorder.seen, np.outer(np.repeat(expected, 4), [1, 1]), rtol=1e-6)


@pytest.mark.parametrize("given", [None, 8])
def test_the_number_of_the_epoch_decides_after_a_resume(given):
    history = fit(compiled(), TauScheduler(epochs=given), initial_epoch=2, epochs=4)[
        "tau"
    ]
    expected = [tau_at(epoch, given or 4, 0.85, 0.99) for epoch in (2, 3)]
    assert_allclose(history, expected, rtol=1e-6)


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5")
@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_files_keep_tau(suffix, tmp_path):
    model = compiled()
    fit(model, TauScheduler(epochs=3))
    model.save(tmp_path / f"model{suffix}")
    again = keras.models.load_model(tmp_path / f"model{suffix}", compile=False)
    tau = again.get_layer("binary").kernel_quantizer.tau
    assert_allclose(tau, tau_at(1, 3, 0.85, 0.99), rtol=1e-6)


def test_inside_another_quantizer():
    def regularized():
        return nobn.quantizers.BinaryRegularized(nobn.quantizers.ReCU())

    model = compiled(layer=lambda **kw: binary(quantizer=regularized, **kw))
    fit(model, TauScheduler(0.6, 0.7), epochs=1, steps_per_epoch=1)
    inner = model.get_layer("binary").kernel_quantizer.quantizer
    assert_allclose(inner.tau, 0.6, rtol=1e-6)


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        ({"start": 0.5}, ValueError, r"start=0.5 is outside \(0.5, 1\). Start at 0.85"),
        ({"end": 1}, ValueError, r"end=1 is outside \(0.5, 1\). Start at 0.85"),
        ({"end": "x"}, TypeError, "end='x' is not a number"),
        ({"start": 0.99}, ValueError, "start=0.99 is not below end=0.99, but tau must"),
        ({"epochs": 0}, ValueError, "epochs=0 is below 1. Use None for those of fit."),
        ({"epochs": 2.5}, TypeError, "epochs=2.5 is not a whole number"),
    ],
)
def test_bad_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        TauScheduler(**arguments)
