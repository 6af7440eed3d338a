"""Larq's summary: equal for Larq's layers, and counted by hand for ours."""

import larq as lq
import numpy as np
import pytest
from larq_nobn._keras import keras
from larq_nobn.layers import BatchNormalizationPreconditioning
from larq_nobn.models import ModelProfile, summary
from larq_nobn.quantizers import ReCU, RSign, ScaledStdSign

SIGNS = {
    "input_quantizer": "ste_sign",
    "kernel_quantizer": "ste_sign",
    "kernel_constraint": "weight_clip",
}
SEPARABLE = {
    "input_quantizer": RSign(),
    "depthwise_quantizer": "ste_sign",
    "depthwise_constraint": "weight_clip",
    "pointwise_quantizer": ReCU(),
}


def printed(show, model, **arguments):
    lines = []
    show(model, print_fn=lines.append, **arguments)
    return "\n".join(lines)


@pytest.fixture(scope="module")
def network():
    """Its maps are 8x8, 4x4, 2x2 and 2x2."""
    wrapped = BatchNormalizationPreconditioning
    inside = keras.Sequential(
        [
            keras.Input((4, 4, 5)),
            lq.layers.QuantSeparableConv2D(6, 3, name="separable", **SEPARABLE),
        ],
        name="nested",
    )
    layers = [
        keras.Input((8, 8, 3)),
        wrapped(
            lq.layers.QuantConv2D(4, 3, padding="same", pad_values=1.0, **SIGNS),
            name="binary",
        ),
        lq.layers.QuantConv2D(
            5,
            3,
            strides=2,
            padding="same",
            use_bias=False,
            input_quantizer=RSign(estimator="reste"),
            kernel_quantizer=ScaledStdSign(),
            name="gained",
        ),
        inside,
        wrapped(keras.layers.Conv2D(2, 1), name="real"),
        keras.layers.Flatten(name="flat"),
        wrapped(lq.layers.QuantDense(7, kernel_quantizer="ste_tern"), name="ternary"),
        keras.layers.Dense(2, name="head"),
    ]
    return keras.Sequential(layers)


# Operations of 1 and of 32 bits, then weights of 1, 2 and 32 bits that are learned, and
# averages or states that are not.
COUNTS = {
    "binary": ((64 * 27 * 4, 0), (27 * 4, 0, 4), 3 + 3 + 1),
    # The gain and the shift; the power.
    "gained": ((16 * 36 * 5, 0), (36 * 5, 0, 5 + 4), 1),
    # A bias, the shift and alpha; tau.
    "nested": ((4 * (9 * 5 + 5 * 6), 0), (9 * 5 + 5 * 6, 0, 6 + 5 + 6), 1),
    "real": ((0, 4 * 6 * 2), (0, 0, 6 * 2 + 2), 6 + 6 + 1),
    "flat": ((0, 0), (0, 0, 0), 0),
    "ternary": ((0, 8 * 7), (0, 8 * 7, 7), 8 + 8 + 1),
    "head": ((0, 7 * 2), (0, 0, 7 * 2 + 2), 0),
}


def test_operations_and_weights_are_those_of_a_count_by_hand(network):
    profile = ModelProfile(network)
    assert [each.name for each in profile.layer_profiles] == list(COUNTS)
    for each in profile.layer_profiles:
        operations, learned, state = COUNTS[each.name]
        assert tuple(each.op_count("mac", bits) for bits in (1, 32)) == operations
        assert each.op_count("mac") == sum(operations)
        trained = tuple(each.weight_count(bits, True) for bits in (1, 2, 32))
        assert trained == learned
        assert each.weight_count(trainable=False) == state
        bits = np.dot(learned, (1, 2, 32)) + 32 * state
        assert each.memory == bits
    total = np.sum([operations for operations, _, _ in COUNTS.values()], axis=0)
    assert profile.op_count("mac", 1) == total[0]
    assert profile.weight_count() == network.count_params()
    # Each with the precision of the inputs that it multiplies.
    precisions = [each.input_precision for each in profile.layer_profiles]
    assert precisions == [1, 1, 1, None, None, None, None]
    share = total[0] / total.sum()
    assert f"Ratio of MACs that are binarized  {share:.4f}" in printed(summary, network)
    shapes = [tuple(each.output_shape) for each in profile.layer_profiles]
    assert shapes == [
        tuple(-1 if size is None else size for size in layer.output_shape)
        for layer in network.layers
    ]


def test_kernels_after_the_sign_of_another_layer_read_one_bit():
    same = {"kernel_quantizer": "ste_sign", "kernel_constraint": "weight_clip"}
    sign = lq.quantizers.SteSign
    layers = [
        keras.Input((8, 8, 3)),
        keras.layers.Conv2D(4, 1, activation=sign(), name="ends_in_signs"),
        lq.layers.QuantConv2D(5, 3, **same, name="first"),
        keras.layers.BatchNormalization(),
        keras.layers.Activation(sign()),
        keras.layers.Dropout(0.5),
        lq.layers.QuantConv2D(2, 3, **same, name="second"),
        keras.layers.MaxPool2D(),
        lq.layers.QuantConv2D(2, 1, **same, name="no_signs"),
    ]
    profiles = {
        each.name: each
        for each in ModelProfile(keras.Sequential(layers)).layer_profiles
    }
    counts = {
        name: tuple(profiles[name].op_count("mac", bits) for bits in (1, 32))
        for name in ("ends_in_signs", "first", "second", "no_signs")
    }
    assert counts == {
        "ends_in_signs": (0, 64 * 3 * 4),
        "first": (36 * 9 * 4 * 5, 0),
        "second": (16 * 9 * 5 * 2, 0),
        "no_signs": (0, 4 * 2 * 2),
    }
