"""Every row of the contract's table under a distribution strategy of two devices.

States too are compared: averages that each replica keeps, and what counts its steps.
"""

import numpy as np
import pytest
import tensorflow as tf
from cases import CASES
from contract_networks import HOSTS, dense_or_convolution, draw, input_shapes
from larq_nobn._keras import keras
from larq_nobn.layers import RPReLU, SignFlipDropout
from larq_nobn.quantizers import BernoulliSign, ProgressiveSign, RSign, ScaledStdSign
from replicas import assert_replicas_agree

# In training they draw, every model on its own; `optimizers/test_files.py` and
# `test_sign_flip_dropout.py` know what they draw.
_RANDOM = (BernoulliSign, ProgressiveSign, SignFlipDropout)
# What has neither a state nor a batch treats each example alone on any device.
_ROWS = [
    case
    for case in CASES
    if case.cls not in _RANDOM
    if case.state or case.sees_batch or case.cls in (RSign, ScaledStdSign, RPReLU)
]


def placed(case):
    """One row in a network of its own, with its inputs and an example of them."""
    shape = min(case.shapes, key=lambda each: np.sum(input_shapes(each)[0]))
    made, sample = case.make(), draw(case, shape)
    if case.role == "kernel":
        made = dense_or_convolution(HOSTS[len(shape)][0], shape, kernel_quantizer=made)
        window = (5,) * (len(shape) - 2)
        sample = np.random.default_rng(4).normal(size=(2, *window, shape[-2]))
    arrays = sample if isinstance(sample, list) else [sample]
    # What has no examples, as the moments of a prior, cannot be dealt out.
    arrays = [each for each in arrays if each.ndim > 1]
    nodes = [keras.Input(each.shape[1:]) for each in arrays]
    return nodes, arrays, made(nodes if len(nodes) > 1 else nodes[0])


def everything():
    """All rows side by side in one model, with two examples and their targets."""
    nodes, arrays, outputs = [], [], []
    for case in _ROWS:
        entry, samples, output = placed(case)
        nodes += entry
        arrays += [each[:2].astype("f4") for each in samples]
        flat = [each for each in tf.nest.flatten(output) if each.shape.rank > 1]
        outputs += [keras.layers.Flatten()(each) for each in flat]
    model = keras.Model(nodes, outputs)
    rng = np.random.default_rng(5)
    targets = [rng.normal(size=(2, each.shape[-1])).astype("f4") for each in outputs]
    for weight in model.trainable_weights:
        weight.assign(weight + rng.uniform(0, 0.1, weight.shape))
    model.compile(keras.optimizers.SGD(0.1), "mse", run_eagerly=True)
    return model, arrays, targets


_SCRIPT = """
import numpy as np
from larq_nobn._keras import keras
from test_contract_replicas import everything

keras.utils.set_random_seed(6)
one, x, y = everything()
start = one.get_weights()
with strategy.scope():
    both, _, _ = everything()
both.set_weights(start)
one.fit(x, y, batch_size=2, verbose=0)
# Each replica gets what the one alone got.
twice = [[np.concatenate([each, each]) for each in part] for part in (x, y)]
both.fit(*twice, batch_size=4, verbose=0)
assert both.distribute_strategy.num_replicas_in_sync == 2
found = zip(one.weights, start, both.get_weights(), strict=True)
for weight, before, other in found:
    np.testing.assert_allclose(weight, other, 1e-4, 1e-5, err_msg=weight.name)
    assert not weight.trainable or np.any(weight.numpy() != before), weight.name
"""


@pytest.mark.slow
def test_a_step_of_two_replicas_is_that_of_one():
    assert_replicas_agree(_SCRIPT)
