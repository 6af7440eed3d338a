"""The operations of a model, as functions that are computed for its comparison."""

import numpy as np
import pytest
import tensorflow as tf
from deploy.nets import binary_conv, chain, head
from larq_nobn.deploy.lite._converter import io_spec
from larq_nobn.deploy.lite._trace import Noise, Trace
from larq_nobn.deploy.operations import LoweredTrace


@pytest.mark.parametrize("noisy", [False, True])
def test_functions_contain_no_weights(noisy):
    """Or each of the dozen that a conversion makes would hold all of a network."""
    model = chain(binary_conv(128), binary_conv(128), *head())
    io = io_spec(model)
    lowered = LoweredTrace(Trace(model, io), io, "lce")
    weights = 4 * sum(np.prod(weight.shape) for weight in model.weights)
    for form in (lowered.trace.function, lowered.exact):
        function = form((), (), Noise() if noisy else None)
        traced = tf.function(lambda *x, f=function: f(x), autograph=False)
        concrete = traced.get_concrete_function(*io.inputs)
        assert concrete.graph.as_graph_def().ByteSize() < weights / 10
