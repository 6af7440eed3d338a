"""Where faults of operations and of the file lie, and what excuses them."""

from dataclasses import replace
from functools import cache

import larq_nobn as nobn
import larq as lq
import numpy as np
import pytest
import tensorflow as tf
from deploy import nets
from deploy.nets import binary_conv, chain, head, images
from deploy.operations.programs import file_of, lowered
from deploy.verify.planting import numbers, with_fault
from larq_nobn._keras import keras
from larq_nobn.deploy import VerificationError, _prepared
from larq_nobn.deploy import convert as convert_to
from larq_nobn.deploy.lite import _converter, _file
from larq_nobn.deploy.lite._converter import Runner
from larq_nobn.deploy.operations._kinds import Affine
from larq_nobn.deploy.operations._rules import reduced, spelled
from larq_nobn.deploy.verify._file_values import file_signs

pytestmark = pytest.mark.convert
_layers = keras.layers
small = cache(nets.small)


@pytest.fixture
def convert(tmp_path):
    """Converts, and sees to it that a failure leaves nothing."""

    def run(model, **options):
        try:
            return convert_to(model, tmp_path / "m.tflite", **options).verify
        except VerificationError:
            assert not any(tmp_path.iterdir())
            raise

    return run


def test_the_file_with_its_signs_made_visible_must_be_the_same():
    model = small()
    form, runner = lowered(model), Runner(file_of(model))
    runner.outputs = lambda examples: [np.ones((2, 5))]
    content = file_of(model)
    graph = _file.read(content, "it")[0]
    _, read = file_signs(form, form.traced.signs(), content, graph, runner)
    with pytest.raises(VerificationError, match="made visible.* depends on more"):
        read([images(2)])


@pytest.mark.parametrize("groups", [1, 2])
def test_signs_that_get_a_border_or_come_in_parts_are_compared(convert, groups):
    """A causal layer pads its signs in front alone."""
    late = {"kernel_size": 3, "padding": "causal", "groups": groups, **nets.SIGNS}
    first, last = _layers.Dense(8), lq.layers.QuantConv1D(6, **late)
    model = chain(first, last, _layers.Flatten(), stem=False, shape=(5, 4))
    verified = convert(model)
    assert verified["segments"]["signs"] == verified["examples"] * 5 * 8


def smooth(x):
    return tf.stop_gradient(lq.math.sign(x) - tf.tanh(x)) + tf.tanh(x)


@pytest.mark.parametrize("quantizer", [smooth, "ste_heaviside"])
def test_signs_in_other_words_are_compared(convert, quantizer):
    layer = binary_conv(8, input_quantizer=quantizer, pad_values=0.0)
    verified = convert(chain(layer, *head()))
    assert verified["segments"]["signs"] == verified["examples"] * 8 * 8 * 32


def shifted_by(amount, monkeypatch):
    """Every RSign gets another threshold in the operations."""
    fault = Affine, numbers("b", lambda b: np.add(b, amount, out=b))
    right = _prepared.stages_of

    def wrong(*arguments):
        stages = with_fault(right(*arguments), fault, "conv")
        program = spelled(reduced(stages.lowered.program), "lce")
        return replace(stages, spelled=program)

    monkeypatch.setattr(_prepared, "stages_of", wrong)


def on_the_edge(threshold=-0.5):
    """A model and inputs of which one pixel in two examples lies at a number."""
    conv = binary_conv(4, name="conv", input_quantizer=nobn.quantizers.RSign())
    model = chain(conv, *head(), stem=False, shape=(4, 4, 4))
    conv.input_quantizer.shift.assign(np.full(4, 0.5))
    inputs = images(6, (4, 4, 4))
    inputs += np.where(inputs > -0.5, 0.1, -0.1)
    inputs[1, 2, 2, 0] = inputs[4, 0, 1, 3] = threshold
    return model, inputs


def test_a_flip_within_rounding_is_explained(convert, monkeypatch):
    model, inputs = on_the_edge()
    actual = convert(model, data=inputs)
    assert actual["exact_share"] == actual["prepared"]["exact_share"] == 1
    shifted_by(-1e-7, monkeypatch)
    actual = convert(model, data=inputs)["prepared"]
    assert actual["explained"] == 2
    assert actual["exact_share"] == pytest.approx(4 / 6)
    assert actual["worst_rel"] > 1e-3


def test_a_flip_outside_rounding_is_not(convert, monkeypatch):
    model, inputs = on_the_edge(-0.495)
    shifted_by(-0.01, monkeypatch)
    with pytest.raises(VerificationError, match="2 of 6 examples.*layer 'conv', whose"):
        convert(model, data=inputs)


def test_the_tolerance_decides(convert, monkeypatch):
    right = _converter.to_flatbuffer

    def louder(function, *rest):
        return right(lambda x: [1.01 * y for y in function(x)], *rest)

    monkeypatch.setattr(_converter, "to_flatbuffer", louder)
    with pytest.raises(VerificationError, match=r"\d+ of 6 .* tolerance=0\.005"):
        convert(small(), tolerance=0.005, data=images(6))
    actual = convert(small(), tolerance=0.02, data=images(6))
    assert actual["worst_rel"] == pytest.approx(0.01, rel=0.01)


class Moody(_layers.Layer):
    """Computes something else in each call."""

    calls = 0

    def call(self, inputs):
        self.calls += 1
        return self.calls * inputs


def test_layers_that_depend_on_more_than_their_input_are_found(convert):
    model = chain(binary_conv(8, name="conv"), Moody(name="moody"), *head())
    message = "Tracing the model changed .*: output 'output' differs, by .* depends on"
    with pytest.raises(VerificationError, match=message):
        convert(model, data=images(4))


def noisy(x):
    """Sums of ±0.1 in float, which should be 0 and are not, in an order of its own.

    TensorFlow adds up parts of a row at a time on every CPU, TensorFlow Lite does not.
    """
    shape = *x.shape[1:3], 8, x.shape[3] // 8
    signs = _layers.Reshape(shape)(_layers.Activation("ste_sign")(x))
    return _layers.Lambda(lambda x: tf.reduce_sum(0.1 * x, -1))(signs)


def sign_of_a_sign(x):
    """Of the first, the file has the bits under the name of the second."""
    return binary_conv(8)(_layers.Activation(nobn.quantizers.SignSwish())(noisy(x)))


def maximum_of_signs(x):
    """LCE takes the sign before the pool, and gives it the name of what is after."""
    x, shared = _layers.Activation("tanh")(noisy(x)), binary_conv(8)
    ends = _layers.MaxPooling2D()(shared(x)), shared(_layers.MaxPooling2D()(x))
    return _layers.Concatenate()(ends)


def test_signs_under_the_name_of_another_are_known(convert):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6, 6, 256))
    model = keras.Model(inputs, [sign_of_a_sign(inputs), maximum_of_signs(inputs)])
    report = convert(model, allow_float=True, data=images(16, (6, 6, 256)))
    assert report["segments"]["compared"] > 4
    assert report["unexplained"] == 0 and report["explained"] > 0


def test_dense_layers_of_several_maps_at_once(convert):
    """Their rows are positions of all examples."""
    inputs = keras.Input((4, 4, 8))
    dense = lq.layers.QuantDense(
        8, input_quantizer="ste_sign", kernel_quantizer="ste_sign", use_bias=False
    )
    report = convert(keras.Model(inputs, dense(inputs)), batch_size=3)
    assert report["exact_share"] == 1
