"""Room for the tensors that TensorFlow Lite makes by itself."""

import numpy as np
import tensorflow as tf
from larq_compute_engine.mlir.python import tflite_schema as schema
from larq_nobn.deploy.lite import IoSpec, Runner, read, to_flatbuffer, with_room


def test_a_file_with_room_computes_the_same_with_more_tensors():
    ports = IoSpec([tf.TensorSpec((1, 4), tf.float32, "input")], ["left", "right"])
    content = to_flatbuffer(lambda x: [x[0] + 1.0, 2.0 * x[0]], [], ports)
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
