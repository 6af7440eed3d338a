"""The operations of a model, as a graph that is run for its comparison."""

import gc

import numpy as np
import pytest
import tensorflow as tf
from deploy.nets import binary_conv, chain, head
from larq_nobn.deploy import convert
from larq_nobn.deploy.lite._converter import io_spec
from larq_nobn.deploy.operations import stages_of
from larq_nobn.deploy.trace._trace import Trace


def large():
    return chain(binary_conv(128), binary_conv(128), *head())


def test_large_kernels_are_given_and_not_contained():
    """Or what runs a few tensors of a network would hold all of it, each time."""
    model = large()
    stages = stages_of(Trace(model, io_spec(model)), "lce")
    weights = 4 * sum(np.prod(weight.shape) for weight in model.weights)
    for form in (stages.traced.form, stages.exact):
        contained = form.outputs[0].graph.as_graph_def().ByteSize()
        assert contained < weights / 2
        kernels = [x for x in form._large if x.shape.as_list() == [3, 3, 128, 128]]
        assert len(kernels) == 1


@pytest.mark.convert
@pytest.mark.parametrize("runtime", ["lce", "litert"])
def test_networks_of_large_kernels_are_verified(runtime, tmp_path):
    report = convert(large(), tmp_path / "m.tflite", runtime=runtime)
    assert report.verify["unexplained"] == 0
    assert report.verify["segments"]["compared"] == 3


@pytest.mark.convert
def test_nothing_of_a_conversion_is_kept(tmp_path):
    """TensorFlow keeps each graph for ever that has a gradient of its own in it."""
    model, counts = chain(binary_conv(8), *head()), []
    kind = type(tf.function(lambda: 0).get_concrete_function().graph)
    gc.collect()
    gc.freeze()  # what other tests left is not looked through each time
    for _ in range(3):
        convert(model, tmp_path / "m.tflite", verify=False)
        gc.collect()
        counts.append(sum(type(thing) is kind for thing in gc.get_objects()))
    assert counts[1] == counts[2]
