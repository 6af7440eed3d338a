"""Names and classes of quantizers as the activation of a layer."""

import larq_nobn as nobn
import larq as lq
import numpy as np
import pytest
from cases import CASES
from larq_nobn._keras import keras

# By name: those of Larq that have an alias, and all of ours.
NAMES = {
    name: kind
    for name, kind in keras.utils.get_custom_objects().items()
    if isinstance(kind, type)
    and issubclass(kind, lq.quantizers.Quantizer)
    and kind.__module__.split(".")[0] in ("larq", "larq_nobn")
}
SIGNS = {
    *("ste_sign", "approx_sign", "swish_sign", "rsign", "sign_swish", "sigmoid_sign"),
    *("reste", "bernoulli_sign", "progressive_sign"),
}
LACKING = {"NoOp", "BinaryRegularized", "larq_nobn>BinaryRegularized"}
X = np.random.default_rng(3).normal(size=(4, 5, 5, 3)).astype("f4")


def test_every_quantizer_is_tried():
    ours = {
        case.cls.__name__ for case in CASES if case.role in ("kernel", "activation")
    }
    bases = {"KernelQuantizer", "ScaledKernel"}
    assert ours | bases == set(nobn.quantizers.__all__)
    assert ours | SIGNS | {"SteSign", "larq_nobn>RSign"} <= set(NAMES)


def test_a_name_is_an_object_of_the_class():
    """Eagerly, and in a model with all of them; the oracle calls an object."""
    kinds = {
        name: kind
        for name, kind in NAMES.items()
        if name not in LACKING and not getattr(kind, "by_filter", False)
    }
    inputs = keras.Input(X.shape[1:])
    of_names = [keras.layers.Activation(name)(inputs) for name in kinds]
    of_classes = [keras.layers.Activation(kind)(inputs) for kind in kinds.values()]
    actual = keras.Model(inputs, of_names + of_classes)(X)
    for place, (name, kind) in enumerate(kinds.items()):
        layer, expected = keras.layers.Activation(name), kind()(X)
        assert isinstance(layer.activation, kind), name
        for given in (layer(X), actual[place], actual[place + len(kinds)]):
            np.testing.assert_array_equal(given, expected, name)
        if name in SIGNS:
            np.testing.assert_array_equal(expected, np.where(X >= 0, 1, -1))


@pytest.mark.parametrize(
    "name", ["scaled_std_sign", "scaled_standardization", "recu", "biper"]
)
def test_kernel_quantizers_are_no_activations(name):
    kind = NAMES[name].__name__
    for layer, place in [
        (keras.layers.Activation(name), "activation"),
        (lq.layers.QuantConv2D(4, 2, activation=name), "activation"),
        (lq.layers.QuantConv2D(4, 2, input_quantizer=name), "input_quantizer"),
    ]:
        message = (
            f"{kind} quantizes kernels, but layer '{layer.name}' has it as {place}"
            r".*lq.quantizers.SteSign\(\)"
        )
        scope = lq.context.quantized_scope(False)
        with scope, pytest.raises(ValueError, match=message):
            layer(X)


@pytest.mark.parametrize("name", sorted(LACKING))
def test_what_needs_arguments_is_said(name):
    kind = NAMES[name].__name__
    with pytest.raises(ValueError, match=rf"needs arguments. Pass an object, {kind}\("):
        keras.layers.Activation(name)


def test_other_activations_are_as_ever():
    assert keras.layers.Activation("relu").activation is keras.activations.relu
    assert keras.layers.Activation(None).activation is keras.activations.linear
    given = lq.quantizers.SteSign()
    assert keras.layers.Activation(given).activation is given
    with pytest.raises(ValueError, match="Unknown activation function 'no_sign'"):
        keras.layers.Activation("no_sign")
