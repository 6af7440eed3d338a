"""Signs of what is exactly 0: +1 in the given model, the prepared one and the file."""

import numpy as np
import pytest
from deploy.nets import binary_conv, images
from larq_nobn._keras import keras
from larq_nobn.deploy.inspection._audit import audit_bytes
from larq_nobn.deploy.lite import Runner, inference, io_spec, to_flatbuffer
from larq_nobn.deploy.prepare._prepare import prepare
from numpy.testing import assert_array_equal
from tie_networks import GAINS, MEANS, REAL, SHAPE, WHOLE, network, norm

layers = keras.layers


def rescaled(x):
    """Whole numbers times 0.7, rectified."""
    return norm(0.7, 0.0, 1e-3, "first")(layers.ReLU()(binary_conv(16)(x)))


# What tie_networks has, and what is a number of its own here.
CASES = {
    **{kind: (part, {}) for kind, part in WHOLE.items()},
    **{kind: (part, {"means": mean}) for kind, (mean, part) in REAL.items()},
    "without an epsilon": (WHOLE["rectified"], {"epsilon": 0.0}),
    "maximum without an epsilon": (WHOLE["maximum"], {"epsilon": 0.0}),
    "rescaled": (rescaled, {"means": MEANS * 0.7 / np.sqrt(1.001), "epsilon": 0.0}),
    "some gains are 0": (WHOLE["rectified"], {"gains": GAINS * (np.arange(16) % 5)}),
    "few channels": (lambda x: layers.ReLU()(binary_conv(16, 1)(x[..., :5])), {}),
}


@pytest.mark.convert
@pytest.mark.parametrize("kind", CASES)
def test_prepared_models_and_files_give_the_signs_of_the_given_model(kind):
    part, options = CASES[kind]
    model, before = network(part, **options)
    x = images(4, SHAPE)
    assert np.mean(before(x).numpy() == 0) > 0.01
    prepared = prepare(model)
    content = to_flatbuffer(inference(prepared), prepared.variables, io_spec(prepared))
    binary = [x for x in model.layers if getattr(x, "input_quantizer", None)]
    assert audit_bytes(content, "net").ops["LceBconv2d"] == len(binary)
    assert_array_equal(prepared(x), model(x))
    assert_array_equal(Runner(content)(x), model(x))
