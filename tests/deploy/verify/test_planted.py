"""Small faults planted in operations, files and folded models: each is caught.

At the beginning, in the middle and at the end, in a network whose sums are real numbers
and in one where most of them tie at 0.
"""

from functools import cache, partial

import larq_nobn as nobn
import numpy as np
import pytest
import tensorflow as tf
from deploy.nets import binary_conv, head, images, scrambled, small
from deploy.operations.programs import file_of, lowered
from deploy.verify.planting import (
    BIAS,
    BIT,
    BORDER,
    GAIN,
    LOGIT,
    SWAPPED,
    numbers,
    with_fault,
)
from larq_nobn._keras import keras
from larq_nobn.deploy import VerificationError, _prepared, convert
from larq_nobn.deploy._opening import as_functional
from larq_nobn.deploy.lite._converter import Runner
from larq_nobn.deploy.lite._file import edited, read
from larq_nobn.deploy.operations._kinds import Affine
from larq_nobn.deploy.verify._lowered import verify_file, verify_operations
from larq_nobn.graph import _copies
from larq_nobn.graph._examples import made_up
from larq_nobn.quantizers import RSign

pytestmark = pytest.mark.convert
_layers = keras.layers
PLACES = ("first", "second", "third")


@cache
def network(kind):
    """Three binary convolutions: with batch norms, or with scales that make ties."""
    inputs = keras.Input((8, 8, 3))
    x = _layers.Conv2D(8, 3, padding="same", name="stem")(inputs)
    for name in PLACES:
        tied = {"kernel_quantizer": "magnitude_aware_sign"} if kind == "tied" else {}
        x = binary_conv(8, name=name, **tied)(x)
        if not tied:
            x = _layers.BatchNormalization(name=f"{name}_norm")(x)
    for layer in head():
        x = layer(x)
    return scrambled(keras.Model(inputs, x, name=kind))


# The layer whose sign, or the output, is the first to differ.
NEXT = {"stem": "first", "first": "second", "second": "third"}


def test_what_prepared_returns_is_compared_before(monkeypatch):
    model, right = small(), _prepared.stages_of

    def wrong(*arguments):
        return with_fault(right(*arguments), BIAS, "only")

    monkeypatch.setattr(_prepared, "stages_of", wrong)
    with pytest.raises(VerificationError, match="Preparing .*: output 'output' differ"):
        nobn.deploy.prepared(model)
    assert nobn.deploy.prepared(model, verify=False)


def compared(form, model, examples):
    return verify_operations(model, form, examples)


# Places of each fault, and what is the first to differ.
CASES = {
    "normed": [
        *((BIAS, "stem"), (GAIN, "first"), (BIT, "second"), (BIAS, "third")),
        *((BORDER, "second"), (SWAPPED, "head"), (LOGIT, "head")),
    ],
    "tied": [(BIT, "stem"), (BIAS, "first"), (GAIN, "third"), (BORDER, "first")],
}


@pytest.mark.parametrize("kind", CASES)
def test_in_the_operations(kind):
    model = network(kind)
    form, examples = lowered(model), made_up(as_functional(model), 3)
    for fault, place in CASES[kind]:
        named = "" if fault is BORDER else repr(NEXT.get(place, "output"))
        named += " differs, by 100 in channel 2" if fault is LOGIT else ""
        with pytest.raises(VerificationError, match=f"Preparing .*changed.*{named}"):
            compared(with_fault(form, fault, place), model, examples)
    compared(form, model, examples)


@pytest.mark.parametrize(
    "fault, place, message",
    [
        (BIT, "second", "that of layer 'third', .* between layer 'second' and it"),
        (
            SWAPPED,
            "head",
            "no sign differs, .* after that of layer 'third': output 'output' diff",
        ),
    ],
)
def test_in_the_file(fault, place, message, tmp_path, monkeypatch):
    """What is converted has one number that is another."""
    right = _prepared.stages_of

    def wrong(*arguments):
        return with_fault(right(*arguments), fault, place, of_file=True)

    monkeypatch.setattr(_prepared, "stages_of", wrong)
    message = f"The converted file computes something.*{message}.*No file was written"
    with pytest.raises(VerificationError, match=message):
        convert(network("normed"), tmp_path / "m.tflite", data=images(4))
    assert not any(tmp_path.iterdir())


def standardized():
    inputs = keras.Input((8, 8, 3))
    x = nobn.layers.FilterResponseNormalization(name="norm")(inputs)
    x = binary_conv(4, name="conv", pad_values=0.0)(x)
    return scrambled(keras.Model(inputs, _layers.GlobalMaxPool2D()(x)))


def changed_weight(model, layer, name, change):
    weights = model.get_layer(layer).weights
    weight = next(w for w in weights if f"/{name}:" in w.name)
    value = weight.numpy()
    change(value)
    weight.assign(value)


def far_away():
    """A batch norm with a threshold that no sum reaches."""
    model = keras.models.clone_model(network("normed"))
    model.set_weights(network("normed").get_weights())
    norm = model.get_layer("first_norm")
    gamma, beta, mean, variance = norm.get_weights()
    gamma[3], mean[3], beta[3], variance[3] = 1, 50, 0, 1
    norm.set_weights([gamma, beta, mean, variance])
    return model


def folded(place, name, change, message="Folding batch norm changed what model 'norm"):
    return (
        (_copies, "to_keras"),
        lambda model: changed_weight(model, f"{place}_norm", name, change),
        nobn.fold_batch_norm,
        message,
    )


# What makes a model, a fault in that, who returns the model, and what is said.
RETURNED = {
    "with ranges": (
        (_copies, "to_keras"),
        lambda model: changed_weight(model, "head", "bias", lambda v: v.fill(7.0)),
        partial(nobn.deploy.fake_quantize, data=images(8)),
        "Making ranges visible changed .*'third'",
    ),
    "frozen": (
        (_copies, "to_keras"),
        lambda model: changed_weight(model, "conv", "kernel", lambda v: v.__imul__(-1)),
        partial(nobn.freeze_statistics, data=images(8)),
        "Freezing statistics changed .*'conv'",
    ),
    "folded, a bias": folded("first", "beta", lambda v: v.__setitem__(3, v[3] + 1.0)),
    "folded, out of reach": folded(
        *("first", "beta", lambda v: v.__setitem__(3, 0.8 * v[3])),
        "the threshold of layer 'second' differs",
    ),
}
MODELS = {"frozen": standardized, "folded, out of reach": far_away}


@pytest.mark.parametrize("name", RETURNED)
def test_what_is_returned_is_compared_before(name, monkeypatch):
    maker, fault, use, message = RETURNED[name]
    model = MODELS.get(name, lambda: network("normed"))()
    right = getattr(*maker)

    def wrong(*arguments, **options):
        made = right(*arguments, **options)
        if not options.get("shared"):  # or the given model would have the fault, too
            fault(made)
        return made

    monkeypatch.setattr(*maker, wrong)
    with pytest.raises(ValueError, match=message):
        use(model)
    assert use(model, verify=False)


def test_a_threshold_far_from_0_is_passed():
    """Numbers of a standard deviation of 1 are never beyond it."""
    shift = -4.0
    inputs = keras.Input((8, 8, 3))
    sign = nobn.quantizers.RSign(offset=shift)
    x = binary_conv(8, name="first", input_quantizer=sign)(inputs)
    model = scrambled(keras.Model(inputs, _layers.GlobalAveragePooling2D()(x)))
    sign.shift.assign(tf.fill([3], shift))
    fault = Affine, numbers("b", lambda b: b.__setitem__(1, b[1] + 1.0))
    with pytest.raises(VerificationError, match="that of layer 'first'"):
        compared(with_fault(lowered(model), fault, "first"), model, made_up(model, 3))


# What a threshold is behind, and how many groups of channels read it.
BEHIND = {
    "nothing": (lambda x: x, 1),
    "a maximum": (lambda x: _layers.MaxPooling2D(2)(x), 1),
    "a rectifier": (lambda x: _layers.ReLU()(x), 1),
    "groups": (lambda x: x, 2),
}


@pytest.mark.parametrize("kind", BEHIND)
def test_a_threshold_that_no_sum_reaches(kind):
    """Of 72 signs the sum is 50 in no example, nor 40: no sign says where it is.

    What is between rises, so that two forms are 0 at the same number.
    """
    keras.utils.set_random_seed(0)
    (after, groups), start = BEHIND[kind], keras.Input((6, 6, 8))
    x = after(binary_conv(8, name="first")(start))
    norm = _layers.BatchNormalization(name="norm")
    x = binary_conv(4, name="second", groups=groups)(norm(x))
    model = keras.Model(start, _layers.GlobalAveragePooling2D()(x))
    mean = np.zeros(8, np.float32)
    mean[5] = 50
    norm.set_weights([np.ones(8), np.zeros(8), mean, np.ones(8)])
    examples = made_up(model, 3)
    compared(lowered(model), model, examples)
    fault = Affine, numbers("b", lambda b: b.__setitem__(5, 0.8 * b[5]))
    message = "threshold of layer 'second' differs by .* in channel 5, .* no example"
    with pytest.raises(VerificationError, match=message):
        compared(with_fault(lowered(model), fault, "norm"), model, examples)


# What is between two binary convolutions that hand bits on.
BETWEEN = {
    "a batch norm": lambda x, norm: norm(x),
    "a maximum": lambda x, norm: _layers.MaxPooling2D(2)(norm(x)),
    "a rectified sum": lambda x, norm: norm(_layers.ReLU()(x)),
    "a shifted sign": lambda x, norm: x,
}


@pytest.mark.parametrize(
    "kind, gain", [("a batch norm", -0.7), *((kind, 1.0) for kind in BETWEEN)]
)
def test_such_a_threshold_inside_a_file(kind, gain):
    """An operation that writes bits has it as a number of bits that differ."""
    keras.utils.set_random_seed(0)
    start, norm = keras.Input((6, 6, 8)), _layers.BatchNormalization(name="norm")
    x = BETWEEN[kind](binary_conv(8, padding="valid", name="first")(start), norm)
    sign = RSign() if kind == "a shifted sign" else "ste_sign"
    x = binary_conv(4, name="second", input_quantizer=sign)(x)
    model = keras.Model(start, _layers.GlobalAveragePooling2D()(x))
    mean = np.float32([-3, 1, 4, 51, 0.3, -50, 9, 2])
    gamma = np.full(8, abs(gain) if "maximum" in kind else gain, np.float32)
    if kind == "a shifted sign":
        sign.set_weights([-mean])
    else:
        norm.set_weights([gamma, np.zeros(8), mean, np.ones(8)])
    form, examples = lowered(model), made_up(model, 3)
    content = file_of(model)
    _, wanted = compared(form, model, examples)
    (bits,) = (
        op for op in read(content, "it")[0].operations if op.op == "LceBconv2d"
        and op.writes_bits
    )  # fmt: skip

    def verified(away):
        def change(file):
            data = file.buffers[bits.inputs[-1].buffer].data.view(np.int32).copy()
            data[3] += away
            file.buffers[bits.inputs[-1].buffer].data = data.view(np.uint8)

        changed = edited(content, change)
        runner = Runner(changed)
        return verify_file(form, wanted, changed, runner, examples, 1e-3)

    assert verified(0)["unexplained"] == 0
    for away in (-1, 4):
        with pytest.raises(
            VerificationError, match="the threshold between .* channel 3, "
        ):
            verified(away)
