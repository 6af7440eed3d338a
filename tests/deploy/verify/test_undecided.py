"""Networks some of whose signs are decided by nothing but rounding."""

import larq_nobn as nobn
import numpy as np
import pytest
from deploy.nets import binary_conv, chain, head, images
from larq_nobn._keras import keras
from larq_nobn.deploy import VerificationError

pytestmark = pytest.mark.convert


def test_a_flat_image_under_kernels_of_mean_zero(tmp_path):
    """Sums that should be 0 are noise, and another noise in batches of another size."""
    shape = (8, 8, 1)
    model = chain(binary_conv(name="binary"), *head(), shape=shape)
    kernel = np.random.default_rng(0).normal(size=(3, 3, 1, 32))
    centered = kernel - kernel.mean(axis=(0, 1, 2))
    model.get_layer("stem").set_weights([centered, np.zeros(32)])
    for level in (0.3, 0.7, 1.1):
        flat = np.full((1, *shape), level, np.float32)
        x = np.concatenate([images(39, shape), flat])
        report = nobn.convert(model, tmp_path / "m.tflite", data=x)
        assert report.verify["explained"] == 1
        assert report.verify["unexplained"] == 0


def test_the_zeros_of_a_rectifier_are_no_matter_of_rounding(tmp_path):
    """LCE takes the sign in front of a pool, and forgets a rectifier behind that."""
    rows = [keras.layers.MaxPooling2D(), keras.layers.ReLU(), binary_conv(name="a")]
    model = chain(*rows, *head())
    message = "first sign to differ is that of layer 'a', whose input there is"
    with pytest.raises(VerificationError, match=message):
        nobn.convert(model, tmp_path / "m.tflite", data=images(8))
    assert not any(tmp_path.iterdir())
