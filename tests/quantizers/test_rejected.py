"""Arguments and kernels that quantizers reject, each with a remedy."""

import pytest
import tensorflow as tf
from larq_nobn.quantizers import (
    BernoulliSign,
    BinaryRegularized,
    BiPer,
    ProgressiveSign,
    ReCU,
    ReSTE,
    RSign,
    ScaledStandardization,
    ScaledStdSign,
    SigmoidSign,
    SignSwish,
)

# One of each argument with a sentence of its own; `test_wrong_kinds.py` has the rest.
ARGUMENTS = [
    (BernoulliSign, {"temperature": 0}, r"temperature=0 is outside \[1e-12, inf\)"),
    (BinaryRegularized, {"quantizer": "no_such"}, "no_such"),
    (BinaryRegularized, {"quantizer": "recu", "order": 0}, "order=0 is neither 1 nor"),
    (BiPer, {"frequency": 0}, r"frequency=0 is outside \(0, inf\). The pa"),
    (BiPer, {"scale": -1}, r"scale=-1 is outside \(0, inf\)"),
    (ProgressiveSign, {"fraction": 1.5}, r"fraction=1.5 is outside \[0, 1\]. Start"),
    (ReCU, {"tau": 0.5}, r"tau=0.5 is outside \(0.5, 1\). Use 0.85 to start and 0.99"),
    (ReCU, {"tau": "0.9"}, r"tau='0.9' is not a number; it must lie in \(0.5, 1\)"),
    (ReSTE, {"power": 0.9}, r"power=0.9 is outside \[1, inf\). Start with 1, which"),
    (RSign, {"shift": 1}, "shift=1 is neither True nor False"),
    (RSign, {"estimator": "relu"}, "must be one of approx.*; got 'relu'"),
    (ScaledStandardization, {"epsilon": 0.0}, r"epsilon=0.0 is outside \(0, inf\)"),
    (SigmoidSign, {"slope": 0}, r"slope=0 is outside \(0, inf\). The paper's is 3"),
    (SignSwish, {"beta": 0.0}, r"beta=0.0 is outside \(0, inf\). Start with 5"),
    (SignSwish, {"beta": 0.5, "trainable_beta": True}, r"beta=0.5 is outside \[1, 20"),
]


@pytest.mark.parametrize("quantizer, arguments, message", ARGUMENTS)
def test_arguments(quantizer, arguments, message):
    with pytest.raises((TypeError, ValueError), match=message):
        quantizer(**arguments)


INPUTS = [
    (ReCU, (1, 1, 1, 8), r"\(1, 1, 1, 8\), whose filters have a sing"),
    (ScaledStandardization, (1, 1, 1, 8), r"\(1, 1, 1, 8\), whose filters"),
    (RSign, (3, None), r"RSign got an input of shape \(3, None\)"),
]


@pytest.mark.parametrize("quantizer, shape, message", INPUTS)
def test_inputs(quantizer, shape, message):
    with pytest.raises(ValueError, match=message):
        quantizer().build(shape)


KERNELS = (3, 3, 4, 5), (3, 3, 8, 5), r"\(3, 3, 4, 5\) and \(3, 3, 8, 5\)"
OWNED = [
    (ScaledStdSign, *KERNELS),
    (lambda: BinaryRegularized("ste_sign"), *KERNELS),
    (RSign, (1, 4), (1, 8), r"\(1, 4\) and \(1, 8\), but its"),
    (lambda: SignSwish(trainable_beta=True), (2, 4), (1, 8), r"\(2, 4\) and \(1, 8\)"),
]


@pytest.mark.parametrize("make, first, second, message", OWNED)
def test_a_second_owner(make, first, second, message):
    shared = make()
    shared(tf.ones(first))
    shared(tf.ones(first))
    with pytest.raises(ValueError, match=message):
        shared(tf.ones(second))
