"""What contains for every network under every normalization."""

import json
from dataclasses import replace
from inspect import signature
from pathlib import Path

import larq_nobn as nobn
import larq as lq
import numpy as np
import pytest
import tensorflow as tf
from deploy.operations.programs import operations
from larq_nobn._keras import dtype_policy, keras
from larq_nobn.config._presets import RECIPES
from larq_nobn.models import (
    BATCH_STATISTICS,
    BUILDERS,
    NORMALIZATIONS,
    BinaryDenseNet28,
    BiRealNet18,
    MeliusNet22,
    MeliusNetA,
    QuickNet,
    ReActNet18,
    ReActNetA,
    ResNet20,
    VGGSmall,
    XNORNet18,
)
from larq_nobn.models._dense import RELU_REPLACED
from models.networks import MET, NETWORK, NETWORKS, STEPPED, scattered
from numpy.testing import assert_array_equal


def named(pair):
    network, normalization = pair
    return f"{builder_of(network)}-{normalization}"


def builder_of(network):
    return network.builder.__name__


each_design = pytest.mark.parametrize(
    "network", [n for n in NETWORKS if n.own], ids=builder_of
)


def test_every_builder_has_a_row():
    assert [n.builder for n in NETWORKS] == list(BUILDERS.values())


def test_defaults_are_those_of_the_recipe():
    """A network built in Python is the one that `train` builds."""
    for builder in BUILDERS.values():
        takes = signature(builder).parameters
        usual = {n: v for n, v in RECIPES["nobn"].network.items() if n in takes}
        assert usual == {name: takes[name].default for name in usual}, builder
        assert {"variance_preserving", "balanced"} <= usual.keys()


def pair_of_batches(network):
    """Two batches of which only the first example is the same."""
    x = network.images(8)
    return x, np.concatenate([x[:1], 5 - 3 * x[1:]])


def assert_independent(one, other, normalization):
    """An example's output depends on no other one, but under statistics of a batch."""
    if normalization in BATCH_STATISTICS:
        assert np.abs(one[0] - other[0]).max() > 1e-3
    else:
        assert_array_equal(one[0], other[0])


def started(network, normalization):
    keras.utils.set_random_seed(1)
    return scattered(network(normalization, classes=10))


def assert_all_moved(before, model):
    """All weights but those of frozen layers, and τ, which a callback moves."""
    frozen = {w.ref() for x in model.layers if not x.trainable for w in x.weights}
    tau = [w for w in model.non_trainable_weights if w.name.endswith("/tau:0")]
    frozen |= {w.ref() for w in tau}
    after = model.get_weights()
    assert all(np.all(np.isfinite(w)) for w in after)
    for weight, was, now in zip(model.weights, before, after, strict=True):
        assert np.any(was != now) == (weight.ref() not in frozen), weight.name


def slopes_of(model, batch):
    """Of the loss of a batch, and its logits."""
    keras.utils.set_random_seed(4)  # which signs are flipped
    with tf.GradientTape() as tape:
        logits = model(batch, training=True)
        labels = np.arange(len(batch)) % 10
        losses = keras.losses.sparse_categorical_crossentropy(labels, logits, True)
        loss = tf.reduce_mean(losses) + sum(model.losses)
    return tape.gradient(loss, model.trainable_weights), logits


def stepped(network, normalization, model):
    """A step to where the first one of Adam goes changes every weight.

    Or a later one: a slope may see none of its values below zero in the first. Steps
    are halved, so that none leads back. In the batch of the first no example's output
    depends on another one.
    """
    before = model.get_weights()
    batch, other = pair_of_batches(network)
    keras.utils.set_random_seed(4)
    alone = model(other, training=True)
    model.set_weights(before)
    for rate in (0.04, 0.02, 0.01):
        slopes, logits = slopes_of(model, batch)
        if rate == 0.04:
            assert_independent(logits, alone, normalization)
        for weight, slope in zip(model.trainable_weights, slopes, strict=True):
            weight.assign_sub(rate * tf.sign(slope))
        if all(np.any(slope) for slope in slopes):
            break
    assert_all_moved(before, model)


def test_every_design_and_normalization_is_met():
    assert {n.builder for n in NETWORKS if n.own} <= set(STEPPED)
    assert {normalization for _, normalization in MET} == {*NORMALIZATIONS}
    for network, normalization in MET:
        assert normalization in network.normalizations
    # Networks with ReLUs, which these take the place of.
    for builder in (BinaryDenseNet28, MeliusNet22, QuickNet):
        assert RELU_REPLACED.keys() & set(STEPPED[builder])


# Of what a network carries beside its features, and of signs that several layers read.
SAVED = ("kalman", "independent_component")


@pytest.mark.parametrize("network, normalization", MET, ids=map(named, MET))
def test_a_step_changes_every_weight(network, normalization, tmp_path):
    model = started(network, normalization)
    stepped(network, normalization, model)
    if normalization in SAVED:
        model.save(tmp_path / "model.keras")
        x = network.images(8)
        reopened = keras.models.load_model(tmp_path / "model.keras")
        assert_array_equal(reopened(x), model(x))


def bits(count):
    """Binary convolutions, each after the packing of its signs."""
    return {"LceBconv2d": count, "LceQuantize": count}


# The operations of files, counted by hand: no more without batch norm than with it.
# Signs of ReActNets have a shift, of which the stem takes the first, and batch norm
# becomes one; where the stage changes, a shortcut is an average and a 1x1 convolution.
ENDS = {"FULLY_CONNECTED": 1}
POOLED = {"MEAN": 1, **ENDS}
REACTNET = {"ADD": 3, "PRELU": 2, "CONV_2D": 2, "AVERAGE_POOL_2D": 1}
PAIRED = {"ADD": 9, "PRELU": 4, "CONV_2D": 1, "AVERAGE_POOL_2D": 1, "CONCATENATION": 2}
XNOR = {**bits(3), "ADD": 3, "PRELU": 2, "CONV_2D": 2, **POOLED}
# One sign takes numbers; all between is bits, and pools before signs are of bits.
VGG = {"CONV_2D": 1, **bits(5), "LceQuantize": 1, "LceBMaxPool2d": 2}
RESNET = {"ADD": 4, "CONV_2D": 1, "AVERAGE_POOL_2D": 1, "CONCATENATION": 1}
DENSE = {"ADD": 3, "CONV_2D": 2, "CONCATENATION": 3, "MAX_POOL_2D": 1}
# Pool, blur and kernel of the transition; means and shifts travel within the stream to
# where convolutions make them, and a ReLU is part of the operation before it.
QUICKNET = {"ADD": 3, "CONV_2D": 2, "DEPTHWISE_CONV_2D": 1, "MAX_POOL_2D": 1}
COUNTED = {
    (ReActNet18, "nobn"): {**bits(2), **REACTNET, **POOLED},
    (ReActNetA, "nobn"): {**bits(6), "LceQuantize": 4, **PAIRED, **POOLED},
    (BiRealNet18, "batch_norm"): {**XNOR, "AVERAGE_POOL_2D": 1},
    (XNORNet18, "nobn"): XNOR,
    (XNORNet18, "batch_norm"): {**XNOR, "ADD": 4},  # a shift before the first signs
    # Clips are within its sums and its stem.
    (ResNet20, "nobn"): {**RESNET, **bits(4), **POOLED},
    (VGGSmall, "nobn"): {**VGG, "MAX_POOL_2D": 1, **ENDS},
    # Of batch norm a shift is left before each sign, as there is without.
    (BinaryDenseNet28, "nobn"): {**bits(3), **DENSE, **POOLED},
    (BinaryDenseNet28, "batch_norm"): {**bits(3), **DENSE, **POOLED},
    (QuickNet, "nobn"): {**bits(3), **QUICKNET, **POOLED},
}


TABLE = json.loads(Path(__file__).with_name("operations.json").read_text())


def test_the_table_is_what_was_counted_by_hand():
    for (builder, normalization), counted in COUNTED.items():
        assert TABLE[f"{builder.__name__} {normalization}"] == counted
        assert counted["LceBconv2d"] == NETWORK[builder].binary


@pytest.mark.convert
@pytest.mark.parametrize("row", TABLE)
def test_the_operations_of_its_file(row):
    name, normalization = row.split()
    model = started(NETWORK[BUILDERS[name]], normalization)
    assert operations(model) == TABLE[row]


@pytest.mark.convert
def test_a_report_counts_what_is_binary(tmp_path):
    network = NETWORK[ReActNet18]
    model, x = network(), network.images(4)
    report = nobn.convert(model, tmp_path / "model.tflite", data=x)
    assert report.lce_bconv2d == report.binary_layers == network.binary
    assert report.binary_macs == 64 * 9 * 32 * 32 + 16 * 9 * 64 * 32
    assert report.verify["data"] == "the given data"
    assert report.verify["unexplained"] == 0


def half_precision(network, *arguments, **changes):
    """A network of mixed precision, and its logits in training."""
    with dtype_policy("mixed_float16"):
        model = network(*arguments, **changes)
    logits = model(network.images(2), training=True)
    assert logits.dtype == tf.float32
    assert all(w.dtype == tf.float32 for w in model.weights)
    assert np.all(np.isfinite(logits))
    return model, logits.numpy()


def test_mixed_precision_keeps_weights_and_logits_in_float32():
    """Of batch Kalman normalization, which carries moments beside the features.

    They are in float32, and summed, clipped and padded here. The form without
    normalization is that of the next test.
    """
    half_precision(NETWORK[ResNet20], "kalman")


@pytest.mark.parametrize(
    "network",
    [NETWORK[each] for each in (ReActNetA, VGGSmall, QuickNet)],
    ids=builder_of,
)
def test_stages_heads_and_precisions_share_names_and_shapes(network):
    """On the smallest images, and with either head."""
    network = replace(network, shape=(network.smallest,) * 2 + network.shape[2:])
    real = network(binary_weights=False)
    changes = {"head": "symmetric", "binary_weights": True, "balanced": True}
    binary, logits = half_precision(network, **changes)
    *body, kernel, bias = [(w.name, w.shape) for w in real.weights]
    assert [(w.name, w.shape) for w in binary.weights][: len(body)] == body
    assert [name for name, _ in (kernel, bias)] == ["head/kernel:0", "head/bias:0"]
    assert [layer.name for layer in real.layers] == [x.name for x in binary.layers]

    def kernels(model):
        convs = [x for x in model.layers if isinstance(x, lq.layers.QuantConv2D)]
        return [conv.kernel_quantizer for conv in convs]

    assert {kernel.precision for kernel in kernels(real)} == {32}
    signs = [kernel for kernel in kernels(binary) if kernel.precision == 1]
    assert len(signs) >= network.binary
    assert all(kernel.balanced for kernel in signs)
    for model, kind in (
        (real, keras.layers.Dense),
        (binary, nobn.layers.SymmetricHead),
    ):
        head = model.layers[-1]
        assert (head.name, type(head)) == ("head", kind)
        assert (head.output_shape, head.compute_dtype) == ((None, 3), "float32")
    assert np.abs(logits.sum(1)).max() < 1e-3


# Arguments that are rejected by every network that takes them.
BAD = (
    ({"classes": 1}, ValueError, "classes=1 is below 2"),
    ({"width": 1}, ValueError, "width=1 is below 2"),
    ({"input_shape": (32, None, 3)}, ValueError, "is not an image shape"),
    ({"normalization": "layer"}, ValueError, "must be one of batch_n.*; got 'layer'"),
    ({"estimator": "tanh"}, ValueError, "must be one of .*; got 'tanh'"),
    ({"head": "flat"}, ValueError, "head must be one of dense.*; got 'flat'"),
    ({"blocks": 4}, TypeError, "blocks=4 is not a list of blocks"),
    ({"alpha": -1.0}, ValueError, r"alpha=-1.0 is outside \(0, inf\)"),
    ({"variance_rule": "he"}, ValueError, "must be one of vita.*; got 'he'"),
    ({"stem_stride": 3}, ValueError, "stem_stride must be 1, 2, or None .*; got 3"),
)
# Arguments that are rejected by some.
UNFIT = (
    (
        BinaryDenseNet28,
        {"blocks": (1,) * 5},
        "5 stages, but BinaryDenseNet28 has",
    ),
    (MeliusNetA, {"input_shape": (64, 64, 3), "width": 24}, "24 is not a multiple of"),
    (MeliusNetA, {"width": 12}, "width=12 is not a multiple of 8"),
    (QuickNet, {"input_shape": (64, 64, 3), "width": 6}, "6 is not a multiple of 4"),
    (ReActNetA, {"input_shape": (1, 8, 1)}, "ReActNetA, .* must be 2 or more"),
)


@each_design
def test_rejects_bad_arguments(network):
    good = {"input_shape": network.shape, "classes": 3, **network.small}
    known = signature(network.builder).parameters

    def check(arguments, error, message):
        with pytest.raises(error, match=message):
            network.builder(**{**good, **arguments})

    for arguments, error, message in BAD:
        if arguments.keys() <= known.keys():
            check(arguments, error, message)
    for builder, arguments, message in UNFIT:
        if builder is network.builder:
            check(arguments, ValueError, message)
    for normalization in set(NORMALIZATIONS) - set(network.normalizations):
        message = f"{normalization!r} is not supported by {network.builder.__name__}"
        check({"normalization": normalization}, ValueError, message)
    side, channels = network.smallest, network.shape[2]
    message = f"too small for this {network.builder.__name__}, .* {side} or more"
    check({"input_shape": (side - 1, side, channels)}, ValueError, message)
