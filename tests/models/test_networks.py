"""What contains for every network under every normalization."""

from dataclasses import replace
from inspect import signature

import larq_nobn as nobn
import larq as lq
import numpy as np
import pytest
import tensorflow as tf
from larq_nobn._keras import dtype_policy, keras
from larq_nobn.config._presets import RECIPES
from larq_nobn.models import (
    BATCH_STATISTICS,
    BUILDERS,
    NORMALIZATIONS,
    BinaryDenseNet28,
    MeliusNet22,
    QuickNet,
    ReActNet18,
    ReActNetA,
    ResNet20,
    VGGSmall,
)
from larq_nobn.models._dense import RELU_REPLACED
from models.networks import CONVERTED, MET, NETWORKS, STEPPED, TRAINED, rows, scattered
from models.operations import key, operations, row, table
from numpy.testing import assert_array_equal


def named(pair):
    network, normalization = pair
    return f"{builder_of(network)}-{normalization}"


def builder_of(network):
    return network.builder.__name__


each_design = pytest.mark.parametrize(
    "network", [n for n in NETWORKS if n.own], ids=builder_of
)


def pairs_of(chosen):
    """Parametrizes a test with some pairs, given as normalizations by builder."""
    pairs = rows(chosen)
    assert len(pairs) == sum(map(len, chosen.values()))
    ids = map(named, pairs)
    return pytest.mark.parametrize("network, normalization", pairs, ids=ids)


def test_every_builder_has_a_row():
    assert [n.builder for n in NETWORKS] == list(BUILDERS.values())
    assert all(name == builder.__name__ for name, builder in BUILDERS.items())


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


def assert_independent(one, other, normalization, training):
    """An example's output depends on no other one, but under statistics of a batch."""
    if training and normalization in BATCH_STATISTICS:
        assert np.abs(one[0] - other[0]).max() > 1e-3
    else:
        assert_array_equal(one[0], other[0])


def started(network, normalization):
    keras.utils.set_random_seed(1)
    return scattered(network(normalization, classes=10))


def assert_all_moved(before, model):
    """All weights but those of frozen layers."""
    frozen = {w.ref() for x in model.layers if not x.trainable for w in x.weights}
    after = model.get_weights()
    assert all(np.all(np.isfinite(w)) for w in after)
    for weight, was, now in zip(model.weights, before, after, strict=True):
        assert np.any(was != now) == (weight.ref() not in frozen), weight.name


def assert_converts(network, normalization, model, path, images):
    report = nobn.convert(model, path, data=images)
    assert report.lce_bconv2d == report.binary_layers == network.binary
    if network.builder is ReActNet18:
        assert report.binary_macs == 64 * 9 * 32 * 32 + 16 * 9 * 64 * 32
    assert report.verify["data"] == "the given data"
    for compared in (report.verify, report.verify["prepared"]):
        assert compared["examples"] == len(images)
        assert compared["unexplained"] == 0
        assert compared["top1_agreement"] >= 0.99
    assert operations(path) == table()[key(network, normalization)]


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
            assert_independent(logits, alone, normalization, training=True)
        for weight, slope in zip(model.trainable_weights, slopes, strict=True):
            weight.assign_sub(rate * tf.sign(slope))
        if all(np.any(slope) for slope in slopes):
            break
    assert_all_moved(before, model)


DESIGNS = [n.builder for n in NETWORKS if n.own]


def test_every_design_and_normalization_is_met():
    assert set(TRAINED) == set(DESIGNS)
    assert {norm for norms in TRAINED.values() for norm in norms} == {*NORMALIZATIONS}
    for network in NETWORKS:
        norms = {norm for other, norm in MET if other is network}
        assert norms <= set(network.normalizations)
        # Networks with ReLUs, which these take the place of.
        if network.builder in (BinaryDenseNet28, MeliusNet22, QuickNet):
            assert RELU_REPLACED.keys() & norms


@pytest.mark.slow
@pytest.mark.convert
@pairs_of(TRAINED)
def test_trains_saves_reopens_and_converts(network, normalization, tmp_path):
    model, x = started(network, normalization), network.images(8)
    stepped(network, normalization, model)
    model.save(tmp_path / "model.keras")
    reopened = keras.models.load_model(tmp_path / "model.keras")
    assert_array_equal(reopened(x), model(x))
    assert_converts(network, normalization, reopened, tmp_path / "model.tflite", x)


@pytest.mark.convert
@pairs_of(CONVERTED)
def test_its_file_has_the_operations_of_the_table(network, normalization):
    found = row(network, normalization)
    assert found == table()[key(network, normalization)]
    assert found["LceBconv2d"] == network.binary


@pairs_of(STEPPED)
def test_a_step_changes_every_weight(network, normalization):
    model = started(network, normalization)
    # Of what is converted a file shows this, which takes one example at a time.
    outputs = [model(batch, training=False) for batch in pair_of_batches(network)]
    assert_independent(*outputs, normalization, training=False)
    stepped(network, normalization, model)


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
    (network,) = (each for each in NETWORKS if each.builder is ResNet20)
    half_precision(network, "kalman")


@pytest.mark.parametrize(
    "network",
    [
        each
        for each in NETWORKS
        if each.builder in (ReActNetA, VGGSmall, BinaryDenseNet28, QuickNet)
    ],
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
    (BinaryDenseNet28, {"blocks": (1,) * 5}, "5 stages, but BinaryDenseNet28 knows"),
    (MeliusNet22, {"input_shape": (64, 64, 3), "width": 24}, "24 is not a multiple of"),
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
