"""Each rule of conversion alone: the graph before and after computes the same."""

import larq_nobn as nobn
import larq as lq
import numpy as np
import pytest
from larq_nobn import rewrites
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from larq_nobn._keras import keras
from larq_nobn.deploy._opening import as_functional
from larq_nobn.deploy.int8 import _conversion, _fake_quantize
from larq_nobn.deploy.prepare import _affine, _padding
from larq_nobn.deploy.prepare._binary_layers import binary_layer
from larq_nobn.deploy.prepare._lift import reshape_after
from larq_nobn.deploy.prepare._prepare import at_inference
from larq_nobn.deploy.prepare._reading import spell_affine
from larq_nobn.graph import Graph
from larq_nobn.layers import DynamicTanh, ProxyNormalization, RPReLU, SymmetricHead
from larq_nobn.quantizers import RSign
from larq_nobn.rewrites import Edit, Refusal
from rewrites.rewriting import (
    AFTER,
    BEFORE,
    SCALES,
    SHAPE,
    binary,
    check_edges,
    conv,
    network,
    randomized,
)

layers = keras.layers
GIVEN = (rewrites.layer_is_affine, binary_layer(), rewrites.kernel_is_numbers)
PREPARED = (
    _affine.affine_into_binary_convolution,
    _affine.scale_into_layers_after,
    _affine.bias_into_relu,
    _affine.drop_scale,
    _affine.clear_threshold,
    _conversion.merge_scale,
    rewrites.merge_affines,
)


def check(graph, rule):
    """Checks all edits that a rule makes of a graph, and counts them."""
    labels = [call.label for call in graph.calls]
    outcomes = [rule(graph, call) for call in graph.calls]
    assert all(isinstance(x, (Edit, Refusal, type(None))) for x in outcomes)
    found = [outcome.graph for outcome in outcomes if isinstance(outcome, Edit)]
    for edited in found:
        assert check_edges(graph, edited, whole=True, tolerance=1e-5)
    assert labels == [call.label for call in graph.calls]
    return len(found)


@settings(max_examples=10)
@given(
    st.sampled_from(sorted({*BEFORE} - {"magnitude"})),
    st.lists(st.sampled_from(sorted(AFTER)), min_size=1, max_size=2),
    st.sampled_from(sorted(SCALES)),
    st.booleans(),
    st.integers(0, 9),
)
def test_every_rule_keeps_every_edge(before, after, scales, shared, seed):
    """Of whole and half numbers: float32 is exact, and signs often meet a 0."""
    assume(not ("pool" in before and "pool" in after))  # no map would be left
    model = network(before, after, scales, shared, True, seed, "float32")
    for rule in GIVEN:
        check(Graph(as_functional(model)), rule)
    for rule in PREPARED:
        check(at_inference(model), rule)


def norm():
    return layers.BatchNormalization()


def sign():
    return lq.quantizers.SteSign()


def scaled():
    return binary(input_quantizer="ste_sign", kernel_quantizer="magnitude_aware_sign")


# Of each rule a row in which it fits, and whether that is prepared first.
FITS = {
    "identity": (rewrites.identity_goes, [layers.Dropout(0.5), conv], False),
    "sign": (rewrites.sign_is_plain, [RSign, binary], False),
    "rprelu": (rewrites.rprelu_is_plain, [conv, RPReLU], False),
    "proxy norm": (
        rewrites.proxy_norm_in_parts,
        [lambda: ProxyNormalization(groups=2, activation="relu")],
        False,
    ),
    "group norm": (
        rewrites.group_norm_is_plain,
        [lambda: layers.GroupNormalization(2)],
        False,
    ),
    "head": (
        rewrites.head_is_dense,
        [layers.GlobalAveragePooling2D, lambda: SymmetricHead(4)],
        False,
    ),
    "affine": (rewrites.layer_is_affine, [norm, layers.ReLU], False),
    "numbers": (
        rewrites.layer_is_affine,
        [lambda: layers.Rescaling(0.5), nobn.layers.SkipInit, layers.ReLU],
        False,
    ),
    "kernel": (
        rewrites.kernel_is_numbers,
        [lambda: binary(kernel_quantizer="dorefa_quantizer")],
        False,
    ),
    "binary": (binary_layer(), [lambda: binary(input_quantizer="ste_sign")], False),
    "padding": (
        _padding.trim_padding,
        [layers.ZeroPadding2D, lambda: layers.Conv2D(4, 3, strides=2)],
        False,
    ),
    "reshape": (
        reshape_after,
        [
            lambda: layers.Reshape((64, 4)),
            layers.ReLU,
            lambda: layers.Reshape((8, 8, 4)),
            conv,
        ],
        False,
    ),
    "tanh": (_affine.tanh_to_affine, [conv, DynamicTanh, sign, binary], True),
    "binary convolution": (
        _affine.affine_into_binary_convolution,
        [lambda: binary(input_quantizer="ste_sign"), norm, layers.ReLU],
        True,
    ),
    "layers after": (
        _affine.scale_into_layers_after,
        [norm, layers.AveragePooling2D, sign, binary],
        True,
    ),
    "relu": (_affine.bias_into_relu, [layers.ReLU, conv], True),
    "scale": (_affine.drop_scale, [scaled, layers.AveragePooling2D, sign], True),
    "threshold": (
        _affine.clear_threshold,
        [lambda: binary(input_quantizer="ste_sign"), norm, sign, binary],
        True,
    ),
    "spelling": (spell_affine, [norm, layers.ReLU], True),
    "int8, a merged scale": (_conversion.merge_scale, [conv, norm], True),
    "int8, an rprelu": (_fake_quantize.split_rprelu, [conv, RPReLU], False),
    "int8, an rsign": (_fake_quantize.split_rsign, [RSign, binary], False),
    "int8, an affine": (
        _conversion.affine_alone,
        [nobn.layers.FakeQuantization, norm],
        True,
    ),
}


@pytest.mark.parametrize("scales", ["mixed", "one 0"])
@pytest.mark.parametrize("name", FITS)
def test_where_a_rule_fits(name, scales):
    rule, row, ready = FITS[name]
    x = y = keras.Input(SHAPE)
    for layer in row:
        y = (layer if isinstance(layer, layers.Layer) else layer())(y)
    model = randomized(keras.Model(x, y), scales, whole=True)
    graph = at_inference(model) if ready else Graph(as_functional(model))
    if name == "threshold":
        graph = _affine.merge(graph)
    if rule in (_conversion.merge_scale, _conversion.affine_alone):
        graph = rewrites.once(graph, (spell_affine,))
    fits = check(graph, rule)
    if scales == "mixed":
        assert fits


def test_int8_shifts_of_sums():
    """Around the sum of a convolution and a shortcut, as in a residual block."""
    x = keras.Input(SHAPE)
    y = RPReLU()(layers.Add()([x, conv(padding="same")(x)]))
    z = binary(padding="same")(RSign()(y))
    model = randomized(keras.Model(x, layers.Add()([y, z])), "mixed")
    graph = Graph(model)
    for rule in (_fake_quantize.split_rprelu, _fake_quantize.split_rsign):
        graph = rewrites.everywhere(graph, rule)
    for rule in (_fake_quantize.shift_of_sum, _fake_quantize.shift_after_prelu):
        assert check(graph, rule)


def test_a_wrong_edit_is_found():
    model = network("relu", ["valid"], "mixed", whole=True, policy="float32")
    graph = at_inference(model)
    [edit] = [
        outcome.graph
        for call in graph.calls
        if isinstance(outcome := _affine.scale_into_layers_after(graph, call), Edit)
    ]
    [last] = [c.operation for c in edit.calls if "kernel" in c.operation.values]
    kernel = np.array(last.values["kernel"])
    kernel[0, 0, 0, 0] += 1
    with pytest.raises(AssertionError):
        check_edges(graph, edit.with_operation(last.replaced({"kernel": kernel})))
