"""The schedule of progressive binarization: layer by layer, step by step."""

import larq_nobn as nobn
import numpy as np
import pytest
from callback_networks import binary, compiled, fit, functional, nested, wrapped
from larq_nobn._keras import keras
from larq_nobn.callbacks import ProgressiveBinarization
from larq_nobn.callbacks._progressive import fraction_at
from larq_nobn.training import RunSettings
from larq_nobn.training._callbacks import callbacks_of
from numpy.testing import assert_allclose


def progressive(**kwargs):
    return binary(input_quantizer=nobn.quantizers.ProgressiveSign(), **kwargs)


def fractions(model):
    """By the layers' order in the network, whatever the callback thinks of it."""
    found = [model.get_layer(name).input_quantizer for name in ("first", "second")]
    return [float(each.fraction) for each in found]


class Recorder(keras.callbacks.Callback):
    """The fractions of every step, as it sees them."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def on_train_batch_end(self, batch, logs=None):
        self.seen.append(fractions(self.model))


def test_one_layer_after_the_other():
    times = np.linspace(0, 1.2, 13)
    found = [[fraction_at(time, place, 2) for place in range(2)] for time in times]
    first = [0, 0.2, 0.4, 0.6, 0.8, 1, 1, 1, 1, 1, 1, 1, 1]
    second = [0, 0, 0, 0, 0, 0, 0.2, 0.4, 0.6, 0.8, 1, 1, 1]
    assert_allclose(found, np.transpose([first, second]), atol=1e-12)


def test_every_step_has_its_fractions():
    recorder = Recorder()
    model = compiled(functional, layer=progressive)
    history = fit(model, ProgressiveBinarization(2), recorder, epochs=3)
    # Four steps per epoch: the first layer in the first, the second in the next one.
    ramp = [0, 0.25, 0.5, 0.75]
    expected = [*((p, 0) for p in ramp), *((1, p) for p in ramp), *[(1, 1)] * 4]
    assert_allclose(recorder.seen, expected)
    assert_allclose(history["fraction"], [0.375, 0.875, 1])


def test_half_of_the_epochs_unless_told_otherwise():
    recorder = Recorder()
    model = compiled(functional, layer=progressive)
    fit(model, ProgressiveBinarization(), recorder, epochs=2)
    assert_allclose(recorder.seen[:4], [(0, 0), (0.5, 0), (1, 0), (1, 0.5)])
    assert_allclose(recorder.seen[4:], 1)


def test_the_epoch_and_the_step_decide_after_a_resume():
    recorder = Recorder()
    model = compiled(functional, layer=progressive)
    fit(model, ProgressiveBinarization(2), recorder, initial_epoch=1, epochs=2)
    assert_allclose(recorder.seen, [(1, 0), (1, 0.25), (1, 0.5), (1, 0.75)])


def test_without_a_number_of_steps_epochs_decide():
    model = compiled(functional, layer=progressive)
    callback = ProgressiveBinarization(2)
    callback.set_model(model)
    callback.set_params({"epochs": 2, "steps": None})
    callback.on_train_begin()
    callback.on_epoch_begin(1)
    callback.on_train_batch_begin(3)
    assert fractions(model) == [1, 0]


@pytest.mark.parametrize("network", [nested, wrapped, functional])
def test_quantizers_are_found_from_the_input_on(network):
    model = compiled(network, layer=progressive)
    found = ProgressiveBinarization.quantizers_of(model)
    assert len(found) == {nested: 2, wrapped: 1, functional: 2}[network]
    if network is nested:
        names = [model.get_layer(name).get_layer("binary") for name in ("one", "two")]
        assert found == [layer.input_quantizer for layer in names]
    if network is functional:
        names = [model.get_layer(name) for name in ("first", "second")]
        assert found == [layer.input_quantizer for layer in names]


def test_in_the_networks_of_the_package_they_follow_the_blocks():
    network = nobn.models.ReActNet18(
        (8, 8, 1), 3, width=4, blocks=(2, 2), estimator="progressive_sign"
    )
    found = [each.name for each in ProgressiveBinarization.quantizers_of(network)]
    assert found == [
        f"stage{stage}_block{block}_sign" for stage in (1, 2) for block in (1, 2)
    ]


def test_a_run_moves_what_its_network_has(tmp_path):
    network = compiled(functional, layer=progressive)
    history = keras.callbacks.Callback()
    found = callbacks_of(RunSettings(), network, history, tmp_path, list)
    assert ProgressiveBinarization in map(type, found)


@pytest.mark.parametrize("epochs, message", [(0, "epochs=0 is below 1. Use None for")])
def test_bad_arguments(epochs, message):
    with pytest.raises(ValueError, match=message):
        ProgressiveBinarization(epochs)
