"""What holds for every network under every normalization."""

import larq_nobn as nobn
import larq as lq
import numpy as np
import pytest
import tensorflow as tf
from larq_nobn._keras import dtype_policy, keras
from larq_nobn.models import (
    BATCH_STATISTICS,
    BUILDERS,
    NORMALIZATIONS,
    BinaryDenseNet28,
    ReActNet18,
)
from models.networks import CONVERTED, FITTED, NETWORKS, REST, TRAINED, scattered
from models.operations import key, operations, table
from numpy.testing import assert_array_equal


def named(pair):
    network, normalization = pair
    return f"{network.builder.__name__}-{normalization}"


each = pytest.mark.parametrize("network", NETWORKS, ids=lambda n: n.builder.__name__)


def pairs_of(chosen):
    """Parametrizes a test with some pairs, given as normalizations by builder."""
    rows = [(n, norm) for n in NETWORKS for norm in chosen.get(n.builder, ())]
    assert len(rows) == sum(map(len, chosen.values()))
    ids = map(named, rows)
    return pytest.mark.parametrize("network, normalization", rows, ids=ids)


def test_every_builder_has_a_row():
    assert [n.builder for n in NETWORKS] == list(BUILDERS.values())
    assert all(name == builder.__name__ for name, builder in BUILDERS.items())


@pytest.fixture(scope="module")
def digits():
    """Images to train on with their classes, and 256 others to verify on."""
    sizes = {"train": 1440, "test": 256}
    batches = [nobn.data.load("digits", *size, augment=False) for size in sizes.items()]
    return [next(batch.as_numpy_iterator()) for batch in batches]


def looked_at(network, normalization):
    """A model of which an example's output depends on no other example.

    Except under statistics of the batch, in training.
    """
    keras.utils.set_random_seed(1)
    model = scattered(network(normalization, classes=10))
    weights = model.get_weights()
    x = network.images(4)
    other = np.concatenate([x[:1], 5 - 3 * x[1:]])
    for training in (False, True):
        outputs = []
        for batch in (x, other):
            keras.utils.set_random_seed(4)  # the same flips of signs
            outputs.append(model(batch, training=training)[0])
        if training and normalization in BATCH_STATISTICS:
            assert np.abs(outputs[0] - outputs[1]).max() > 1e-3
        else:
            assert_array_equal(*outputs)
    model.set_weights(weights)
    return model


def compiled(model, **kwargs):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.01), loss, **kwargs)
    return model


def assert_all_moved(before, model):
    """All weights but those of frozen layers."""
    frozen = {w.ref() for x in model.layers if not x.trainable for w in x.weights}
    after = model.get_weights()
    assert all(np.all(np.isfinite(w)) for w in after)
    for weight, was, now in zip(model.weights, before, after, strict=True):
        assert np.any(was != now) == (weight.ref() not in frozen)


def assert_converts(network, normalization, model, path, images):
    report = nobn.convert(model, path, data=images)
    assert report.lce_bconv2d == report.binary_layers == network.binary
    assert report.verify["data"] == "the given data"
    for compared in (report.verify, report.verify["prepared"]):
        assert compared["examples"] == len(images)
        assert compared["unexplained"] == 0
        assert compared["top1_agreement"] >= 0.99
    assert operations(path) == table()[key(network, normalization)]


def two_steps(model, digits):
    """Two steps that change every weight, eagerly: a graph takes five times as long."""
    (x, y), _ = digits
    before = model.get_weights()
    compiled(model, run_eagerly=True)
    for batch in (slice(0, 36), slice(36, 72)):
        # In the first one a slope may see none of its values below zero.
        model.train_on_batch(x[batch], y[batch])
    assert_all_moved(before, model)


def fitted(model, digits):
    """A graph of training and twenty steps of it, which change every weight."""
    (x, y), _ = digits
    before = model.get_weights()
    compiled(model)
    model.optimizer.build(model.trainable_variables)  # or it is traced once more
    model.fit(x, y, batch_size=72, verbose=0)
    assert_all_moved(before, model)


def test_every_design_and_normalization_is_trained():
    assert set(TRAINED) == {n.builder for n in NETWORKS if n.tried is None}
    assert {norm for norms in TRAINED.values() for norm in norms} == {*NORMALIZATIONS}
    assert set(FITTED) <= set(TRAINED)


@pytest.mark.slow
@pytest.mark.convert
@pairs_of(TRAINED)
def test_trains_saves_reopens_and_converts(network, normalization, digits, tmp_path):
    model = looked_at(network, normalization)
    (fitted if network.builder in FITTED else two_steps)(model, digits)
    model.save(tmp_path / "model.keras")
    reopened = keras.models.load_model(tmp_path / "model.keras")
    _, (unseen, _) = digits
    assert_array_equal(reopened(unseen[:8]), model(unseen[:8]))
    path = tmp_path / "model.tflite"
    assert_converts(network, normalization, reopened, path, unseen)


@pytest.mark.convert
@pairs_of(CONVERTED)
def test_two_steps_change_every_weight_and_it_converts(
    network, normalization, digits, tmp_path
):
    model = looked_at(network, normalization)
    two_steps(model, digits)
    _, (unseen, _) = digits
    path = tmp_path / "model.tflite"
    assert_converts(network, normalization, model, path, unseen[:64])


@pairs_of(REST)
def test_two_steps_change_every_weight(network, normalization, digits):
    two_steps(looked_at(network, normalization), digits)


# Every design once, and every normalization behind convolutions and in front of signs.
# Batch Kalman normalization carries moments in float32 beside the features, past every
# kind of layer in another way: that in every network.
MIXED = {
    n.builder: [m for m in n.normalizations if m in ("nobn", "kalman")]
    for n in NETWORKS
    if n.tried is None
}
for n in NETWORKS:
    if n.builder in (ReActNet18, BinaryDenseNet28):
        MIXED[n.builder] = n.normalizations


@pairs_of(MIXED)
def test_mixed_precision_keeps_weights_and_logits_in_float32(network, normalization):
    with dtype_policy("mixed_float16"):
        model = network(normalization)
    logits = model(network.images(2), training=True)
    assert logits.dtype == tf.float32
    assert all(w.dtype == tf.float32 for w in model.weights)
    assert np.all(np.isfinite(logits))


@each
def test_stages_and_heads_share_names_and_shapes(network):
    real, binary = (network(binary_weights=stage) for stage in (False, True))
    assert [(w.name, w.shape) for w in real.weights] == [
        (w.name, w.shape) for w in binary.weights
    ]

    def precisions(model):
        kernels = [layer.kernel_quantizer for layer in model.layers if is_conv(layer)]
        return [kernel.precision for kernel in kernels]

    def is_conv(layer):
        return isinstance(layer, lq.layers.QuantConv2D)

    assert set(precisions(real)) == {32}
    assert precisions(binary).count(1) >= network.binary
    head = binary.layers[-1]
    assert (head.name, type(head)) == ("head", keras.layers.Dense)
    assert head.output_shape == (None, 3)

    model = network(head="symmetric", classes=5)
    head = model.layers[-1]
    assert (head.name, type(head)) == ("head", nobn.layers.SymmetricHead)
    assert (head.output_shape, head.compute_dtype) == ((None, 5), "float32")
    body = [layer.name for layer in binary.layers]
    assert [layer.name for layer in model.layers] == body
    logits = model(network.images(2)).numpy()
    assert np.isfinite(logits).all() and np.abs(logits.sum(1)).max() < 1e-3


@each
def test_refuses_what_it_does_not_support(network):
    for normalization in set(NORMALIZATIONS) - set(network.normalizations):
        with pytest.raises(ValueError, match=f"{normalization!r} is not supported by"):
            network(normalization)
    with pytest.raises(ValueError, match="'layer' is not known. Choose from batch_n"):
        network("layer")


@each
def test_refuses_images_that_are_too_small(network):
    side, channels = network.smallest, network.shape[2]
    network.builder((side, side, channels), 3, **network.small)
    with pytest.raises(ValueError, match=f"must be {side} or more"):
        network.builder((side - 1, side, channels), 3, **network.small)


@each
@pytest.mark.parametrize(
    "arguments, error, message",
    [
        ({"classes": 1}, ValueError, "classes=1 is below 2"),
        ({"width": 1}, ValueError, "width=1 is below 2"),
        ({"width": 16.0}, TypeError, "width=16.0 is not a whole number"),
        ({"input_shape": (32, 32)}, ValueError, r"\(32, 32\) is not an image shape"),
        ({"input_shape": (32, None, 3)}, ValueError, "is not an image shape"),
        ({"estimator": "tanh"}, ValueError, "'tanh' is not known"),
        (
            {"head": "flat"},
            ValueError,
            "head='flat' is not known. Choose from dense",
        ),
        ({"binary_weights": 1}, TypeError, "binary_weights=1 is neither"),
        ({"balanced": 0}, TypeError, "balanced=0 is neither"),
    ],
)
def test_refuses_bad_arguments(network, arguments, error, message):
    good = {"input_shape": network.shape, "classes": 3, **network.small}
    with pytest.raises(error, match=message):
        network.builder(**{**good, **arguments})
