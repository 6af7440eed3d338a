"""Batch norm before signs and before layers of weights."""

import larq_nobn as nobn
import larq as lq
import numpy as np
import pytest
import tensorflow as tf
from deploy.nets import binary_conv
from larq_nobn._keras import dtype_policy, keras
from larq_nobn.quantizers import RSign, SigmoidSign
from numpy.testing import assert_allclose
from surgery.folding import (
    BatchNorm,
    chain,
    difference,
    fold,
    make_positive,
    randomize,
)

layers = keras.layers
SIGN = "became the shift of the sign in 'conv'"
AFFINE = "became a per-channel affine layer"


def norm():
    # After an activation, where nothing else can take its gain and bias.
    return [layers.Activation("tanh"), BatchNorm(name="norm")]


def zero_padded(**kwargs):
    return binary_conv(6, name="conv", pad_values=0.0, **kwargs)


KERNELS = {
    "zero padding": lambda: zero_padded(),
    "no padding": lambda: binary_conv(6, name="conv", padding="valid"),
    "one position": lambda: binary_conv(6, 1, name="conv", strides=2),
    "magnitudes": lambda: zero_padded(kernel_quantizer="magnitude_aware_sign"),
    "real kernel": lambda: zero_padded(kernel_quantizer=None),
    "with bias": lambda: zero_padded(use_bias=True, activation="relu"),
    "grouped": lambda: zero_padded(groups=2),
    "depthwise": lambda: lq.layers.QuantDepthwiseConv2D(
        3, input_quantizer="ste_sign", depthwise_quantizer="ste_sign", name="conv"
    ),
    "separable": lambda: lq.layers.QuantSeparableConv2D(
        6,
        3,
        input_quantizer="ste_sign",
        depthwise_quantizer="ste_sign",
        pointwise_quantizer="ste_sign",
        name="conv",
    ),
    "transposed": lambda: lq.layers.QuantConv2DTranspose(
        6,
        3,
        padding="same",
        input_quantizer="ste_sign",
        kernel_quantizer="ste_sign",
        name="conv",
    ),
    "dense": lambda: lq.layers.QuantDense(
        6, input_quantizer="ste_sign", kernel_quantizer="ste_sign", name="conv"
    ),
}


@pytest.mark.parametrize("kind", KERNELS)
def test_before_a_sign_with_gains_of_both_signs(kind):
    rounded = kind == "zero padding"
    folded, changes = fold(lambda: chain(*norm(), KERNELS[kind]()), rounded=rounded)
    assert [layer.name for layer in folded.layers[2:]] == ["conv"]
    assert isinstance(folded.get_layer("conv").input_quantizer, RSign)
    assert changes["norm"].action == SIGN


def test_latent_weights_of_zero_are_negated_too():
    with dtype_policy("float64"):
        model = randomize(chain(*norm(), zero_padded()))
    kernel = model.get_layer("conv").kernel.latent_variable
    kernel.assign(np.where(np.abs(kernel) < 0.5, 0.0, kernel))
    assert difference(model, nobn.fold_batch_norm(model)) < 1e-9


def test_a_tie_at_zero_stays_positive():
    """Where a ReLU gives 0 and the threshold is 0, the sign is +1 for any gain."""
    rows = [layers.ReLU(), BatchNorm(center=False), zero_padded()]
    model = randomize(chain(*rows))
    model.layers[1].moving_mean.assign(np.zeros(4))
    x = -np.ones((1, 8, 8, 4), np.float32)
    assert np.any(model.layers[1].gamma < 0)
    assert_allclose(nobn.fold_batch_norm(model)(x), model(x))


REFUSED = {
    "pads with 1": lambda: binary_conv(6, name="conv"),
    "the kernel_quantizer of 'conv' does not": lambda: zero_padded(
        kernel_quantizer="scaled_std_sign"
    ),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_where_negative_gains_need_an_affine_layer(reason):
    _, changes = fold(lambda: chain(*norm(), REFUSED[reason]()))
    assert changes["norm"].action == AFFINE
    assert reason in changes["norm"].reason
    _, changes = fold(lambda: chain(*norm(), REFUSED[reason]()), positive=True)
    assert changes["norm"].action == SIGN


def test_a_gain_of_zero_needs_an_affine_layer():
    model = randomize(chain(*norm(), zero_padded()))
    gamma = model.get_layer("norm").gamma
    gamma.assign([0.0, *gamma[1:]])
    folded, report = nobn.fold_batch_norm(model, return_report=True)
    assert "1 of its 4 gains are 0" in report.changes[0].reason
    assert difference(model, folded) < 1e-5


QUANTIZERS = {
    "approx": lq.quantizers.ApproxSign,
    "straight-through": lq.quantizers.SteSign,
    "sigmoid": lambda: SigmoidSign(slope=2.0),
    "shifted": lambda: RSign(scale=1.5, estimator="ste_sign"),
    "scaled": lambda: RSign(scale=1.5, shift=False),
}


@pytest.mark.parametrize("kind", QUANTIZERS)
def test_values_and_gradients_of_signs(kind):
    """With gains all alike, the gradient is exactly the one before, too."""

    def build():
        quantized = zero_padded(input_quantizer=QUANTIZERS[kind]())
        return chain(*norm(), quantized)

    fold(build)
    with dtype_policy("float64"):
        model = randomize(build())
    given = model.get_layer("norm")
    given.gamma.assign(np.full(4, 0.7))
    given.moving_variance.assign(np.full(4, 0.9))
    folded = nobn.fold_batch_norm(model)
    x = tf.constant(np.random.default_rng(4).normal(size=(4, 8, 8, 4)))
    wanted, found = (gradient(m, x) for m in (model, folded))
    assert_allclose(found, wanted, atol=1e-9 * np.abs(wanted).max())


def gradient(model, x):
    with tf.GradientTape() as tape:
        tape.watch(x)
        loss = tf.reduce_sum(tf.square(model(x)))
    return tape.gradient(loss, x).numpy()


def test_a_clipped_window_stays_where_it_was():
    quantizer = lq.quantizers.SteSign(clip_value=2.0)
    model = randomize(chain(*norm(), zero_padded(input_quantizer=quantizer)))
    given = model.get_layer("norm")
    given.gamma.assign(np.ones(4))
    given.moving_variance.assign(np.full(4, 1 - given.epsilon))
    folded = nobn.fold_batch_norm(model)
    new = folded.get_layer("conv").input_quantizer
    assert new.scale == pytest.approx(0.5)
    bias = given.beta - given.moving_mean
    assert_allclose(new.shift, bias / 2, rtol=1e-6)


@pytest.mark.parametrize(
    "quantizer", [lq.quantizers.SwishSign, lambda: lq.quantizers.SteSign(None)]
)
def test_estimators_without_a_counterpart_need_an_affine_layer(quantizer):
    _, changes = fold(lambda: chain(*norm(), zero_padded(input_quantizer=quantizer())))
    assert changes["norm"].action == AFFINE
    assert "RSign has no estimator like that of S" in changes["norm"].reason


def test_a_sign_that_is_a_layer():
    signs = [
        lambda: layers.Activation(lq.quantizers.SteSign(), name="sign"),
        lambda: lq.quantizers.ApproxSign(name="sign"),
    ]
    for sign in signs:

        def build(sign=sign):
            conv = zero_padded(input_quantizer=None)
            inputs = keras.Input((8, 8, 4))
            x = BatchNorm(name="norm")(layers.Activation("tanh")(inputs))
            x = nobn.layers.SignFlipDropout()(sign()(x))
            return keras.Model(inputs, conv(x), name="net")

        folded, changes = fold(build)
        assert isinstance(folded.get_layer("sign"), RSign)
        assert changes["norm"].action == "became the shift of the sign 'sign'"


def forked(*readers):
    """One batch norm after an activation, read by several layers."""

    def build():
        inputs = keras.Input((8, 8, 4))
        x = BatchNorm(name="norm")(layers.Activation("tanh")(inputs))
        return keras.Model(inputs, [reader()(x) for reader in readers], name="net")

    return build


def test_all_readers_take_it_or_none():
    a, b = (lambda name=name: binary_conv(6, 1, name=name) for name in "ab")
    real = lambda: layers.Conv2D(6, 1, name="real")  # noqa: E731
    folded, changes = fold(forked(a, b, real))
    assert "norm" not in [layer.name for layer in folded.layers]
    words = ["folded into 'real'"]
    words += [f"became the shift of the sign in {name!r}" for name in "ab"]
    assert set(changes["norm"].action.split(" and ")) == set(words)
    _, changes = fold(forked(a, b, lambda: layers.ReLU(name="act")))
    assert changes["norm"].action == AFFINE
    assert "'act' (ReLU) lies after it" in changes["norm"].reason


AHEAD = {
    "dense": lambda: [layers.Dense(3, name="x")],
    "conv": lambda: [layers.Conv2D(3, 3, use_bias=False, activation="relu", name="x")],
    "grouped": lambda: [layers.Conv2D(6, 3, groups=2, name="x")],
    "one position": lambda: [layers.Conv2D(3, 1, padding="same", name="x")],
    "depthwise": lambda: [layers.DepthwiseConv2D(3, depth_multiplier=2, name="x")],
    "separable": lambda: [layers.SeparableConv2D(3, 3, name="x")],
    "flattened": lambda: [layers.Flatten(), layers.Dense(3, name="x")],
    "averaged": lambda: [layers.GlobalAvgPool2D(), layers.Dense(3, name="x")],
    "both": lambda: [layers.AvgPool2D(), layers.Flatten(), layers.Dense(3, name="x")],
}


@pytest.mark.parametrize("kind", AHEAD)
def test_before_a_layer_of_weights(kind):
    rounded = kind == "conv"
    folded, changes = fold(lambda: chain(*norm(), *AHEAD[kind]()), rounded=rounded)
    assert "norm" not in [layer.name for layer in folded.layers]
    assert changes["norm"].action == "folded into 'x'"


def test_between_two_layers_of_weights_both_sides_compose():
    rows = [*norm(), layers.Dense(5), BatchNorm(), layers.Dense(3)]
    folded, _ = fold(lambda: chain(*rows))
    assert len(folded.layers) == 4


PADDED = {
    "zeros around": lambda: layers.Conv2D(3, 3, padding="same"),
    "steps": lambda: layers.Conv2DTranspose(3, 3),
}


@pytest.mark.parametrize("kind", PADDED)
def test_a_bias_does_not_pass_what_sees_it_unevenly(kind):
    folded, changes = fold(lambda: chain(*norm(), PADDED[kind]()))
    assert changes["norm"].action == AFFINE
    assert "not see as much of its input everywhere" in changes["norm"].reason
    with dtype_policy("float64"):
        model = randomize(chain(*norm(), PADDED[kind]()))
    given = model.get_layer("norm")
    for weight in (given.beta, given.moving_mean):
        weight.assign(np.zeros(4))
    folded = nobn.fold_batch_norm(model)
    assert len(folded.layers) == 3
    assert difference(model, folded) < 1e-9


def scaling_only():
    """At inference a gain without a bias: its mean and its beta are 0."""
    return BatchNorm(center=False, name="norm")


def bordered(kind, *arguments, **options):
    return lambda value: getattr(lq.layers, f"Quant{kind}")(
        *arguments, padding="same", pad_values=value, name="conv", **options
    )


BORDERS = {
    "2D": ((8, 8, 4), bordered("Conv2D", 3, 3)),
    "2D strided": ((8, 8, 4), bordered("Conv2D", 3, 3, strides=2)),
    "2D dilated": ((8, 8, 4), bordered("Conv2D", 3, (1, 3), dilation_rate=2)),
    "1D": ((8, 4), bordered("Conv1D", 3, 3)),
    "3D": ((4, 4, 4, 2), bordered("Conv3D", 3, 3)),
    "depthwise": ((8, 8, 4), bordered("DepthwiseConv2D", 3)),
    "separable": ((8, 8, 4), bordered("SeparableConv2D", 3, 3)),
    "separable 1D": ((8, 4), bordered("SeparableConv1D", 3, 3)),
}


def averaged(shape):
    return getattr(layers, f"AveragePooling{len(shape) - 1}D")(2, 1, "same")


@pytest.mark.parametrize("gain", [2.0, -1.0, 0.0])
@pytest.mark.parametrize("kind", BORDERS)
def test_a_gain_does_not_pass_a_border_of_ones(kind, gain):
    shape, conv = BORDERS[kind]
    rows = [layers.Activation("tanh"), scaling_only()]
    if gain == 2 and kind != "3D":  # of which there is no average in float64
        rows.append(averaged(shape))
    with dtype_policy("float64"):
        ones, zeros = (chain(*rows, conv(x), shape=shape) for x in (1.0, 0.0))
    for model in (ones, zeros):
        randomize(model)
        norm = model.get_layer("norm")
        norm.moving_mean.assign(np.zeros(shape[-1]))
        norm.gamma.assign(np.append(np.ones(shape[-1] - 1), gain))
    folded, report = nobn.fold_batch_norm(ones, return_report=True)
    assert difference(ones, folded) < 1e-9
    assert report.changes[0].action == AFFINE
    assert "'conv' pads with 1" in report.changes[0].reason
    folded, report = nobn.fold_batch_norm(zeros, return_report=True)
    assert difference(zeros, folded) < 1e-9
    assert report.changes[0].action == "folded into 'conv'"


def test_the_corner_of_a_map_that_ones_pad_is_what_it_was():
    """Of a kernel of ones 5 of 9 taps meet the border, and the other 4 a 0."""
    twos = keras.initializers.Constant(2.0)
    norm = BatchNorm(center=False, epsilon=0.0, gamma_initializer=twos)
    conv = lq.layers.QuantConv2D(
        1, 3, padding="same", pad_values=1.0, kernel_initializer="ones"
    )
    model = chain(layers.ReLU(), norm, conv, shape=(4, 4, 1))
    x = np.zeros((1, 4, 4, 1), np.float32)
    assert nobn.fold_batch_norm(model)(x)[0, 0, 0, 0] == 5


def test_a_maximum_lets_positive_gains_pass():
    rows = [*norm(), layers.MaxPool2D(), zero_padded()]
    _, changes = fold(lambda: chain(*rows), positive=True)
    assert changes["norm"].action == SIGN


def test_a_layer_used_twice_is_left_alone():
    def build():
        inputs = keras.Input((8, 8, 4))
        conv = layers.Conv2D(4, 1, name="conv")
        x = BatchNorm(name="norm")(layers.Activation("tanh")(inputs))
        return keras.Model(inputs, conv(layers.ReLU()(conv(x))), name="net")

    _, changes = fold(build)
    assert "'conv' (Conv2D) is used more than once" in changes["norm"].reason


def test_other_precisions_stay_apart():
    """A shift in float16 is not one in float32."""
    with dtype_policy("mixed_float16"):
        rows = chain(*norm(), zero_padded())
    model = keras.Sequential(
        [keras.Input((8, 8, 4)), layers.ReLU(), BatchNorm(name="norm")]
    )
    model = keras.Model(model.input, rows.layers[-1](model.output))
    folded, report = nobn.fold_batch_norm(make_positive(model), return_report=True)
    assert "'conv' (QuantConv2D) computes in float16" in report.changes[0].reason
    assert folded.get_layer("conv").compute_dtype == "float16"


@pytest.mark.parametrize("gain", (-0.8, 0.8))
def test_a_binary_layer_after_a_sign_layer_may_have_a_sign_of_its_own(gain):
    """It takes the signs of signs, which are opposite ones after a negative gain."""
    sign = layers.Activation(lq.quantizers.SteSign(), name="sign")
    model = chain(*norm(), sign, layers.Dropout(0.5), KERNELS["one position"]())
    random = np.random.default_rng(0)
    channels = model.get_layer("norm").gamma.shape[0]
    numbers = (random.normal(size=channels) for _ in range(2))
    signs = np.where(np.arange(channels) % 2, gain, 0.5)
    model.get_layer("norm").set_weights([signs, *numbers, np.ones(channels)])
    folded = nobn.fold_batch_norm(model)
    assert not any(isinstance(x, layers.BatchNormalization) for x in folded.layers)
    x = random.normal(size=(16, *model.input_shape[1:])).astype(np.float32)
    assert_allclose(folded(x), model(x), rtol=1e-5)
