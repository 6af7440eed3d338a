"""Single layers: the value of kernels, and layers that are made again or replaced."""

import logging

import larq_nobn as nobn
import larq as lq
import numpy as np
import pytest
from larq_nobn import layers
from larq_nobn._keras import dtype_policy, keras
from larq_nobn.graph._models import replace_layers
from larq_nobn.graph._operation import rebuild
from larq_nobn.graph._signs import kernel_value
from numpy.testing import assert_allclose


@pytest.mark.parametrize("policy", ["float32", "float64"])
def test_it_is_what_the_layer_multiplies_by(policy):
    with dtype_policy(policy):
        quantizer = nobn.quantizers.ScaledStdSign()
        layer = lq.layers.QuantDense(3, kernel_quantizer=quantizer)
        layer(np.zeros((1, 4)))
    with lq.context.quantized_scope(True):
        seen = np.asarray(layer.kernel.read_value())
    actual = kernel_value(layer.kernel)
    assert actual.dtype == policy
    assert_allclose(actual, seen, rtol=1e-6)


@pytest.mark.parametrize("made_again", [False, True])
def test_a_layer_that_is_made_again_repeats_no_warning(made_again, caplog):
    # The command line, in another test, shows errors only.
    caplog.set_level(logging.WARNING, logger="larq")

    def make(kernel="ste_sign"):
        return lq.layers.QuantConv2D(4, 3, kernel_quantizer=kernel)

    layer = make()
    assert "starved weights" in caplog.text
    caplog.clear()
    rebuild(layer) if made_again else make()
    assert ("starved weights" in caplog.text) != made_again
    caplog.clear()
    make("scaled_std_sign")
    assert caplog.text == ""


@pytest.mark.parametrize("mode", [(), (False,), (True,)])
@pytest.mark.parametrize("keyword", [False, True])
def test_a_layer_of_another_class_gets_no_fixed_mode(mode, keyword):
    inputs = keras.Input((3,))
    norm = keras.layers.BatchNormalization(name="norm")
    outputs = (
        norm(inputs, training=mode[0]) if keyword and mode else norm(inputs, *mode)
    )
    model = keras.Model(inputs, outputs)
    new = replace_layers(model, lambda call: layers.ChannelAffine(name=call.name))
    (node,) = new.get_layer("norm").inbound_nodes
    assert node.call_kwargs == {} and len(node.call_args) == 1
    assert len(new.trainable_weights) == 2
