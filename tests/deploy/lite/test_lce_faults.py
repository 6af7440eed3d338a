"""What LCE would fuse wrongly is found before; files get room for tensors to come."""

import numpy as np
import pytest
import tensorflow as tf
from deploy.nets import Constant, binary_conv, chain, images, scrambled
from larq_compute_engine.mlir.python import tflite_schema as schema
from larq_nobn._keras import keras
from larq_nobn.deploy import ConversionError, Runner
from larq_nobn.deploy.lite._converter import IoSpec, inference, io_spec, to_flatbuffer
from larq_nobn.deploy.lite._file import read
from larq_nobn.deploy.lite._lce_faults import check_constants, with_room

layers = keras.layers


class Traced(Constant):
    """The same, as a function of TensorFlow's."""

    call = tf.function(Constant.call)


def check(model):
    traced = tf.function(lambda *inputs: inference(model)(inputs))
    check_constants(traced.get_concrete_function(*io_spec(model).inputs).graph)


def refused(*rows, name="wide"):
    with pytest.raises(ConversionError, match=f"Layer '{name}' computes with a const"):
        check(chain(*rows, stem=False))


@pytest.mark.parametrize(
    "shape, multiply",
    [((1, 32), True), ((1, 1, 1, 32), False)],
)
def test_wide_constants_after_a_binary_convolution_are_named(shape, multiply):
    refused(binary_conv(), Constant(shape, multiply, name="wide"))
    refused(binary_conv(), Traced(shape, multiply, name="wide"))
    refused(binary_conv(), Constant(shape, multiply, name="wide"), binary_conv())


def rows_of_their_own():
    """Side by side, each after a convolution of its own."""
    rows = [
        (binary_conv(), Constant((32,), True), Constant((32,))),
        (binary_conv(), Constant((1,), True), Constant(())),
        (binary_conv(), Traced((32,), True), Traced((32,))),
        (
            binary_conv(),
            layers.PReLU(shared_axes=(1, 2)),
            Constant((8, 8, 32), True),
        ),
        (binary_conv(), layers.MaxPooling2D(), Constant((1, 1, 32), True)),
        (binary_conv(), Constant((32,)), layers.ReLU(), Constant((1, 1, 32), True)),
        (binary_conv(pad_values=0.0), layers.ReLU(), Constant((1, 1, 32), True)),
        (binary_conv(input_quantizer=None), Constant((1, 1, 32))),
    ]
    inputs, ends = keras.Input((8, 8, 3)), []
    for number, row in enumerate(rows):
        x = inputs
        for layer in row:
            layer._name = f"row{number}_{layer.name}"
            x = layer(x)
        ends.append(x)
    # One is read twice, one is subtracted.
    x = binary_conv()(inputs)
    ends.append(layers.Add()([x, Constant((1, 1, 32), True)(x)]))
    ends.append(np.ones((1, 1, 32), np.float32) - binary_conv()(inputs))
    return scrambled(keras.Model(inputs, ends))


@pytest.mark.convert
def test_what_is_not_fused_may_have_any_shape():
    model = rows_of_their_own()
    content = to_flatbuffer(inference(model), model.variables, io_spec(model))
    x = images(4, model.input.shape[1:])
    found = Runner(content).outputs([x])
    for row, pair in enumerate(zip(found, model(x), strict=True)):
        np.testing.assert_allclose(*pair, rtol=0, atol=1e-4, err_msg=f"row {row}")


def test_a_file_with_room_computes_the_same_with_more_tensors():
    io = IoSpec([tf.TensorSpec((1, 4), tf.float32, "input")], ["left", "right"])
    content = to_flatbuffer(lambda x: [x[0] + 1.0, 2.0 * x[0]], [], io)
    roomy = with_room(content)
    operations = [op.op for op in read(content, "given")[0].operations]
    assert [op.op for op in read(roomy, "roomy")[0].operations] == operations
    graph = schema.Model.GetRootAsModel(roomy, 0).Subgraphs(0)
    # 128 have room from the start, and no operation makes as many as 20.
    assert graph.TensorsLength() >= 128 + 20 * len(operations)
    x = np.array([[1.0, -2.0, 3.0, 0.5]], np.float32)
    for runner in (Runner(content), Runner(roomy)):
        assert runner.output_names == ["left", "right"]
        left, right = runner.outputs([x])
        np.testing.assert_array_equal(left, x + 1)
        np.testing.assert_array_equal(right, 2 * x)
