"""What LCE would fuse wrongly is kept apart; files get room for tensors to come."""

import numpy as np
import pytest
import tensorflow as tf
from deploy.nets import Constant, binary_conv, images, scrambled
from larq_compute_engine.mlir.python import tflite_schema as schema
from larq_nobn._keras import keras
from larq_nobn.deploy import Runner, convert
from larq_nobn.deploy.lite._converter import IoSpec, to_flatbuffer
from larq_nobn.deploy.lite._file import edited, read
from larq_nobn.deploy.lite._lce_faults import add_room, missed_reach

layers = keras.layers


class Traced(Constant):
    """The same, as a function of TensorFlow's."""

    call = tf.function(Constant.call)


def rows_of_their_own():
    """Side by side, each after a convolution of its own."""
    rows = [
        # LCE would fuse these into files that cannot run, or compute something else.
        (binary_conv(), Constant((1, 32), True)),
        (binary_conv(), Traced((1, 1, 1, 32))),
        (binary_conv(), Constant((8, 8, 32)), binary_conv()),
        (binary_conv(), Constant((1, 8, 8, 32))),
        (binary_conv(), Constant((32,)), layers.ReLU(), Constant((8, 1, 1), True)),
        # And these as they are.
        (binary_conv(), Constant((32,), True), Constant((32,))),
        (binary_conv(), Traced((32,), True), Traced((32,))),
        (binary_conv(), layers.PReLU(shared_axes=(1, 2)), Constant((8, 8, 32), True)),
    ]
    inputs, ends = keras.Input((8, 8, 3)), []
    for number, row in enumerate(rows):
        x = inputs
        for layer in row:
            layer._name = f"row{number}_{layer.name}"
            x = layer(x)
        ends.append(x)
    return scrambled(keras.Model(inputs, ends))


@pytest.mark.convert
def test_constants_after_a_binary_convolution_may_have_any_shape(tmp_path):
    model, x = rows_of_their_own(), images(4)
    report = convert(model, tmp_path / "m.tflite", data=x)
    assert report.lce_bconv2d == report.binary_layers == 9
    assert report.verify["unexplained"] == 0
    copies = sum(row["count"] for row in report.float_ops if row["op"] == "MAXIMUM")
    assert copies == 3


def test_a_file_with_room_computes_the_same_with_more_tensors():
    io = IoSpec([tf.TensorSpec((1, 4), tf.float32, "input")], ["left", "right"])
    content = to_flatbuffer(lambda x: [x[0] + 1.0, 2.0 * x[0]], io)
    roomy = edited(content, add_room)
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


@pytest.mark.parametrize(
    "size, kernel, dilation, reach",
    [
        ((3, 3), (3, 3), (1, 1), None),
        ((2, 3), (3, 3), (1, 1), (3, 3)),
        ((4, 4), (5, 5), (1, 1), (5, 5)),
        ((5, 3), (3, 2), (2, 2), None),
    ],
)
def test_a_kernel_reaches_over_maps_that_are_smaller(size, kernel, dilation, reach):
    assert missed_reach(size, kernel, dilation) == reach
