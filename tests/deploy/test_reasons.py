"""A reason is raised by name; what nobody expected is a fault of the package."""

import larq as lq
import numpy as np
import pytest
import tensorflow as tf
from deploy.nets import binary_conv, chain, head
from larq_nobn._errors import InternalError
from larq_nobn._keras import keras
from larq_nobn.deploy import ConversionError, convert, prepared
from larq_nobn.deploy.prepare import _prepare
from larq_nobn.graph._errors import LayerError, raised_by
from larq_nobn.graph._models import flattened
from larq_nobn.layers._inference import PlainAffine

layers = keras.layers


class OnceOnly(layers.Layer):
    """A user's layer that is called in the type that it was built for, and no other."""

    def call(self, x):
        return tf.add(x, tf.ones(x.shape[-1:], tf.float16))


class Fussy(layers.Layer):
    """Cannot be called by anyone else."""

    calls = 0

    def call(self, x):
        type(self).calls += 1
        if self.calls > 1:
            return {}["nothing of the kind"]
        return 2 * x


@pytest.mark.parametrize(
    "inside, error, message",
    [
        (True, InternalError, r"layer 'quant_\w+' .* KeyError: 1403.*rep"),
        (False, KeyError, "140360990134480"),
    ],
)
def test_an_error_in_a_rule_or_between_is_no_reason(
    inside, error, message, tmp_path, monkeypatch
):
    def failing(graph, call=None):
        raise KeyError(140360990134480)

    def everywhere(graph):
        return _prepare.everywhere(graph, failing)

    monkeypatch.setattr(_prepare, "PASSES", (everywhere if inside else failing,))
    with pytest.raises(error, match=message):
        convert(chain(binary_conv(8), *head(), stem=False), tmp_path / "net.tflite")
    assert list(tmp_path.iterdir()) == []


def test_a_layer_that_cannot_be_called_in_float32_is_named():
    inputs = keras.Input((8, 8, 3))
    x = OnceOnly(name="mine", dtype="mixed_float16")(inputs)
    x = binary_conv(4, dtype="float32")(x)
    with pytest.raises(ConversionError) as caught:
        prepared(keras.Model(inputs, x))
    said = str(caught.value)
    assert "Layer 'mine' (OnceOnly) cannot be called: it raised " in said
    assert said.endswith("It computes in float32 there: remove casts to other types.")


def test_what_a_layer_raises_when_it_is_called_again_is_said_of_it():
    inputs = keras.Input((None,))
    model = keras.Model(inputs, Fussy(name="own")(inputs))
    words = r"Layer 'own' \(Fussy\) cannot be called: it raised KeyError: nothing of"
    with pytest.raises(LayerError, match=words) as caught:
        flattened(model, [keras.Input((4,))])
    assert isinstance(caught.value.__cause__, KeyError)


def test_a_quantizer_of_the_user_that_fails_is_named():
    def moody(x):
        if not isinstance(x, np.ndarray):
            return lq.math.sign(x)
        raise TypeError("no arrays")

    model = chain(binary_conv(4, kernel_quantizer=moody), stem=False)
    with pytest.raises(ConversionError, match="function 'moody' cannot be called on a"):
        prepared(model, allow_float=True)


@pytest.mark.parametrize("error", [MemoryError(), KeyboardInterrupt()])
def test_what_is_no_fault_of_a_layer_is_not_said_of_it(error):
    named = raised_by(layers.ReLU(), "cannot be called")
    with pytest.raises(type(error)) as caught, named:
        raise error
    assert caught.value is error


def test_a_layer_that_a_rewrite_made_is_none_of_the_user():
    named = raised_by(PlainAffine(0.5, 0.0, name="half"), "cannot be called")
    with pytest.raises(InternalError, match=r"'half' \(PlainAffine\) failed"), named:
        raise IndexError("list index out of range")
