"""Networks some of whose signs are decided by nothing but rounding."""

import larq_nobn as nobn
import numpy as np
import pytest
from deploy.nets import binary_conv, chain, head, images
from larq_nobn._keras import keras
from larq_nobn.deploy import VerificationError
from larq_nobn.deploy.prepare import prepare
from larq_nobn.deploy.verify import verify_prepared

pytestmark = pytest.mark.convert


def test_a_flat_image_under_kernels_of_mean_zero(tmp_path):
    """Sums that should be 0 are noise, and another noise in batches of another size.

    Without padding all of them are, and only other images tell how large they may be.
    """
    shape = (8, 8, 1)
    kernel = np.random.default_rng(0).normal(size=(3, 3, 1, 32))
    centered = kernel - kernel.mean(axis=(0, 1, 2))
    models, data = [], []
    for i, (level, padding) in enumerate(
        [(0.3, "same"), (0.7, "valid"), (1.1, "same")]
    ):
        stem = keras.layers.Conv2D(32, 3, padding=padding, name=f"stem{i}")
        rows = stem, binary_conv(), keras.layers.GlobalAveragePooling2D()
        models.append(chain(*rows, keras.layers.Dense(5), shape=shape, stem=False))
        stem.set_weights([centered, np.zeros(32)])
        x = images(40, shape)
        x[i] = level  # another image of each of the networks, which lie side by side
        data.append(x)
    model = keras.Model([m.input for m in models], [m.output for m in models])
    report = nobn.convert(model, tmp_path / "m.tflite", data=data)
    assert report.verify["explained"] == 3
    assert report.verify["unexplained"] == 0


def test_a_little_more_than_the_zero_of_a_relu_is_1():
    """Of sums that should be 0, where there is no binary kernel to count them."""
    aware = {"kernel_quantizer": "magnitude_aware_sign", "activation": "relu"}
    zero_one = {"input_quantizer": "ste_heaviside", "kernel_quantizer": None}
    behind = binary_conv(name="behind", kernel_constraint=None, **zero_one)
    model = chain(binary_conv(**aware), behind, *head())
    found, _ = verify_prepared(model, model, prepare(model), [images(8)])
    assert [row["layer"] for row in found["ties"]] == ["behind"]


def test_the_zeros_of_a_relu_are_no_matter_of_rounding(tmp_path):
    """LCE takes the sign before a pool, and forgets a ReLU after that."""
    rows = [keras.layers.MaxPooling2D(), keras.layers.ReLU(), binary_conv(name="a")]
    model = chain(*rows, *head())
    message = "first sign to differ is that of layer 'a', whose input there is"
    with pytest.raises(VerificationError, match=message):
        nobn.convert(model, tmp_path / "m.tflite", data=images(8))
    assert not any(tmp_path.iterdir())
