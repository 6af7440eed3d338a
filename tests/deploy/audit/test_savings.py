"""Each finding has one file that shows it, and one that does not."""

import re

import larq as lq
import pytest
import tensorflow as tf
from deploy.audit.lite_files import audited, audited_chain
from deploy.nets import binary_conv, chain, scrambled
from larq_nobn._keras import keras

pytestmark = pytest.mark.convert
_layers = keras.layers
SIGNED = {"input_quantizer": "ste_sign"}


def conv(**changes):
    return binary_conv(32, name="a", **changes)


def clean():
    return conv(), binary_conv(32)


def known_sign():
    return _layers.Lambda(lq.math.sign), conv(input_quantizer=None)


# What the sentence says, the layers of a file that shows it, and of one that does not.
CHAINS = {
    "zero padding": (
        r"writes? floats, which a sign turns into bits\. .*pad_values=1\.0\. ",
        lambda: (conv(pad_values=0.0), binary_conv(32)),
        clean,
    ),
    "small map": (
        r"pads a 2x2 feature map with zeros for a 3x3 kernel, .* Convert the model",
        lambda: (_layers.AveragePooling2D(4), conv(pad_values=0.0)),
        # As large as the kernel.
        lambda: (_layers.Cropping2D(((2, 3), (3, 2))), conv(pad_values=0.0)),
    ),
    "real kernel": (
        r"Its input is binary and its kernel is not.* binary kernel_quantizer",
        lambda: (conv(kernel_quantizer=None),),
        lambda: (conv(kernel_quantizer=None, input_quantizer=None),),
    ),
    "foreign sign": (
        r"LCE does not know this sign\. .* larq\.math\.sign",
        lambda: (_layers.Lambda(tf.sign), conv(input_quantizer=None)),
        known_sign,
    ),
    "dense": (
        r"float in the file: .* FULLY_CONNECTED\. .*\.convert writes",
        lambda: (
            _layers.Flatten(),
            lq.layers.QuantDense(8, name="a", kernel_quantizer="ste_sign", **SIGNED),
        ),
        lambda: (_layers.Flatten(), _layers.Dense(8, name="a")),
    ),
}


def said(actual, layer="a"):
    """What is said about a layer, each finding with its remedy."""
    return [
        f"{saving['finding']} {saving['remedy']}"
        for saving in actual.savings
        if layer in saving["layers"]
    ]


# What several rows have for contrast comes once.
_ROWS = list(dict.fromkeys(rows for _, *pair in CHAINS.values() for rows in pair))


@pytest.fixture(scope="module")
def side_by_side():
    """The audit of one file of all chains, and the name that each gives to its 'a'."""
    inputs, ends, names = [], [], {}
    for i, rows in enumerate(_ROWS):
        x = keras.Input((8, 8, 32))
        inputs.append(x)
        names[rows] = f"a{i}"
        for layer in rows():
            if layer.name == "a":
                layer._name = names[rows]
            x = layer(x)
        ends.append(x)
    return audited(scrambled(keras.Model(inputs, ends, name="all"))), names


@pytest.mark.parametrize("name", CHAINS)
def test_findings(name, side_by_side):
    sentence, shown, other = CHAINS[name]
    actual, names = side_by_side
    for rows in (shown, other):
        matching = [t for t in said(actual, names[rows]) if re.search(sentence, t)]
        assert bool(matching) == (rows is shown)


def test_a_clean_network_has_no_findings():
    layers = [binary_conv(64), _layers.BatchNormalization(), binary_conv(32)]
    assert audited_chain(*layers).savings == []


def test_the_float_fraction_names_its_largest_layer():
    model = chain(binary_conv(32, strides=2), _layers.Conv2D(2, 1, name="a"))
    (text,) = said(audited(model), "stem")
    # The stem has 64 * 27 * 32, "a" has 16 * 32 * 2, binary are 16 * 9 * 32 * 32.
    assert text.startswith("28% of all multiplications are not binary, and 98% of")
    small = audited_chain(binary_conv(32), _layers.Conv2D(2, 1, name="a"))
    assert small.float_macs == 8 * 8 * 32 * 2
    assert said(small) == []
