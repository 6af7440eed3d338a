"""Optimizers and callbacks in two replicas, against one.

`tests/replicas.py` runs it, in a process that takes seconds to start.
"""

# `strategy` and `tf` are there when this runs.
# ruff: noqa: F821

import larq_nobn as nobn
import callback_networks
import larq as lq
import numpy as np
from larq_nobn._keras import keras
from larq_nobn.callbacks._clipping import clipping_in
from larq_nobn.optimizers import AdaptiveGradientClipping
from larq_nobn.training._callbacks import Reseeding
from optimizers.networks import clip
from optimizers.test_files import clipping, rule

new, legacy = keras.optimizers, keras.optimizers.legacy
scaler = keras.mixed_precision.LossScaleOptimizer


def scaled(optimizer):
    optimizer = scaler(optimizer, dynamic=False, initial_scale=1.0)
    optimizer.get_scaled_loss(tf.constant(1.0))
    optimizer.get_unscaled_gradients([])
    return optimizer


def prepared(optimizer, weights):
    """With its state there, the step is traced once and not twice."""
    if isinstance(optimizer, new.Optimizer):
        optimizer.build(weights)
    else:
        optimizer._create_all_weights(weights)
    return optimizer


# Clipping: by hand, of sums that are taken by the wrapper or by the caller.
start = np.random.default_rng(0).normal(size=(4, 3)).astype("float32")
parts = np.random.default_rng(1).normal(size=(2, 4, 3)).astype("float32")
parts[1] -= 0.9 * parts[0]  # the clipped sum is far from the sum of the clipped
parts[..., 2] *= 1e-3  # within its limit, where a sum that is taken twice shows
expected = start - clip(parts.sum(0), start, (0,), 0.01)
clipped = []
for family, is_scaled, skip in [(new, False, False), (legacy, True, True)]:
    with strategy.scope():
        weight = tf.Variable(start, name="kernel")
        optimizer = AdaptiveGradientClipping(family.SGD(1.0))
        optimizer = scaled(optimizer) if is_scaled else optimizer
    clipped.append((skip, prepared(optimizer, [weight]), weight))


@tf.function(autograph=False)
def step():
    context = tf.distribute.get_replica_context()
    replica = context.replica_id_in_sync_group
    gradient = tf.gather(parts, replica)
    total = context.all_reduce("sum", gradient)
    for skip, optimizer, weight in clipped:
        optimizer.apply_gradients(
            [(total if skip else gradient, weight)],
            experimental_aggregate_gradients=not skip,
        )


def copies(weight):
    return strategy.experimental_local_results(weight)


strategy.run(step)
for row, (*_, weight) in enumerate(clipped):
    for copy in copies(weight):
        np.testing.assert_allclose(copy, expected, 1e-5, 1e-6, err_msg=f"clipped {row}")


# A training of random kernels, whose draws the replicas share, with callbacks that
# watch and count: once, and not once a replica.
def network(**how):
    keras.utils.set_random_seed(1)
    kernel = lq.layers.QuantDense(4, kernel_quantizer="bernoulli_sign", name="binary")
    model = keras.Sequential([keras.Input((6,)), kernel, callback_networks.head()])
    optimizer = scaler(clipping(rule(new.Adam(0.01))), initial_scale=1024.0)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, **how)
    return model


one = network(run_eagerly=True)
before = one.get_weights()
with strategy.scope():
    both = network()
told = [
    # Both halves of a batch meet the weights of one draw.
    callback_networks.fit(
        model,
        Reseeding(3),
        nobn.callbacks.BinaryWeightMonitor(),
        nobn.callbacks.GradientClippingMonitor(),
        steps_per_epoch=2,
    )
    for model in (one, both)
]
assert all((a != b).any() for a, b in zip(before, one.get_weights(), strict=True))
for a, b in zip(one.get_weights(), both.get_weights(), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
first, second = copies(both.get_layer("binary").kernel.latent_variable)
np.testing.assert_array_equal(first, second)
(mine,), (theirs,) = (clipping_in(model.optimizer) for model in (one, both))
np.testing.assert_array_equal(mine._counts.totals(), theirs._counts.totals())
assert told[0].keys() == told[1].keys() and len(told[0]) == 4
for name in told[0]:
    np.testing.assert_allclose(told[1][name], told[0][name], 1e-4, err_msg=name)
assert max(told[0]["flip_ratio"]) > 0
