"""Small faults planted in prepared models, files and folded models: each is caught.

At the beginning, in the middle and at the end, in a network whose sums are real numbers
and in one where most of them tie at 0.
"""

from functools import cache

import larq_nobn as nobn
import numpy as np
import pytest
import tensorflow as tf
from deploy.nets import binary_conv, head, images, scrambled
from larq_nobn._keras import keras
from larq_nobn.deploy import VerificationError, _convert, convert
from larq_nobn.deploy._opening import as_functional
from larq_nobn.deploy.int8 import _fake_quantize
from larq_nobn.deploy.lite import Runner, inference, io_spec, read, to_flatbuffer
from larq_nobn.deploy.lite._file import edited
from larq_nobn.deploy.prepare import BinaryConvolution, prepare
from larq_nobn.deploy.verify import _verify, verify_file, verify_prepared
from larq_nobn.graph import ModelError, made_up
from larq_nobn.quantizers import RSign
from larq_nobn.surgery import _fold
from larq_nobn.surgery.statistics import _freeze

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


def bias(layer):
    if isinstance(layer, BinaryConvolution):
        offset = np.zeros(8, np.float32) if layer.offset is None else layer.offset
        offset = np.array(offset)
        offset[3] += 2.0
        layer.offset = tf.constant(offset)
    else:
        changed(layer, "bias", lambda value: value.__setitem__(1, value[1] + 0.1))


def bit(layer):
    changed(layer, "kernel", lambda value: value.__setitem__(*negated(value)))


def negated(value):
    place = (0, 0, 1, 2)[-value.ndim :]
    return place, -value[place]


def gain(layer):
    if isinstance(layer, BinaryConvolution):
        scale = np.ones(8, np.float32) * np.array(
            1.0 if layer.scale is None else layer.scale
        )
        scale[2] *= -1.5
        layer.scale = tf.constant(scale)
    else:
        changed(layer, "kernel", lambda value: value.__setitem__(..., value * 1.1))


def swapped(layer):
    changed(
        layer,
        "kernel",
        lambda value: value.__setitem__((..., [0, 1]), np.array(value[..., [1, 0]])),
    )


def border(layer):
    """Pads with the other number, so that only the border of a map is wrong."""
    pads = float(keras.backend.get_value(layer.pad_values))
    layer.pad_values = 1.0 - pads


def changed(layer, name, change):
    weight = getattr(layer, name)
    value = weight.numpy()
    change(value)
    weight.assign(value)


FAULTS = (bias, bit, gain, swapped)


def refused(kind, fault, place):
    """What is said of the prepared form of a network with a fault in one layer."""
    model = as_functional(network(kind))
    prepared = prepare(model)
    fault(prepared.get_layer(place))
    with pytest.raises(VerificationError, match="Preparing the model changed") as found:
        verify_prepared(model, model, prepared, made_up(model, 3))
    return str(found.value)


@pytest.mark.parametrize("place", ["stem", *PLACES, "head"])
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("kind", ["normed", "tied"])
def test_in_what_is_prepared(kind, fault, place):
    said = refused(kind, fault, place)
    following = {"stem": "first", "first": "second", "second": "third"}
    assert repr(following.get(place, "head")) in said


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", ["normed", "tied"])
def test_at_the_border(kind, place):
    refused(kind, border, place)


@pytest.mark.parametrize("kind", ["normed", "tied"])
def test_no_tie_excuses_a_wrong_logit(kind):
    def wrong(layer):
        changed(layer, "bias", lambda value: value.__setitem__(2, value[2] + 100))

    assert "output 'head' differs, by 100 in channel 2" in refused(kind, wrong, "head")


@pytest.mark.parametrize("place", ["stem", "second", "head"])
@pytest.mark.parametrize("fault", [bias, bit, swapped])
def test_in_the_file(fault, place, tmp_path, monkeypatch):
    """The converter gets a model in which one number is another."""
    kind = "tied" if fault is swapped else "normed"
    right = _convert.to_flatbuffer
    prepared = {}
    real = _convert.prepare

    def kept(*arguments):
        prepared["model"] = real(*arguments)
        return prepared["model"]

    def wrong(*arguments):
        layer = prepared["model"].get_layer(place)
        numbers = {name: getattr(layer, name, None) for name in ("scale", "offset")}
        weights = layer.get_weights()
        fault(layer)
        try:
            return right(*arguments)
        finally:
            layer.set_weights(weights)
            vars(layer).update(numbers)

    monkeypatch.setattr(_convert, "prepare", kept)
    monkeypatch.setattr(_convert, "to_flatbuffer", wrong)
    with pytest.raises(
        VerificationError, match="The converted file computes something"
    ):
        convert(network(kind), tmp_path / "m.tflite", verify=False)
    assert not any(tmp_path.iterdir())


def folded_wrongly(monkeypatch, place, name, change):
    right = _fold.to_keras

    def wrong(*arguments):
        model = right(*arguments)
        layer = model.get_layer(place)
        weight = next(w for w in layer.weights if f"/{name}:" in w.name)
        value = weight.numpy()
        change(value)
        weight.assign(value)
        return model

    monkeypatch.setattr(_fold, "to_keras", wrong)


FOLDED = {
    "a bias": ("beta", lambda value: value.__setitem__(3, value[3] + 1.0)),
    "a gain": ("gamma", lambda value: value.__setitem__(2, -value[2])),
    "two channels": ("beta", lambda value: value.__setitem__(..., np.roll(value, 1))),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("fault", FOLDED)
def test_in_what_is_folded(fault, place, monkeypatch):
    folded_wrongly(monkeypatch, f"{place}_norm", *FOLDED[fault])
    with pytest.raises(ModelError, match="Folding batch norm changed what model 'norm"):
        nobn.fold_batch_norm(network("normed"))
    assert nobn.fold_batch_norm(network("normed"), verify=False)


def test_without_faults_all_pass(tmp_path):
    for kind in ("normed", "tied"):
        assert convert(network(kind), tmp_path / "m.tflite").verify["unexplained"] == 0
    nobn.fold_batch_norm(network("normed"))


def test_what_is_prepared_is_compared_before_it_is_returned(monkeypatch):
    right = _convert.prepare

    def wrong(*arguments, **options):
        model = right(*arguments, **options)
        bit(model.get_layer("second"))
        return model

    monkeypatch.setattr(_convert, "prepare", wrong)
    with pytest.raises(VerificationError, match="layer 'third'"):
        nobn.deploy.prepared(network("normed"))
    assert nobn.deploy.prepared(network("normed"), verify=False)


def test_what_gets_ranges_is_compared_before_it_is_returned(monkeypatch):
    right = _fake_quantize.to_keras

    def wrong(graph):
        model = right(graph)
        changed(model.get_layer("head"), "bias", lambda value: value.fill(7.0))
        return model

    monkeypatch.setattr(_fake_quantize, "to_keras", wrong)
    with pytest.raises(ValueError, match="Making ranges visible changed .*'third'"):
        nobn.deploy.fake_quantize(network("normed"), images(8))
    assert nobn.deploy.fake_quantize(network("normed"), images(8), verify=False)


def test_what_is_frozen_is_compared_before_it_is_returned(monkeypatch):
    inputs = keras.Input((8, 8, 3))
    x = nobn.layers.FilterResponseNormalization(name="norm")(inputs)
    x = binary_conv(4, name="conv", pad_values=0.0)(x)
    model = scrambled(keras.Model(inputs, _layers.GlobalMaxPool2D()(x)))
    right = _freeze.to_keras

    def wrong(*arguments):
        made = right(*arguments)
        kernel = made.get_layer("conv").weights[0]
        kernel.assign(-kernel)
        return made

    assert nobn.freeze_statistics(model, images(8))
    monkeypatch.setattr(_freeze, "to_keras", wrong)
    with pytest.raises(ModelError, match="Freezing statistics changed .*'conv'"):
        nobn.freeze_statistics(model, images(8))
    assert nobn.freeze_statistics(model, images(8), verify=False)


@pytest.mark.parametrize("shift", [4.0, -4.0])
def test_a_threshold_far_from_0_is_passed(shift):
    """Numbers of a standard deviation of 1 are never beyond it."""
    inputs = keras.Input((8, 8, 3))
    sign = nobn.quantizers.RSign(offset=shift)
    x = binary_conv(8, name="first", input_quantizer=sign)(inputs)
    model = scrambled(keras.Model(inputs, _layers.GlobalAveragePooling2D()(x)))
    sign.shift.assign(tf.fill([3], shift))
    prepared = prepare(model)
    quantizer = prepared.get_layer("first").input_quantizer
    quantizer.shift = quantizer.shift + tf.constant([0.0, 1.0, 0.0])
    with pytest.raises(VerificationError, match="that of layer 'first'"):
        verify_prepared(model, model, prepared, made_up(model, 3))


def out_of_reach(place, threshold):
    """The network with batch norms, one of which has a threshold beyond all sums."""
    model = keras.models.clone_model(network("normed"))
    model.set_weights(network("normed").get_weights())
    norm = model.get_layer(f"{place}_norm")
    gamma, beta, mean, variance = norm.get_weights()
    gamma[3], mean[3], beta[3], variance[3] = np.sign(threshold), threshold, 0, 1
    norm.set_weights([gamma, beta, mean, variance])
    return model


@pytest.mark.parametrize("threshold", [-50.0, 50.0, -80.0])
@pytest.mark.parametrize("place", PLACES[:2])
def test_a_threshold_deep_inside_that_no_sum_reaches(place, threshold):
    """Of 72 signs the sum is 50 in no example, nor 40: no sign says where it is."""
    model = as_functional(out_of_reach(place, threshold))
    prepared = prepare(model)
    verify_prepared(model, model, prepared, made_up(model, 3))
    layer = prepared.get_layer(place)
    offset = np.array(layer.offset)
    offset[3] *= 0.8
    layer.offset = tf.constant(offset)
    following = {"first": "second", "second": "third"}[place]
    message = f"the threshold of layer '{following}' differs by .* in channel 3, .* no "
    with pytest.raises(VerificationError, match=message):
        verify_prepared(model, model, prepared, made_up(model, 3))


# What a threshold is behind, and how many groups of channels read it.
BEHIND = {
    "a maximum": (lambda x: _layers.MaxPooling2D(2)(x), 1),
    "an average": (lambda x: _layers.AveragePooling2D(2)(x), 1),
    "a rectifier": (lambda x: _layers.ReLU()(x), 1),
    "a bounded function": (
        lambda x: _layers.Activation("tanh")(_layers.Rescaling(0.01)(x)),
        1,
    ),
    "groups": (lambda x: x, 2),
}


@pytest.mark.parametrize("kind", BEHIND)
def test_such_a_threshold_after_other_layers(kind):
    """They rise, so that two forms are 0 at the same number whatever is between."""
    keras.utils.set_random_seed(0)
    (after, groups), start = BEHIND[kind], keras.Input((6, 6, 8))
    x = after(binary_conv(8, name="first")(start))
    norm = _layers.BatchNormalization(name="norm")
    x = binary_conv(4, name="second", groups=groups)(norm(x))
    model = keras.Model(start, _layers.GlobalAveragePooling2D()(x))
    mean = np.zeros(8, np.float32)
    mean[5] = 0.48 if kind == "a bounded function" else 50
    norm.set_weights([np.ones(8), np.zeros(8), mean, np.ones(8)])
    prepared, examples = prepare(model), made_up(model, 3)
    flat = as_functional(model)
    verify_prepared(model, flat, prepared, examples)
    mean[5] *= 0.8
    norm.set_weights([np.ones(8), np.zeros(8), mean, np.ones(8)])
    message = "threshold of layer 'second' differs by .* in channel 5, .* no example"
    with pytest.raises(VerificationError, match=message):
        verify_prepared(model, flat, prepared, examples)


# What is between two binary convolutions that hand bits on.
BETWEEN = {
    "a batch norm": lambda x, norm: norm(x),
    "a maximum": lambda x, norm: _layers.MaxPooling2D(2)(norm(x)),
    "a maximum before": lambda x, norm: norm(_layers.MaxPooling2D(2)(x)),
    "a rectified sum": lambda x, norm: norm(_layers.ReLU()(x)),
    "a shifted sign": lambda x, norm: x,
}


@pytest.mark.parametrize("gain", [1.0, -0.7])
@pytest.mark.parametrize("kind", BETWEEN)
def test_such_a_threshold_inside_a_file(kind, gain):
    """An operation that writes bits has it as a number of bits that differ."""
    keras.utils.set_random_seed(0)
    start, norm = keras.Input((6, 6, 8)), _layers.BatchNormalization(name="norm")
    x = BETWEEN[kind](binary_conv(8, padding="valid", name="first")(start), norm)
    sign = RSign() if kind == "a shifted sign" else "ste_sign"
    x = binary_conv(4, name="second", input_quantizer=sign)(x)
    model = keras.Model(start, _layers.GlobalAveragePooling2D()(x))
    mean = np.float32([-3, 1, 4, 50, 0.3, -50, 9, 2])
    gamma = np.full(8, abs(gain) if "maximum" in kind else gain, np.float32)
    if kind == "a shifted sign":
        sign.set_weights([-mean])
    else:
        norm.set_weights([gamma, np.zeros(8), mean, np.ones(8)])
    prepared, examples = prepare(model), made_up(model, 3)
    content = to_flatbuffer(inference(prepared), prepared.variables, io_spec(prepared))
    wanted = _verify.outputs(prepared, examples)
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
        return verify_file(prepared, wanted, changed, Runner(changed), examples, 1e-3)

    assert verified(0)["unexplained"] == 0
    for away in (-1, 1, 4):
        with pytest.raises(
            VerificationError, match="the threshold between .* channel 3, "
        ):
            verified(away)


@pytest.mark.parametrize("threshold", [-50.0, 50.0])
def test_such_a_threshold_in_what_is_folded(threshold, monkeypatch):
    model = out_of_reach("first", threshold)
    nobn.fold_batch_norm(model)
    folded_wrongly(
        monkeypatch, "first_norm", "beta",
        lambda value: value.__setitem__(3, 0.8 * value[3]),
    )  # fmt: skip
    with pytest.raises(ModelError, match="the threshold of layer 'second' differs"):
        nobn.fold_batch_norm(model)
