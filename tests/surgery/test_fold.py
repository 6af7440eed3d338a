"""Batch norm after layers of weights."""

import larq_nobn as nobn
import larq as lq
import numpy as np
import pytest
from deploy.nets import binary_conv
from larq_nobn._keras import dtype_policy, keras
from larq_nobn.graph import kernel_value, split_kernel
from larq_nobn.layers._grouped import GroupedConv2D
from numpy.testing import assert_allclose, assert_array_equal
from surgery.folding import BatchNorm, chain, difference, floatx, fold, randomize

layers = keras.layers
AFFINE = "became a per-channel affine layer"

FLOAT = {
    "conv": lambda **k: layers.Conv2D(6, 3, **k),
    "without a bias": lambda **k: layers.Conv2D(6, 3, use_bias=False, **k),
    "grouped": lambda **k: layers.Conv2D(6, 3, groups=2, **k),
    "grouped in MeliusNet": lambda **k: GroupedConv2D(6, 3, groups=2, **k),
    "depthwise": lambda **k: layers.DepthwiseConv2D(3, depth_multiplier=3, **k),
    "separable": lambda **k: layers.SeparableConv2D(6, 3, **k),
    "transposed": lambda **k: layers.Conv2DTranspose(6, 3, **k),
    "dense": lambda **k: layers.Dense(6, **k),
    "binary input": lambda **k: lq.layers.QuantConv2D(
        6, 3, input_quantizer="ste_sign", **k
    ),
    "Larq's depthwise": lambda **k: lq.layers.QuantDepthwiseConv2D(3, **k),
}


@pytest.mark.parametrize("kind", FLOAT)
def test_after_a_float_layer(kind):
    folded, changes = fold(
        lambda: chain(FLOAT[kind](name="layer"), BatchNorm(name="norm")),
        rounded=kind == "conv",
    )
    assert [layer.name for layer in folded.layers[1:]] == ["layer"]
    assert changes["norm"].action == "folded into 'layer'"


ONE_D = {
    "conv": lambda: layers.Conv1D(6, 3, padding="causal"),
    "depthwise": lambda: layers.DepthwiseConv1D(3, depth_multiplier=2),
    "separable": lambda: lq.layers.QuantSeparableConv1D(6, 3),
    "transposed": lambda: layers.Conv1DTranspose(6, 3),
}


@pytest.mark.parametrize("kind", ONE_D)
def test_after_a_float_layer_of_one_dimension(kind):
    folded, _ = fold(lambda: chain(ONE_D[kind](), BatchNorm(), shape=(9, 4)))
    assert len(folded.layers) == 2


NORMS = {
    "no scale": lambda: BatchNorm(scale=False),
    "no center": lambda: BatchNorm(center=False),
    "neither": lambda: BatchNorm(scale=False, center=False, epsilon=0.1),
    "synchronized": lambda: layers.BatchNormalization(synchronized=True),
    "renormalizing": lambda: BatchNorm(renorm=True),
    "of virtual batches": lambda: BatchNorm(virtual_batch_size=2),
    "independent component": lambda: nobn.layers.IndependentComponent(0.5),
}


@pytest.mark.parametrize("kind", NORMS)
@pytest.mark.parametrize("before", ["conv", "relu"])
def test_kinds_of_batch_norm(kind, before):
    conv = layers.Conv2D(6, 3) if before == "conv" else layers.ReLU()
    folded, _ = fold(lambda: chain(conv, NORMS[kind]()))
    assert len(folded.layers) == (2 if before == "conv" else 3)


def test_kalman_normalization_loses_its_state():
    def build():
        inputs = keras.Input((8, 8, 4))
        norms = [nobn.layers.BatchKalmanNormalization(name=f"norm{i}") for i in (1, 2)]
        x, state = norms[0](layers.Conv2D(6, 3, name="conv")(inputs))
        return keras.Model(inputs, norms[1]([layers.ReLU()(x), state])[0], name="net")

    folded, changes = fold(build)
    assert changes["norm1"].action == "folded into 'conv'"
    assert isinstance(folded.get_layer("norm2"), nobn.layers.ChannelAffine)


def test_the_report_names_dropout_that_went():
    _, changes = fold(
        lambda: chain(
            layers.Conv2D(6, 3, name="conv"),
            nobn.layers.IndependentComponent(name="norm"),
        )
    )
    assert changes["norm"].action == "folded into 'conv', without its dropout"


QUANTIZED = {
    "binary": lambda **k: binary_conv(6, **k),
    "activated": lambda **k: binary_conv(6, activation="relu", **k),
    "standardized": lambda **k: lq.layers.QuantConv2D(
        6, 3, kernel_quantizer="scaled_standardization", **k
    ),
    "marked": lambda **k: binary_conv(6, kernel_quantizer=lq.quantizers.NoOp(1), **k),
    "binary dense": lambda **k: lq.layers.QuantDense(
        6, kernel_quantizer="ste_sign", kernel_constraint="weight_clip", **k
    ),
}


@pytest.mark.parametrize("kind", QUANTIZED)
def test_after_a_quantized_kernel_gain_and_bias_stay_outside(kind):
    folded, changes = fold(
        lambda: chain(QUANTIZED[kind](name="conv"), BatchNorm(name="norm")),
        rounded=kind == "binary",
    )
    assert isinstance(folded.get_layer("norm"), nobn.layers.ChannelAffine)
    assert changes["norm"].action == "became gain and bias after 'conv'"
    assert changes["norm"].reason == ""


def magnitude_aware(policy, largest):
    """A kernel with its weights' magnitude, which folding makes as large as that."""
    with dtype_policy(policy), floatx(policy):
        conv = binary_conv(6, name="conv", kernel_quantizer="magnitude_aware_sign")
        model = randomize(chain(conv, BatchNorm(name="norm")))
    norm, latent = model.get_layer("norm"), latent_kernel(model)
    gain = norm.gamma / np.sqrt(norm.moving_variance + norm.epsilon)
    latent.assign(largest * latent / np.abs(latent * gain).max())
    return model


def latent_kernel(model):
    return model.get_layer("conv").kernel.latent_variable


@pytest.mark.parametrize("policy, tolerance", [("float64", 1e-9), ("float32", 1e-5)])
def test_a_kernel_that_has_its_weights_magnitude_takes_gain_and_bias(policy, tolerance):
    model = magnitude_aware(policy, largest=0.9)
    folded = nobn.fold_batch_norm(model)
    assert [layer.name for layer in folded.layers[1:]] == ["conv"]
    assert difference(model, folded) < tolerance
    assert_allclose(np.abs(latent_kernel(folded)).max(), 0.9, rtol=1e-6)
    assert split_kernel(kernel_value(folded.get_layer("conv").kernel)) is not None


def test_latent_weights_stay_where_they_have_a_gradient():
    model = magnitude_aware("float32", largest=1.1)
    folded = nobn.fold_batch_norm(model)
    assert isinstance(folded.get_layer("norm"), nobn.layers.ChannelAffine)
    assert_array_equal(latent_kernel(folded), latent_kernel(model))


def test_a_plain_kernel_that_is_binary_stays_so():
    def build():
        conv = layers.Conv2D(6, 3, use_bias=False, name="conv")
        model = chain(lq.quantizers.SteSign(), conv, BatchNorm(name="norm"))
        return model

    with dtype_policy("float64"):
        model = randomize(build())
    kernel = model.get_layer("conv").kernel
    kernel.assign(2.0 * np.sign(kernel))
    folded = nobn.fold_batch_norm(model)
    assert difference(model, folded) < 1e-9
    assert np.all(np.abs(folded.get_layer("conv").kernel) == 2)


def test_a_binary_kernel_with_gains_of_zero_keeps_its_signs():
    model = randomize(chain(binary_conv(6, name="conv"), BatchNorm(name="norm")))
    gamma = model.get_layer("norm").gamma
    gamma.assign(np.where(np.arange(6) < 3, 0, gamma))
    folded = nobn.fold_batch_norm(model)
    assert difference(model, folded) < 1e-5
    assert np.sum(folded.get_layer("norm").gamma == 0) == 3


POOLS = {
    "average": layers.AvgPool2D,
    "padded average": lambda: layers.AvgPool2D(3, 2, padding="same"),
    "global average": layers.GlobalAvgPool2D,
    "maximum": layers.MaxPool2D,
}


@pytest.mark.parametrize("kind", POOLS)
def test_after_a_pool_it_goes_before(kind):
    binary = (binary_conv(6, name="conv"), POOLS[kind](), BatchNorm(name="norm"))
    folded, changes = fold(lambda: chain(*binary), positive=True)
    assert changes["norm"].action == "became gain and bias after 'conv'"
    assert folded.layers[2].name == "norm"
    real = (layers.Conv2D(6, 3, name="conv"), POOLS[kind](), BatchNorm(name="norm"))
    folded, changes = fold(lambda: chain(*real), positive=True)
    assert changes["norm"].action == "folded into 'conv'"


def test_after_two_pools_their_order_stays():
    rows = [binary_conv(6), layers.MaxPool2D(name="a"), layers.AvgPool2D(name="b")]
    folded, _ = fold(lambda: chain(*rows, BatchNorm(name="norm")), positive=True)
    assert [layer.name for layer in folded.layers[2:]] == ["norm", "a", "b"]


def test_negative_gains_do_not_pass_a_maximum():
    rows = [layers.Conv2D(6, 3), layers.MaxPool2D(name="pool"), BatchNorm(name="norm")]
    _, changes = fold(lambda: chain(*rows))
    assert changes["norm"].action == AFFINE
    assert "are negative, and 'pool' (MaxPooling2D) takes" in changes["norm"].reason


def test_batch_norms_in_a_row_are_one():
    rows = [BatchNorm(name=f"norm{i}") for i in range(3)]
    folded, changes = fold(lambda: chain(layers.ReLU(), *rows))
    assert [layer.name for layer in folded.layers[2:]] == ["norm2"]
    assert changes["norm0"].action == "merged into 'norm2'"
    assert changes["norm2"].action == AFFINE


def test_a_channel_affine_joins_the_batch_norm():
    affine = nobn.layers.ChannelAffine(name="affine")
    folded, changes = fold(
        lambda: chain(layers.Dense(6, name="dense"), affine, BatchNorm(), shape=(4,))
    )
    assert [layer.name for layer in folded.layers[1:]] == ["dense"]
    assert changes["affine"].action == "folded into 'dense'"


def branches(read, name):
    inputs = keras.Input((8, 8, 4))
    x = layers.Conv2D(6, 3, name="conv")(inputs)
    return keras.Model(inputs, read(x, BatchNorm(name="norm")(x)), name=name)


READ_ELSEWHERE = {
    "shortcut": lambda x, y: layers.Add()([x, y]),
    "output": lambda x, y: [x, y],
    "twice": lambda x, y: layers.Concatenate()([x, y, x]),
}


@pytest.mark.parametrize("kind", READ_ELSEWHERE)
def test_a_convolution_that_others_read_is_left_alone(kind):
    folded, changes = fold(lambda: branches(READ_ELSEWHERE[kind], kind))
    assert changes["norm"].action == AFFINE
    assert "'conv' (Conv2D) is read elsewhere too" in changes["norm"].reason


def siamese(*parts):
    """Two images through the same layers."""
    images = [keras.Input((8, 8, 4)) for _ in range(2)]
    shared = chain(*parts)
    found = [shared(image) for image in images]
    return keras.Model(images, layers.Subtract()(found), name="siamese")


def test_a_shared_pair_folds_once():
    conv, norm = layers.Conv2D(6, 3, name="conv"), BatchNorm(name="norm")
    folded, changes = fold(lambda: siamese(conv, norm))
    assert changes["norm"].action == "folded into 'conv'"
    assert len(folded.get_layer("conv").inbound_nodes) == 2


def test_a_shared_batch_norm_stays_shared():
    act, norm = layers.ReLU(), BatchNorm(name="norm")
    folded, changes = fold(lambda: siamese(act, norm))
    assert len(folded.get_layer("norm").inbound_nodes) == 2
    assert "'re_lu" in changes["norm"].reason


def test_one_batch_norm_after_two_convolutions_folds_into_both():
    def build():
        inputs, norm = keras.Input((8, 8, 4)), BatchNorm(name="norm")
        x, y = (norm(layers.Conv2D(6, 3, name=name)(inputs)) for name in "ab")
        return keras.Model(inputs, layers.Subtract()([x, y]), name="net")

    folded, changes = fold(build)
    assert changes["norm"].action == "folded into 'a' and 'b'"


def test_a_convolution_shared_by_two_batch_norms_keeps_both():
    def build():
        left, right = keras.Input((8, 8, 4)), keras.Input((8, 8, 4))
        conv = layers.Conv2D(6, 3, name="conv")
        x, y = BatchNorm()(conv(left)), BatchNorm()(conv(right))
        return keras.Model([left, right], layers.Subtract()([x, y]), name="net")

    _, changes = fold(build)
    assert [c.action for c in changes.values()] == [AFFINE] * 2
    assert all("'conv' is used elsewhere too" in c.reason for c in changes.values())


def test_models_inside_a_model_are_opened():
    def build():
        inputs = keras.Input((8, 8, 4))
        inner = chain(layers.Conv2D(6, 3, name="conv"), name="inner")
        outer = chain(inner, name="outer")
        return keras.Model(inputs, BatchNorm(name="norm")(outer(inputs)), name="net")

    folded, changes = fold(build)
    assert changes["norm"].action == "folded into 'conv'"


def test_without_batch_norm_the_copy_is_equal():
    folded, changes = fold(lambda: chain(layers.Conv2D(6, 3), layers.ReLU()))
    assert changes == {}
