"""Faults put into the conversion of one layer, and the segment that is named."""

import pytest
import tensorflow as tf
from deploy.nets import binary_conv, chain, head
from larq_nobn._keras import keras
from larq_nobn.deploy import VerificationError, _convert, convert

pytestmark = pytest.mark.convert


def two_convs():
    convs = binary_conv(8, name="first"), binary_conv(8, name="second")
    norms = keras.layers.BatchNormalization(), keras.layers.BatchNormalization()
    return chain(convs[0], norms[0], convs[1], norms[1], *head(), name="two")


@pytest.mark.parametrize(
    "layer, place",
    [
        ("stem", "sign to differ is that of layer 'first'"),
        ("first", "sign to differ is that of layer 'second', .* between layer 'first'"),
        ("head", "lies after that of layer 'second': output 'head' differs, by"),
    ],
)
def test_a_wrong_kernel_is_between_two_signs(layer, place, tmp_path, monkeypatch):
    right = _convert.to_flatbuffer

    def wrong(function, variables, *rest):
        (kernel,) = (v for v in variables if v.name == f"{layer}/kernel:0")
        kernel.assign(-kernel)
        try:
            return right(function, variables, *rest)
        finally:
            kernel.assign(-kernel)

    monkeypatch.setattr(_convert, "to_flatbuffer", wrong)
    with pytest.raises(VerificationError, match=f"{place}.*No file was written"):
        convert(two_convs(), tmp_path / "m.tflite")
    assert not any(tmp_path.iterdir())


class Moody(keras.layers.Layer):
    """Computes something else in a graph than eagerly, as faulty layers may."""

    def call(self, inputs):
        return inputs if tf.executing_eagerly() else 2 * inputs


def test_layers_that_differ_between_eager_and_graph_are_found(tmp_path):
    model = chain(binary_conv(name="conv"), Moody(name="moody"), *head())
    message = "fault lies after that of layer 'conv': output 'head' differs, by"
    with pytest.raises(VerificationError, match=message):
        convert(model, tmp_path / "m.tflite")
    assert not any(tmp_path.iterdir())
