"""One quantizer object in several layers, and what files contain of it."""

import larq as lq
import numpy as np
import pytest
from larq_nobn._keras import keras
from larq_nobn.quantizers import (
    BernoulliSign,
    BinaryRegularized,
    ReCU,
    ReSTE,
    RSign,
    ScaledStdSign,
    SignSwish,
)

KERNELS = {
    "recu": lambda: ReCU(),
    "reste": lambda: ReSTE(),
    "scaled": lambda: ScaledStdSign(),
    "regularized": lambda: BinaryRegularized(ScaledStdSign(gain=False)),
    "measured": lambda: BernoulliSign(metrics=["flip_ratio"]),
}
INPUTS = {
    "rsign": lambda: RSign(),
    "rsign of reste": lambda: RSign(shift=False, estimator="reste"),
    "swish": lambda: SignSwish(trainable_beta=True),
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
    for shared in (BernoulliSign(), lq.quantizers.SteSign()):
        layers = [conv(kernel_quantizer=shared) for _ in range(2)]
        assert chain(*layers)(X).shape == X.shape


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
