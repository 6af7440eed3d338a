"""A sign may read what is ±1 already."""

import larq_nobn as nobn
import larq as lq
import numpy as np
import pytest
from deploy.nets import INPUT, binary_conv, images
from larq_nobn._keras import keras

SHIFTS = (-3.0, -1.0, 0.5, 3.0)


@pytest.mark.convert
def test_what_stands_between_two_signs_counts(tmp_path):
    """LCE knows sign(sign(x) + y) as one spelling of sign(x), whatever y is.

    A constant, or a map, which a batch norm in its initial state keeps apart.
    """
    image, sign = keras.Input(INPUT), lq.quantizers.SteSign()
    signs = sign(keras.layers.Conv2D(8, 3)(image))
    seconds = [nobn.quantizers.RSign(name=f"second{i}") for i in range(len(SHIFTS))]
    ends = [binary_conv(8)(second(signs)) for second in seconds]
    x = binary_conv(8, input_quantizer=None)(signs)
    y = keras.layers.BatchNormalization()(keras.layers.Add()([signs, x]))
    for z in (y, keras.layers.Add()([x, signs])):
        ends += [binary_conv(8)(z), lq.quantizers.SteSign()(z)]
    model = keras.Model(image, ends)
    for second, shift in zip(seconds, SHIFTS, strict=True):
        second.shift.assign(np.full(8, shift))
    report = nobn.convert(model, tmp_path / "m.tflite", data=images(4))
    assert report.lce_bconv2d == report.binary_layers == len(SHIFTS) + 3
    assert report.verify["exact_share"] == 1
    assert report.not_prepared is None
