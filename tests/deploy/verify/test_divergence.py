"""Faults put into the conversion of one layer, and the search that finds it."""

import numpy as np
import pytest
import tensorflow as tf
from deploy.nets import binary_conv, chain, head, images
from larq_nobn._keras import keras
from larq_nobn.deploy import VerificationError, _convert, convert
from larq_nobn.deploy.prepare._prepare import prepare
from larq_nobn.deploy.verify import _divergence
from larq_nobn.deploy.verify._divergence import first_divergence

pytestmark = pytest.mark.convert


@pytest.fixture
def wrong_in_files(monkeypatch):
    """Makes one kernel the negative of itself while a model is being converted."""

    def spoil(layer):
        for module in (_convert, _divergence):
            right = module.to_flatbuffer

            def wrong(function, variables, *rest, right=right):
                kernels = [v for v in variables if v.name == f"{layer}/kernel:0"]
                for kernel in kernels:
                    kernel.assign(-kernel)
                try:
                    return right(function, variables, *rest)
                finally:
                    for kernel in kernels:
                        kernel.assign(-kernel)

            monkeypatch.setattr(module, "to_flatbuffer", wrong)

    return spoil


def two_convs():
    convs = binary_conv(8, name="first"), binary_conv(8, name="second")
    norms = keras.layers.BatchNormalization(), keras.layers.BatchNormalization()
    return chain(convs[0], norms[0], convs[1], norms[1], *head(), name="two")


@pytest.fixture(scope="module")
def two_prepared():
    return prepare(two_convs())


@pytest.mark.parametrize("layer", ["stem", "head"])
def test_the_layer_at_fault_is_found(layer, two_prepared, wrong_in_files):
    wrong_in_files(layer)
    found = first_divergence(two_prepared, [images()], 1e-3)
    assert f"first layer to compute something else is '{layer}' (" in found
    assert "relative difference of 2." in found


def branched():
    """Two branches, of which only one is wrong, and which a sum joins."""
    inputs = keras.Input((8, 8, 32))
    left = binary_conv(name="left")(inputs)
    right = binary_conv(name="right")(inputs)
    right = keras.layers.PReLU(shared_axes=(1, 2), name="act")(right)
    left = keras.layers.AveragePooling2D(3, 1, "same", name="pool")(left)
    return keras.Model(inputs, keras.layers.Add(name="sum")([left, right]))


@pytest.mark.parametrize("layer", ["left", "right"])
def test_branches_do_not_hide_a_fault(layer, wrong_in_files):
    prepared = prepare(branched())
    wrong_in_files(layer)
    assert f"is '{layer}' (" in first_divergence(
        prepared, [images(4, (8, 8, 32))], 1e-3
    )


def test_conversions_are_few(monkeypatch, wrong_in_files):
    prepared = prepare(chain(*(binary_conv(4, name=f"c{i}") for i in range(7))))
    wrong_in_files("c4")
    count = 0
    right = _divergence.to_flatbuffer

    def counted(*arguments):
        nonlocal count
        count += 1
        return right(*arguments)

    monkeypatch.setattr(_divergence, "to_flatbuffer", counted)
    assert "'c4'" in first_divergence(prepared, [images()], 1e-3)
    assert count <= 4  # all 8 layers, and 3 halvings of them


def test_nothing_is_found_where_nothing_differs(two_prepared):
    found = first_divergence(two_prepared, [images()], 1e-3)
    assert found == "Converted once more, it computes the same as its model."


def test_the_message_of_a_conversion_names_the_layer(wrong_in_files, tmp_path):
    wrong_in_files("first")
    message = "to differ is that of layer 'second'.* something else is 'first'.*No file"
    with pytest.raises(VerificationError, match=message):
        convert(two_convs(), tmp_path / "m.tflite")
    assert not any(tmp_path.iterdir())


class Moody(keras.layers.Layer):
    """Computes something else in a graph than eagerly, as faulty layers may."""

    def call(self, inputs):
        return inputs if tf.executing_eagerly() else 2 * inputs


def test_layers_that_differ_between_eager_and_graph_are_found(tmp_path):
    model = chain(binary_conv(), Moody(name="moody"), *head())
    message = "something else is 'moody' .Moody., with a relative difference of 1"
    with pytest.raises(VerificationError, match=message):
        convert(model, tmp_path / "m.tflite")
    assert not any(tmp_path.iterdir())


def test_numbers_that_are_none_differ(two_prepared, monkeypatch):
    right = _divergence.to_flatbuffer

    def spoiled(function, variables, ports):
        return right(lambda x: [y * np.nan for y in function(x)], variables, ports)

    monkeypatch.setattr(_divergence, "to_flatbuffer", spoiled)
    assert "is 'stem' (" in first_divergence(two_prepared, [images()], 1e-3)


def test_a_part_that_does_not_convert_is_no_reason_to_stop(two_prepared, monkeypatch):

    def broken(*arguments):
        raise _divergence.ConversionError("Odd parts.")

    monkeypatch.setattr(_divergence, "to_flatbuffer", broken)
    found = first_divergence(two_prepared, [images()], 1e-3)
    assert found == "Layer not found. Odd parts."
