"""Models whose graph cannot be read, and sizes of images closed by `input_shape`."""

from functools import cache

import numpy as np
import pytest
import tensorflow as tf
from deploy.nets import binary_conv, chain, head, images, scrambled
from larq_nobn._keras import keras
from larq_nobn.deploy import (
    ConversionError,
    Runner,
    VerificationError,
    _opening,
    convert,
)
from larq_nobn.graph._models import flattened

pytestmark = pytest.mark.convert


@cache
def open_model(shape=(None, None, 3)):
    """With a model and a function inside."""
    rows = binary_conv(8, name="a"), keras.layers.BatchNormalization()
    inner = chain(*rows, stem=False, shape=(*shape[:2], 32), name="inner")
    double = keras.layers.Lambda(lambda x: 2 * x)
    return chain(double, inner, *head(), shape=shape, name="open")


@pytest.mark.parametrize("given, size", [((None, None, 3), (6, 4, 3))])
def test_a_file_of_that_size_computes_what_the_model_computes(given, size, tmp_path):
    model, data = open_model(given), images(16, tuple(size))
    nodes = [len(layer.inbound_nodes) for layer in model.layers]
    report = convert(model, tmp_path / "m.tflite", input_shape=size)
    assert (report.lce_bconv2d, report.not_prepared) == (1, None)
    assert report.verify["examples"] == 34
    run = Runner((tmp_path / "m.tflite").read_bytes())
    assert run.input_tensors[0].shape == (1, *size)
    np.testing.assert_allclose(run(data), model(data), rtol=1e-3, atol=1e-4)
    assert model.input_shape == (None, *given)
    assert nodes == [len(layer.inbound_nodes) for layer in model.layers]


def test_the_given_model_is_what_the_file_is_compared_with(tmp_path, monkeypatch):
    """Not the copy that has the size."""

    def wrong(model):
        copy = flattened(model)
        copy.layers[-1].activation = tf.exp
        return copy

    monkeypatch.setattr(_opening._models, "flattened", wrong)
    with pytest.raises(VerificationError, match="Tracing the model changed"):
        convert(open_model(), tmp_path / "m.tflite", input_shape=(8, 8, 3))
    assert not any(tmp_path.iterdir())


@cache
def two_inputs():
    inputs = [keras.Input((None, None, 3)) for _ in range(2)]
    both = keras.layers.Add()([binary_conv()(x) for x in inputs])
    return scrambled(keras.Model(inputs, both, name="two"))


@pytest.mark.parametrize(
    "make, shape, message",
    [
        (open_model, None, r"leaves more open .* pass that to convert as input_shape"),
        (open_model, (8, 8, 1), r"\(8, 8, 1\) does not fit .* 'open', which takes .No"),
        (open_model, 96, "input_shape=96 is not the size of one example, in pos"),
        (two_inputs, (8, 8, 3), "is for models of one input, and model 'two' has 2"),
    ],
)
def test_what_does_not_fit_is_one_sentence(make, shape, message, tmp_path):
    with pytest.raises(ConversionError, match=message):
        convert(make(), tmp_path / "m.tflite", input_shape=shape, allow_float=True)
    assert not any(tmp_path.iterdir())
