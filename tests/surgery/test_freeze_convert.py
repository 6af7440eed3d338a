"""What constants in the place of examples' statistics are worth on the device."""

from collections import Counter

import larq_nobn as nobn
import pytest
from larq_nobn import layers
from deploy.nets import binary_conv, chain, images
from deploy.operations.programs import operations
from larq_nobn._keras import keras
from larq_nobn.surgery import freeze_statistics
from models.networks import scattered

SHAPE = (4, 4, 1)


@pytest.mark.convert
def test_after_a_binary_convolution_only_the_threshold_is_left():
    threshold = layers.ThresholdedLinearUnit(name="tlu")
    model = chain(
        binary_conv(name="conv"),
        layers.FilterResponseNormalization(name="norm"),
        threshold,
        stem=False,
    )
    found = operations(freeze_statistics(model, images(20)))
    assert found == {"LceQuantize": 1, "LceBconv2d": 1, "MAXIMUM": 1}


def reactnet(normalization):
    """A network of one block, weights as training leaves them."""
    keras.utils.set_random_seed(1)
    small = {"width": 16, "blocks": (1,)}
    return scattered(nobn.models.ReActNet18(SHAPE, 3, normalization, **small))


@pytest.mark.convert
def test_a_network_converts_to_what_batch_norm_leaves_and_its_activations():
    found = Counter(operations(freeze_statistics(reactnet("proxy"), images(24, SHAPE))))
    # The activation and the proxy step after it, whose scale goes before that.
    assert found - Counter(operations(reactnet("batch_norm"))) == {
        "LEAKY_RELU": 1,
        "ADD": 1,
    }
