"""Batch norm after layers of weights."""

import larq_nobn as nobn
import larq as lq
import numpy as np
import pytest
from deploy.nets import binary_conv
from larq_nobn._keras import keras
from larq_nobn.graph._signs import kernel_value, split_kernel
from larq_nobn.graph._traits import KINDS
from larq_nobn.layers._grouped import GroupedConv2D
from numpy.testing import assert_allclose, assert_array_equal
from surgery.folding import (
    AFFINE,
    SHAPE,
    TOLERANCE,
    BatchNorm,
    beside,
    chain,
    difference,
    fold,
    names_of,
    random_model,
)

layers = keras.layers

FLOAT = {
    "conv": lambda **k: layers.Conv2D(6, 3, **k),
    "grouped": lambda **k: layers.Conv2D(6, 3, groups=2, **k),
    "depthwise": lambda **k: layers.DepthwiseConv2D(3, depth_multiplier=3, **k),
    "separable": lambda **k: layers.SeparableConv2D(6, 3, **k),
    "transposed": lambda **k: layers.Conv2DTranspose(6, 3, **k),
    "dense": lambda **k: layers.Dense(6, **k),
    "conv_1d": lambda **k: layers.Conv1D(6, 3, padding="causal", **k),
    "depthwise_1d": lambda **k: layers.DepthwiseConv1D(3, depth_multiplier=2, **k),
    "separable_1d": lambda **k: layers.SeparableConv1D(6, 3, **k),
    "transposed_1d": lambda **k: layers.Conv1DTranspose(6, 3, **k),
    "conv_3d": lambda **k: layers.Conv3D(6, 2, **k),
    "transposed_3d": lambda **k: layers.Conv3DTranspose(6, 2, **k),
    "own": lambda **k: GroupedConv2D(6, 3, groups=2, **k),
}
SHAPES = {"1d": (9, 4), "3d": (3, 4, 5, 4)}


def pairs(table):
    """A layer and a batch norm in a row, for each of a table."""
    rows = [[make(name=n), BatchNorm(name=f"{n}_norm")] for n, make in table.items()]
    return beside(*rows, shapes=[SHAPES.get(name[-2:], SHAPE) for name in table])


def test_every_kernel_is_tried():
    tried = {type(make(name=name)) for name, make in FLOAT.items()}
    known = {kind for kind, traits in KINDS.items() if traits.kernel}
    assert {kind for kind in known if "Quant" not in kind.__name__} == tried


def test_after_float_layers_it_goes_into_the_kernel():
    folded, changes = fold(lambda: pairs(FLOAT))
    for place, name in enumerate(FLOAT):
        assert changes[f"{name}_norm"].action == f"folded into {name!r}"
        assert names_of(folded, place) == [name]


QUANTIZED = {
    "binary": lambda **k: binary_conv(6, **k),
    "standardized": lambda **k: lq.layers.QuantConv2D(
        6, 3, kernel_quantizer="scaled_standardization", **k
    ),
    "dense": lambda **k: lq.layers.QuantDense(
        6, kernel_quantizer="ste_sign", kernel_constraint="weight_clip", **k
    ),
}


def test_after_quantized_kernels_gain_and_bias_stay_outside():
    folded, changes = fold(lambda: pairs(QUANTIZED))
    for name in QUANTIZED:
        change = changes[f"{name}_norm"]
        assert isinstance(folded.get_layer(change.layer), nobn.layers.ChannelAffine)
        assert change.action == f"became gain and bias after {name!r}"
        assert change.reason == ""


NORMS = {
    "no_scale": lambda name: BatchNorm(scale=False, name=name),
    "neither": lambda name: BatchNorm(
        scale=False, center=False, epsilon=0.1, name=name
    ),
    "of_virtual_batches": lambda name: BatchNorm(virtual_batch_size=2, name=name),
    "component": lambda name: nobn.layers.IndependentComponent(0.5, name=name),
}


def test_every_kind_of_batch_norm():
    def build():
        before = lambda name: layers.Conv2D(6, 3, name=f"{name}_conv")  # noqa: E731
        convs = [[before(name), NORMS[name](name)] for name in NORMS]
        return beside(*convs, *([layers.ReLU(), NORMS[n](f"{n}_2")] for n in NORMS))

    folded, changes = fold(build)
    for place, name in enumerate(NORMS):
        assert changes[name].action.startswith(f"folded into '{name}_conv'")
        assert names_of(folded, place) == [f"{name}_conv"]
        affine = folded.get_layer(f"{name}_2")
        assert isinstance(affine, nobn.layers.ChannelAffine)
    said = "folded into 'component_conv', without its dropout"
    assert changes["component"].action == said


def magnitude_aware(policy, largest):
    """A kernel with its weights' magnitude, which folding makes as large as that."""
    quantizer = {"kernel_quantizer": "magnitude_aware_sign"}
    model = random_model(
        lambda: chain(binary_conv(6, name="conv", **quantizer), BatchNorm(name="norm")),
        policy,
    )
    norm, latent = model.get_layer("norm"), latent_kernel(model)
    gain = norm.gamma / np.sqrt(norm.moving_variance + norm.epsilon)
    latent.assign(largest * latent / np.abs(latent * gain).max())
    return model


def latent_kernel(model):
    return model.get_layer("conv").kernel.latent_variable


@pytest.mark.parametrize("policy", TOLERANCE)
def test_a_kernel_that_has_its_weights_magnitude_takes_gain_and_bias(policy):
    model = magnitude_aware(policy, largest=0.9)
    folded = nobn.fold_batch_norm(model)
    assert names_of(folded) == ["conv"]
    assert difference(model, folded) < TOLERANCE[policy]
    assert_allclose(np.abs(latent_kernel(folded)).max(), 0.9, rtol=1e-6)
    assert split_kernel(kernel_value(folded.get_layer("conv").kernel)) is not None


def test_latent_weights_stay_where_they_have_a_gradient():
    model = magnitude_aware("float32", largest=1.1)
    folded = nobn.fold_batch_norm(model)
    assert isinstance(folded.get_layer("norm"), nobn.layers.ChannelAffine)
    assert_array_equal(latent_kernel(folded), latent_kernel(model))


def test_no_layer_is_called_batch_normalization_afterwards():
    x = image = keras.Input((4, 4, 3))
    given = ("batch_normalization", "batch_normalization_1", "mine")
    for name in given:
        x = BatchNorm(name=name)(layers.ReLU()(x))
    x = nobn.layers.ChannelAffine(name="channel_affine")(layers.ReLU()(x))
    folded = nobn.fold_batch_norm(keras.Model(image, x))
    kinds = (x for x in folded.layers if isinstance(x, nobn.layers.ChannelAffine))
    expected = ["channel_affine_1", "channel_affine_1_1", "mine", "channel_affine"]
    assert [layer.name for layer in kinds] == expected


def test_binary_kernels_stay_binary():
    """A plain one, and one after which gains are 0."""

    def build():
        plain = layers.Conv2D(6, 3, use_bias=False, name="plain")
        return beside(
            [lq.quantizers.SteSign(), plain, BatchNorm(name="norm")],
            [binary_conv(6, name="conv"), BatchNorm(name="zeros")],
        )

    def change(model):
        kernel, gamma = model.get_layer("plain").kernel, model.get_layer("zeros").gamma
        kernel.assign(2.0 * np.sign(kernel))
        gamma.assign(np.where(np.arange(6) < 3, 0, gamma))

    folded, _ = fold(build, change)
    assert np.all(np.abs(folded.get_layer("plain").kernel) == 2)
    assert np.sum(folded.get_layer("zeros").gamma == 0) == 3


def test_a_pool_lies_between_and_batch_norms_in_a_row_go_one_by_one():
    def build():
        return beside(
            [layers.Conv2D(6, 3), layers.MaxPool2D(name="pool"), BatchNorm(name="max")],
            [layers.Dense(6, name="dense"), BatchNorm(name="a"), BatchNorm(name="b")],
            [layers.ReLU(name="relu"), BatchNorm(name="first"), BatchNorm(name="last")],
        )

    folded, changes = fold(build)
    assert changes["max"].action == AFFINE
    assert changes["max"].reason.startswith("'pool' (MaxPooling2D) lies before it")
    assert names_of(folded, 1) == ["dense"]
    assert changes["b"].action == "folded into 'dense'"
    assert names_of(folded, 2) == ["relu", "first", "last"]


def test_a_convolution_that_others_read_is_left_alone():
    readers = {
        "shortcut": lambda x, y: [layers.Add()([x, y])],
        "output": lambda x, y: [x, y],
        "twice": lambda x, y: [layers.Concatenate()([x, y, x])],
    }

    def build():
        inputs, outputs = keras.Input(SHAPE), []
        for name, read in readers.items():
            x = layers.Conv2D(6, 3, name=name)(inputs)
            outputs += read(x, BatchNorm(name=f"{name}_norm")(x))
        return keras.Model(inputs, outputs, name="branches")

    _, changes = fold(build)
    for name in readers:
        change = changes[f"{name}_norm"]
        assert change.action == AFFINE
        assert f"'{name}' (Conv2D) is read elsewhere too" in change.reason


def test_shared_layers_stay_shared():
    """Two images through a pair, a batch norm, one after two, and two after one."""

    def build():
        images = left, right = keras.Input(SHAPE), keras.Input(SHAPE)
        conv = lambda name: layers.Conv2D(6, 3, name=name)  # noqa: E731
        pair = keras.Sequential([conv("pair"), BatchNorm(name="pair_norm")])
        row = [layers.ReLU(name="relu"), BatchNorm(name="alone")]
        alone = keras.Sequential(row)
        outputs = [layers.Subtract()([x(left), x(right)]) for x in (pair, alone)]
        both, one = BatchNorm(name="both"), conv("one")
        parts = [both(conv("a")(left)), both(conv("b")(left))]
        outputs.append(layers.Subtract()(parts))
        parts = [BatchNorm(name="first")(one(left)), BatchNorm(name="last")(one(right))]
        return keras.Model(images, [*outputs, layers.Subtract()(parts)], name="net")

    folded, changes = fold(build)
    assert changes["pair_norm"].action == "folded into 'pair'"
    assert len(folded.get_layer("pair").inbound_nodes) == 2
    assert "'relu' (ReLU)" in changes["alone"].reason
    assert len(folded.get_layer("alone").inbound_nodes) == 2
    assert changes["both"].action == "folded into 'a' and 'b'"
    for name in ("first", "last"):
        assert changes[name].action == AFFINE
        assert "'one' is used elsewhere too" in changes[name].reason


def test_without_batch_norm_the_copy_is_equal():
    assert fold(lambda: chain(layers.Conv2D(6, 3), layers.ReLU()))[1] == {}


def test_metrics_of_the_given_model_stay():
    with lq.context.metrics_scope(["flip_ratio"]):
        inputs = keras.Input((4, 4, 3))
        signs = {"input_quantizer": "ste_sign", "kernel_quantizer": "ste_sign"}
        x = lq.layers.QuantConv2D(4, 3, kernel_constraint="weight_clip", **signs)(
            inputs
        )
        model = keras.Model(inputs, keras.layers.BatchNormalization()(x))
    counts = [v for metric in model.metrics for v in metric.variables]
    before = [count.numpy() for count in counts]
    assert counts
    for tool in (nobn.fold_batch_norm, nobn.remove_batch_norm, nobn.deploy.prepared):
        tool(model)
        for count, value in zip(counts, before, strict=True):
            assert_array_equal(count, value)
