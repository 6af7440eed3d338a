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
    BiRealNet18,
    XNORNet18,
)
from models.networks import NETWORKS, PAIRS, scattered
from models.operations import key, operations, table
from numpy.testing import assert_array_equal


def named(pair):
    network, normalization = pair
    return f"{network.builder.__name__}-{normalization}"


each = pytest.mark.parametrize("network", NETWORKS, ids=lambda n: n.builder.__name__)
each_pair = pytest.mark.parametrize(
    "network, normalization", PAIRS, ids=map(named, PAIRS)
)


def test_every_builder_has_a_row():
    assert [n.builder for n in NETWORKS] == list(BUILDERS.values())
    assert all(name == builder.__name__ for name, builder in BUILDERS.items())


@pytest.fixture(scope="module")
def digits():
    """Images to train on with their classes, and 256 others to verify on."""
    sizes = {"train": 1440, "test": 256}
    batches = [nobn.data.load("digits", *size, augment=False) for size in sizes.items()]
    return [next(batch.as_numpy_iterator()) for batch in batches]


def noisy(network, normalization):
    """Which comparison finds signs that only rounding decides, if one does."""
    if normalization == "none":
        # Kernels of ±c straight in front of signs: what should be 0 is ±1e-9 in Keras.
        return "prepared"
    shiftless = network.builder in (BiRealNet18, XNORNet18)
    if normalization == "nobn" and shiftless:
        # The stem's kernels of mean 0 on flat patches: 0 once more. Keras itself keeps
        # 96 % of its classes in batches of one.
        return "file"
    return None


@pytest.mark.slow
@pytest.mark.convert
@each_pair
def test_trains_saves_reopens_and_converts(network, normalization, digits, tmp_path):
    (x, y), (unseen, _) = digits
    keras.utils.set_random_seed(1)
    model = scattered(network(normalization, classes=10))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.01), loss)
    before = [w.copy() for w in model.get_weights()]
    model.fit(x, y, batch_size=72, epochs=2, verbose=0)
    assert all(np.all(np.isfinite(w)) for w in model.get_weights())
    assert all(np.any(a != b) for a, b in zip(before, model.get_weights(), strict=True))
    model.save(tmp_path / "model.keras")
    reopened = keras.models.load_model(tmp_path / "model.keras")
    assert_array_equal(reopened(unseen[:8]), model(unseen[:8]))
    path = tmp_path / "model.tflite"
    report = nobn.convert(reopened, path, data=unseen)
    assert report.lce_bconv2d == report.binary_layers == network.binary
    assert report.verify["data"] == "the given data"
    parts = {"file": report.verify, "prepared": report.verify["prepared"]}
    for name, compared in parts.items():
        assert compared["examples"] == 256
        assert compared["unexplained"] == 0
        if name != noisy(network, normalization):
            assert compared["top1_agreement"] >= 0.99
    assert operations(path) == table()[key(network, normalization)]


@pytest.mark.parametrize("training", [False, True])
@each_pair
def test_who_looks_at_the_rest_of_the_batch(network, normalization, training):
    keras.utils.set_random_seed(2)
    model, x = scattered(network(normalization)), network.images(4)
    other = np.concatenate([x[:1], 5 - 3 * x[1:]])
    outputs = []
    for batch in (x, other):
        keras.utils.set_random_seed(4)  # the same flips of signs
        outputs.append(model(batch, training=training)[0])
    if training and normalization in BATCH_STATISTICS:
        assert np.abs(outputs[0] - outputs[1]).max() > 1e-3
    else:
        assert_array_equal(*outputs)


@each_pair
def test_mixed_precision_keeps_weights_and_logits_in_float32(network, normalization):
    with dtype_policy("mixed_float16"):
        model = network(normalization)
    logits = model(network.images(2), training=True)
    assert logits.dtype == tf.float32
    assert all(w.dtype == tf.float32 for w in model.weights)
    assert np.all(np.isfinite(logits))


@each
def test_stage_one_and_two_share_names_and_shapes(network):
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


@each
def test_the_last_layer_is_a_real_valued_head(network):
    head = network().layers[-1]
    assert (head.name, type(head)) == ("head", keras.layers.Dense)
    assert head.output_shape == (None, 3)


@each
def test_a_symmetric_head_takes_the_place_of_the_dense_one(network):
    model = network(head="symmetric", classes=5)
    head = model.layers[-1]
    assert (head.name, type(head)) == ("head", nobn.layers.SymmetricHead)
    assert (head.output_shape, head.compute_dtype) == ((None, 5), "float32")
    body = [layer.name for layer in network(classes=5).layers]
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
