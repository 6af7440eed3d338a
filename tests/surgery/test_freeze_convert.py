"""What constants in the place of examples' statistics are worth on the device."""

import larq_nobn as nobn
import pytest
from larq_nobn import layers
from deploy.nets import binary_conv, chain, images
from larq_nobn._keras import keras
from larq_nobn.surgery import freeze_statistics
from models.networks import scattered


def counts(model, path, data=None):
    """Float operations of the converted model, verified if there is data to do it."""
    report = nobn.convert(model, path, verify=data is not None, data=data)
    assert data is None or report.verify["unexplained"] == 0
    assert report.lce_bconv2d == report.binary_layers
    return {op["op"]: op["count"] for op in report.float_ops}


@pytest.mark.convert
def test_after_a_binary_convolution_only_the_threshold_is_left(tmp_path):
    threshold = layers.ThresholdedLinearUnit(name="tlu")
    model = chain(
        binary_conv(name="conv"),
        layers.FilterResponseNormalization(name="norm"),
        threshold,
        stem=False,
    )
    frozen = freeze_statistics(model, images(20))
    assert counts(frozen, tmp_path / "frozen.tflite", images()) == {"MAXIMUM": 1}


def reactnet(normalization):
    """A network of one block, weights as training leaves them."""
    keras.utils.set_random_seed(1)
    small = {"width": 16, "blocks": (1,)}
    return scattered(nobn.models.ReActNet18((4, 4, 1), 3, normalization, **small))


@pytest.mark.convert
@pytest.mark.slow
def test_a_network_converts_to_what_batch_norm_leaves_and_its_activations(tmp_path):
    path = tmp_path / "model.tflite"
    folded, x = counts(reactnet("batch_norm"), path), images(24, (4, 4, 1))
    found = counts(freeze_statistics(reactnet("proxy"), x), path, x)
    extra = {op: found[op] - folded.get(op, 0) for op in found}
    # The activation and the proxy step after it, whose scale goes before that.
    wanted = {"LEAKY_RELU": 1, "ADD": 1}
    assert {op: count for op, count in extra.items() if count} == wanted
