"""A sign may read what is ±1 already."""

import larq_nobn as nobn
import larq as lq
import numpy as np
import pytest
from deploy.nets import binary_conv, chain, head


@pytest.mark.convert
@pytest.mark.parametrize("shift", [-3.0, -1.0, 0.5, 1.0, 3.0])
def test_a_shift_between_two_signs_counts(shift, tmp_path):
    """LCE knows sign(sign(x) + c) as one spelling of sign(x), whatever c is."""
    second = nobn.quantizers.RSign(name="second")
    model = chain(lq.quantizers.SteSign(name="first"), second, binary_conv(), *head())
    second.shift.assign(np.full(32, shift))
    report = nobn.convert(model, tmp_path / "m.tflite")
    assert report.lce_bconv2d == 1
    assert report.verify["exact_share"] == 1
