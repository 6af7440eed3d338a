"""One quantizer object in several layers, and what files contain of it."""

import larq_nobn as nobn
import larq as lq
import numpy as np
import pytest
import tensorflow as tf
from larq_nobn._keras import keras
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

MEASURED = {"metrics": ["flip_ratio"]}
KERNELS = {
    "biper": lambda: BiPer(),
    "recu": lambda: ReCU(),
    "reste": lambda: ReSTE(),
    "standardized": lambda: ScaledStandardization(),
    "scaled": lambda: ScaledStdSign(),
    "swish": lambda: SignSwish(trainable_beta=True),
    "regularized": lambda: BinaryRegularized("ste_sign"),
    "measured bernoulli": lambda: BernoulliSign(**MEASURED),
    "measured sigmoid": lambda: SigmoidSign(**MEASURED),
    "measured without gain": lambda: ScaledStdSign(gain=False, **MEASURED),
}
INPUTS = {
    "progressive": lambda: ProgressiveSign(shift=False),
    "rsign": lambda: RSign(),
    "rsign of reste": lambda: RSign(shift=False, estimator="reste"),
    "swish": lambda: SignSwish(trainable_beta=True),
    "reste": lambda: ReSTE(),
}
STATELESS = {
    "scaled": lambda: ScaledStdSign(gain=False),
    "bernoulli": lambda: BernoulliSign(),
    "biper": lambda: BiPer(gain=False),
    "sigmoid": lambda: SigmoidSign(),
    "swish": lambda: SignSwish(),
    "larq's": lambda: lq.quantizers.SteSign(),
}
X = np.random.default_rng(2).normal(size=(2, 2, 2, 3)).astype("f4")


def conv(**kwargs):
    return lq.layers.QuantConv2D(3, 3, padding="same", pad_values=1.0, **kwargs)


def chain(*layers):
    return keras.Sequential([keras.Input((2, 2, 3)), *layers])


def params(table):
    return [pytest.param(make, id=name) for name, make in table.items()]


@pytest.fixture(autouse=True)
def scope():
    # Larq leaves its own open where a layer raises.
    with lq.context.quantized_scope(False):
        yield


def refused(first, second, kind):
    pattern = (
        f"One {kind} object is given to layers {first.name!r} and {second.name!r}, but "
        "its weights and metrics belong to one layer. Give each layer a quantizer of "
    )
    return pytest.raises(ValueError, match=pattern)


@pytest.mark.parametrize("make", params(KERNELS))
def test_a_second_kernel_is_rejected(make):
    shared = make()
    one, two = (conv(kernel_quantizer=shared) for _ in range(2))
    with refused(one, two, type(shared).__name__):
        chain(one, two)
    assert chain(one, conv(kernel_quantizer=make()))(X).shape == X.shape


@pytest.mark.parametrize("make", params(INPUTS))
def test_a_second_input_is_rejected(make):
    shared = make()
    one, two = (conv(input_quantizer=shared) for _ in range(2))
    with refused(one, two, type(shared).__name__):
        chain(one, two)
    other = keras.layers.Activation(shared)
    with refused(one, other, type(shared).__name__):
        other(X)


def test_what_has_no_weights_may_be_shared():
    for name, make in STATELESS.items():
        shared = make()
        layers = [conv(kernel_quantizer=shared) for _ in range(2)]
        assert chain(*layers)(X).shape == X.shape, name


@pytest.mark.parametrize("make", [ReSTE, lambda: SignSwish(trainable_beta=True)])
def test_one_object_has_one_place_in_a_layer(make):
    shared = make()
    layer = conv(input_quantizer=shared, kernel_quantizer=shared)
    with pytest.raises(
        ValueError,
        match=f"given to layer {layer.name!r} as (input|kernel)_quantizer and ",
    ):
        layer(X)


def test_an_object_inside_another_is_one_too():
    inside = ScaledStdSign()
    one, two = (BinaryRegularized(inside) for _ in range(2))
    conv(kernel_quantizer=one)(X)
    with refused(one, two, "ScaledStdSign"):
        conv(kernel_quantizer=two)(X)


@pytest.mark.parametrize(
    "wrapper",
    [keras.layers.TimeDistributed, nobn.layers.BatchNormalizationPreconditioning],
)
def test_wrapped_layers_are_layers(wrapper):
    shared = ScaledStdSign()
    x = X[None] if wrapper is keras.layers.TimeDistributed else X
    one, two = (wrapper(conv(kernel_quantizer=shared)) for _ in range(2))
    one(x, training=True), one(x), one.layer(X)
    with pytest.raises(ValueError, match="One ScaledStdSign object is given to layers"):
        two(x)


def test_a_layer_may_read_the_kernel_of_another():
    layer = conv(input_quantizer=RSign(), kernel_quantizer=ScaledStdSign())
    layer(X)
    reader = keras.layers.Lambda(lambda x: x + tf.reduce_sum(layer.kernel))
    with lq.context.quantized_scope(True):
        assert reader(X).shape == X.shape
    assert layer(X).shape == X.shape


def test_one_layer_may_be_called_again():
    first, last = RSign(), RSign()
    layer = conv(input_quantizer=first, kernel_quantizer=ScaledStdSign())
    inputs = keras.Input((2, 2, 3))
    # A quantizer that is a layer of the model is shared as any other layer.
    model = keras.Model(inputs, last(layer(last(layer(inputs)))))
    assert len(model.trainable_weights) == 5
    part = keras.Model(model.input, model.layers[-2].output)
    around = keras.Sequential([keras.Input((2, 2, 3)), part])
    np.testing.assert_array_equal(around(X), part(X))
    again = keras.models.clone_model(model)
    again.set_weights(model.get_weights())
    np.testing.assert_array_equal(again(X), model(X))


def test_blocks_by_alias_have_weights_of_their_own(tmp_path):
    names = {"input_quantizer": "rsign", "kernel_quantizer": "scaled_std_sign"}
    models = [chain(*(conv(**names) for _ in range(3))) for _ in range(2)]
    model, again = models
    assert len(model.trainable_weights) == 12  # kernel, bias, shift and gain of each
    rng = np.random.default_rng(7)
    for weight in model.trainable_weights:
        weight.assign(rng.normal(size=weight.shape))
    model.save_weights(tmp_path / "checkpoint")
    again.load_weights(tmp_path / "checkpoint").assert_existing_objects_matched()
    np.testing.assert_array_equal(again(X), model(X))
