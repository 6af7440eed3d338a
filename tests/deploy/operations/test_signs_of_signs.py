"""A sign may read what is ±1 already."""

import larq_nobn as nobn
import larq as lq
import numpy as np
import pytest
from deploy.nets import INPUT, binary_conv, images, scrambled
from larq_nobn._keras import keras


@pytest.mark.convert
def test_a_shift_between_two_signs_counts(tmp_path):
    """LCE knows sign(sign(x) + c) as one spelling of sign(x), whatever c is."""
    shifts = (-3.0, -1.0, 0.5, 1.0, 3.0)
    image, ends = keras.Input(INPUT), []
    x = keras.layers.Conv2D(32, 3, padding="same")(image)
    seconds = [nobn.quantizers.RSign(name=f"second{i}") for i in range(len(shifts))]
    for second in seconds:
        ends.append(binary_conv(8)(second(lq.quantizers.SteSign()(x))))
    model = scrambled(keras.Model(image, ends))
    for second, shift in zip(seconds, shifts, strict=True):
        second.shift.assign(np.full(32, shift))
    report = nobn.convert(model, tmp_path / "m.tflite", data=images(8))
    assert report.lce_bconv2d == len(shifts)
    assert report.verify["exact_share"] == 1


@pytest.mark.convert
def test_a_sign_of_a_sum_with_a_sign_stays(tmp_path):
    """LCE knows sign(sign(x) + y) as one spelling of sign(x), whatever y is.

    A batch norm in its initial state, which is left out, keeps them apart.
    """
    image, ends = keras.Input(INPUT), []
    for normalized, first in ((True, True), (False, False)):
        sign = lq.quantizers.SteSign()(keras.layers.Conv2D(8, 3)(image))
        x = binary_conv(8, input_quantizer=None)(sign)
        y = keras.layers.Add()([sign, x] if first else [x, sign])
        y = keras.layers.BatchNormalization()(y) if normalized else y
        ends += [binary_conv(8)(y), lq.quantizers.SteSign()(y)]
    report = nobn.convert(
        keras.Model(image, ends), tmp_path / "m.tflite", data=images(8)
    )
    assert report.lce_bconv2d == report.binary_layers == 4
    assert report.verify["exact_share"] == 1
    assert report.not_prepared is None
