"""Flips and dead weights, counted by hand; what watching must leave alone."""

import larq_nobn as nobn
import larq as lq
import numpy as np
import pytest
import tensorflow as tf
from callback_networks import IMAGES, compiled, fit, scalars
from larq_nobn._keras import dtype_policy, keras
from larq_nobn.callbacks import BinaryWeightMonitor
from numpy.testing import assert_array_equal

RNG = np.random.default_rng(1)


def dead_by_hand(kernel, axes, tau):
    """ReCU's code in NumPy: standardized filters beyond the Laplace quantile."""
    w = np.asarray(kernel, np.float64)
    count = np.prod([w.shape[axis] for axis in axes])
    mean = w.mean(axes, keepdims=True)
    variance = np.square(w - mean).sum(axes, keepdims=True) / (count - 1)
    w1 = (w - mean) / (np.sqrt(variance + 1e-5) / (2 * np.sqrt(2)))
    return np.abs(w1) > -np.abs(w1).mean() * np.log(2 - 2 * tau)


def one_layer(layer, shape=(6,)):
    return keras.Sequential([keras.Input(shape), layer])


def dense(quantizer, units=5, **kwargs):
    return lq.layers.QuantDense(
        units, kernel_quantizer=quantizer, use_bias=False, name="binary", **kwargs
    )


def started(model, **kwargs):
    monitor = BinaryWeightMonitor(**kwargs)
    monitor.set_model(model)
    monitor.on_train_begin()
    return monitor


def epoch(monitor, number=0):
    logs = {}
    monitor.on_epoch_end(number, logs)
    return logs


LAYERS = {
    "dense": (dense("ste_sign"), (6,), (0,)),
    "depthwise": (
        lq.layers.QuantDepthwiseConv2D(
            3, depth_multiplier=2, depthwise_quantizer="ste_sign", name="binary"
        ),
        (8, 8, 3),
        (0, 1),
    ),
    "transposed": (
        lq.layers.QuantConv2DTranspose(
            4, 3, kernel_quantizer="ste_sign", name="binary"
        ),
        (8, 8, 3),
        (0, 1, 3),
    ),
}


@pytest.mark.parametrize("name", LAYERS)
def test_ratios_against_numpy_for_every_kind_of_kernel(name):
    layer, shape, axes = LAYERS[name]
    model = one_layer(layer, shape)
    (kernel, *_) = model.trainable_weights
    kernel.assign(RNG.normal(size=kernel.shape) * np.arange(1, kernel.shape[-1] + 1))
    monitor = started(model, tau=0.7)
    before = kernel.numpy()
    for number in range(2):
        kernel.assign(before + RNG.normal(size=kernel.shape))
        logs = epoch(monitor, number)
        flipped = (kernel.numpy() >= 0) != (before >= 0)
        assert logs["flip_ratio"] == pytest.approx(flipped.mean())
        dead = dead_by_hand(kernel.numpy(), axes, 0.7).mean()
        assert logs["dead_weight_ratio"] == pytest.approx(dead)
        assert 0 < flipped.mean() < 1 and 0 < dead < 1
        before = kernel.numpy()
    assert epoch(monitor)["flip_ratio"] == 0


def test_layers_are_weighted_by_their_weights(tmp_path):
    parts = [dense("ste_sign", 5), lq.layers.QuantDense(3, name="real")]
    parts += [lq.layers.QuantDense(2, kernel_quantizer="ste_sign", name="last")]
    model = keras.Sequential([keras.Input((6,)), *parts])
    first, last = parts[0].kernel, parts[2].kernel  # 30 and 6 weights
    first.assign(tf.ones((6, 5)))
    last.assign(tf.ones((3, 2)))
    monitor = started(model, log_dir=tmp_path)
    first.assign(np.where(np.arange(30).reshape(6, 5) < 7, -1.0, 1.0))
    last.assign(np.where(np.arange(6).reshape(3, 2) < 3, -1.0, 1.0))
    assert epoch(monitor)["flip_ratio"] == pytest.approx((7 + 3) / 36)
    monitor.on_train_end()
    written = scalars(tmp_path)
    assert written["flip_ratio/binary"][0] == pytest.approx(7 / 30)
    assert written["flip_ratio/last"][0] == pytest.approx(3 / 6)
    assert "flip_ratio/real" not in written


def test_signs_are_those_of_the_quantized_kernel():
    quantizer = nobn.quantizers.ScaledStdSign()
    model = one_layer(dense(quantizer, 2))
    kernel = model.get_layer("binary").kernel
    kernel.assign(np.stack([np.arange(6.0), np.arange(6.0)], 1))
    monitor = started(model)
    kernel.assign_sub(10 * tf.ones((6, 2)))  # the signs around the mean stay
    assert epoch(monitor)["flip_ratio"] == 0
    quantizer.gain.assign([1.0, -1.0])
    assert epoch(monitor)["flip_ratio"] == 0.5


def signs_in_the_layer(layer: keras.layers.Layer) -> np.ndarray:
    """Of each kernel weight, by what the layer gives for the unit vectors."""
    inputs = np.eye(layer.kernel.shape[0])
    return layer(tf.constant(inputs, layer.compute_dtype)).numpy() > 0


# Weights of one rounding in 16 bits each, with signs on both sides in 32.
NEAR_ONE = 1 + 1e-5 * np.sign(np.sin(1 + np.arange(30.0))).reshape(6, 5)
TINY = 1e-9 * np.sign(np.sin(1 + np.arange(30.0))).reshape(6, 5)


QUANTIZERS = {
    "bernoulli_sign": nobn.quantizers.BernoulliSign,
    "regularized_recu": lambda: nobn.quantizers.BinaryRegularized(
        nobn.quantizers.ReCU()
    ),
}


@pytest.mark.parametrize("name", QUANTIZERS)
def test_kernels_are_those_of_the_training_step(name):
    even = list(QUANTIZERS).index(name) % 2
    policy = "mixed_bfloat16" if even else "mixed_float16"
    with dtype_policy(policy):
        model = one_layer(dense(QUANTIZERS[name](), 10))
    layer = model.get_layer("binary")
    assert layer.compute_dtype == policy.removeprefix("mixed_")
    kernel = np.concatenate([NEAR_ONE, TINY], 1)
    layer.kernel.latent_variable.assign(kernel)
    monitor, before = started(model), signs_in_the_layer(layer)
    # What is above the mean of its filter is below it afterwards.
    layer.kernel.latent_variable.assign(2 * kernel.mean(0) - kernel)
    expected = np.mean(signs_in_the_layer(layer) != before)
    assert epoch(monitor)["flip_ratio"] == pytest.approx(expected)


def test_recu_gives_its_own_tau():
    recu = nobn.quantizers.ReCU()
    quantizer = nobn.quantizers.BinaryRegularized(recu)
    model = one_layer(dense(quantizer, 50))
    kernel = model.get_layer("binary").kernel
    kernel.assign(RNG.normal(size=kernel.shape))
    monitor = started(model, tau=0.95)
    for tau in (0.6, 0.9):
        recu.tau.assign(tau)
        expected = dead_by_hand(kernel.numpy(), (0,), tau).mean()
        assert epoch(monitor)["dead_weight_ratio"] == pytest.approx(expected)


def test_metrics_and_losses_of_the_quantizers_stay_as_they_are():
    counting = lq.quantizers.SteSign(metrics=["flip_ratio"])
    quantizer = nobn.quantizers.BinaryRegularized("ste_sign", strength=0.1)
    penalized = lq.layers.QuantDense(2, kernel_quantizer=quantizer)
    model = keras.Sequential([keras.Input((6,)), dense(counting), penalized])
    model(IMAGES)

    def state():
        metrics = [value.numpy() for value in counting.flip_ratio.variables]
        return [*metrics, *(float(loss) for loss in model.losses)]

    before, monitor = state(), started(model)
    for weight in model.trainable_weights:
        weight.assign_add(tf.ones_like(weight))
    epoch(monitor)
    assert len(model.losses) == 1
    for value, start in zip(state(), before, strict=True):
        assert_array_equal(value, start)


def test_weights_under_bop_flip_and_have_no_dead_ones():
    optimizer = lq.optimizers.CaseOptimizer(
        (lq.optimizers.Bop.is_binary_variable, lq.optimizers.Bop(gamma=0.5)),
        default_optimizer=keras.optimizers.legacy.SGD(0.1),
    )
    model = compiled(
        optimizer=optimizer, layer=lambda **kw: dense(lq.quantizers.NoOp(precision=1))
    )
    kernel = model.get_layer("binary").kernel
    kernel.assign(np.where(kernel.numpy() > 0, 1.0, -1.0))
    before = kernel.numpy()
    history = fit(model, BinaryWeightMonitor(), epochs=1)
    flipped = np.mean(kernel.numpy() != before)
    assert history["flip_ratio"] == pytest.approx([flipped]) and flipped > 0
    assert np.isnan(history["dead_weight_ratio"]).all()


def test_bad_arguments():
    with pytest.raises(ValueError, match=r"tau=0.5 is outside \(0.5, 1\). Use ReCU"):
        BinaryWeightMonitor(0.5)


def test_a_second_fit_counts_from_its_start():
    model = one_layer(dense("ste_sign"))
    monitor = started(model)
    epoch(monitor)
    kernels = monitor._kernels
    model.layers[0].kernel.latent_variable.assign_add(tf.ones((6, 5)))
    monitor.on_train_begin()
    assert monitor._kernels is kernels
    assert epoch(monitor)["flip_ratio"] == 0
    other = one_layer(dense("ste_sign"))
    monitor.set_model(other)
    monitor.on_train_begin()
    (kernel,) = monitor._kernels
    assert kernel.latent is other.layers[0].kernel.latent_variable
