"""What constants in the place of examples' statistics are worth on the device."""

import pytest
from larq_nobn import layers
from deploy.nets import binary_conv, chain, images
from deploy.operations.programs import operations
from larq_nobn.surgery import freeze_statistics


@pytest.mark.convert
def test_after_a_binary_convolution_only_the_threshold_is_left():
    threshold = layers.ThresholdedLinearUnit(name="tlu")
    model = chain(
        binary_conv(name="conv"),
        layers.FilterResponseNormalization(name="norm"),
        threshold,
        stem=False,
    )
    actual = operations(freeze_statistics(model, images(20)))
    assert actual == {"LceQuantize": 1, "LceBconv2d": 1, "MAXIMUM": 1}
