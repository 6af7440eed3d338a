"""Each rule and pass of preparation alone: the graphs around it compute the same."""

from functools import partial

import larq_nobn as nobn
import larq as lq
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from larq_nobn._keras import keras
from larq_nobn.deploy._opening import as_functional
from larq_nobn.deploy.int8 import _conversion, _fake_quantize
from larq_nobn.deploy.prepare import _affine, _at_inference, _padding
from larq_nobn.deploy.prepare._binary_layers import binary_layer
from larq_nobn.deploy.prepare._lift import reshape_after
from larq_nobn.deploy.prepare._prepare import PASSES, at_inference
from larq_nobn.deploy.prepare._reading import spell_affine
from larq_nobn.graph._graph import Graph
from larq_nobn.layers import DynamicTanh, ProxyNormalization, RPReLU, SymmetricHead
from larq_nobn.quantizers import RSign
from larq_nobn.rewrites import _merge, _rule
from larq_nobn.rewrites._rule import Edit, Refusal
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
GIVEN = (_at_inference.layer_is_affine, binary_layer(), _at_inference.kernel_is_numbers)
PREPARED = (
    _affine.affine_into_binary_convolution,
    _affine.scale_into_layers_after,
    _affine.bias_into_relu,
    _affine.drop_scale,
    _affine.clear_shift,
    _affine.clear_bias,
    _conversion.merge_scale,
    _merge.merge_affines,
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


@settings(max_examples=4)
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


@settings(max_examples=4)
@given(
    st.sampled_from(sorted(BEFORE)),
    st.lists(st.sampled_from(sorted(AFTER)), min_size=1, max_size=2),
    st.sampled_from(sorted(SCALES)),
    st.booleans(),
)
def test_every_pass_keeps_every_edge(before, after, scales, shared):
    model = network(before, after, scales, shared, policy="float32")
    graph = at_inference(model)
    labels = [call.label for call in graph.calls]
    for change in PASSES:
        edited = change(graph)
        check_edges(graph, edited, tolerance=1e-4)
        graph = edited
    assert labels == [call.label for call in at_inference(model).calls]


def norm():
    return layers.BatchNormalization()


def sign():
    return lq.quantizers.SteSign()


def of_signs(**options):
    return lambda: binary(input_quantizer="ste_sign", **options)


scaled = of_signs(kernel_quantizer="magnitude_aware_sign")
numbers = partial(binary, kernel_quantizer="dorefa_quantizer")
proxy = partial(ProxyNormalization, groups=2, activation="relu")
mean, average = layers.GlobalAveragePooling2D, layers.AveragePooling2D
half, flat = partial(layers.Rescaling, 0.5), partial(layers.Reshape, (64, 4))
strided = partial(layers.Conv2D, 4, 3, strides=2)
fake = nobn.layers.FakeQuantization
# Of each rule of a given model a row in which it fits, and of each of a prepared one.
FITS = {
    "identity": (_at_inference.identity_goes, [partial(layers.Dropout, 0.5), conv]),
    "sign": (_at_inference.sign_is_plain, [RSign, binary]),
    "rprelu": (_at_inference.rprelu_is_plain, [conv, RPReLU]),
    "proxy norm": (_at_inference.proxy_norm_in_parts, [proxy]),
    "group norm": (
        _at_inference.group_norm_is_plain,
        [partial(layers.GroupNormalization, 2)],
    ),
    "head": (_at_inference.head_is_dense, [mean, partial(SymmetricHead, 4)]),
    "affine": (_at_inference.layer_is_affine, [norm, layers.ReLU]),
    "factors": (
        _at_inference.layer_is_affine,
        [half, nobn.layers.SkipInit, layers.ReLU],
    ),
    "kernel": (_at_inference.kernel_is_numbers, [numbers]),
    "binary": (binary_layer(), [of_signs()]),
    "padding": (_padding.trim_padding, [layers.ZeroPadding2D, strided]),
    "reshape": (
        reshape_after,
        [flat, layers.ReLU, partial(layers.Reshape, (8, 8, 4)), conv],
    ),
    "int8, an rprelu": (_fake_quantize.split_rprelu, [conv, RPReLU]),
    "int8, an rsign": (_fake_quantize.split_rsign, [RSign, binary]),
}
FITS_PREPARED = {
    "tanh": (_affine.tanh_to_affine, [conv, DynamicTanh, sign, binary]),
    "binary convolution": (
        _affine.affine_into_binary_convolution,
        [of_signs(), norm, layers.ReLU],
    ),
    "layers after": (_affine.scale_into_layers_after, [norm, average, sign, binary]),
    "relu": (_affine.bias_into_relu, [layers.ReLU, conv]),
    "scale": (_affine.drop_scale, [scaled, average, sign]),
    "bias of sums": (_affine.clear_bias, [of_signs(), norm, sign, binary]),
    "threshold of sums": (_affine.clear_shift, [of_signs(), RSign, binary]),
    "spelling": (spell_affine, [norm, layers.ReLU]),
    "int8, a merged scale": (_conversion.merge_scale, [conv, norm]),
    "int8, an affine": (_conversion.affine_alone, [fake, norm]),
}


@pytest.mark.parametrize("name", [*FITS, *FITS_PREPARED])
def test_where_a_rule_fits(name):
    rule, row = FITS.get(name) or FITS_PREPARED[name]
    x = y = keras.Input(SHAPE)
    for make in row:
        y = make()(y)
    model = randomized(keras.Model(x, y), "mixed", whole=True)
    ready = name in FITS_PREPARED
    graph = at_inference(model) if ready else Graph(as_functional(model))
    if rule is _affine.clear_bias:
        graph = _affine.merge(graph)
    if rule in (_conversion.merge_scale, _conversion.affine_alone):
        graph = _rule.once(graph, (spell_affine,))
    assert check(graph, rule)


def test_int8_shifts_of_sums():
    """Around the sum of a convolution and a shortcut, as in a residual block."""
    x = keras.Input(SHAPE)
    y = RPReLU()(layers.Add()([x, conv(padding="same")(x)]))
    z = binary(padding="same")(RSign()(y))
    model = randomized(keras.Model(x, layers.Add()([y, z])), "mixed")
    graph = Graph(model)
    for rule in (_fake_quantize.split_rprelu, _fake_quantize.split_rsign):
        graph = _rule.everywhere(graph, rule)
    for rule in (_fake_quantize.shift_of_sum, _fake_quantize.shift_after_prelu):
        assert check(graph, rule)
