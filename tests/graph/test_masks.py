"""Masks reach the layers that read them, however the layers before are rewritten."""

import larq_nobn as nobn
import larq as lq
import numpy as np
import pytest
from deploy.nets import scrambled
from larq_nobn._keras import keras
from numpy.testing import assert_allclose, assert_array_equal

layers = keras.layers
STEPS, IDS = 4, 5


class Through(layers.Layer):
    """A user's layer that hands on its very input, and so its mask."""

    def call(self, inputs):
        return inputs


def dense(**changes):
    binary = {"input_quantizer": "ste_sign", "kernel_quantizer": "ste_sign"}
    constraint = {"kernel_constraint": "weight_clip"}
    return lq.layers.QuantDense(8, **{**binary, **constraint, **changes})


def norm():
    return layers.BatchNormalization()


def mean():
    return layers.GlobalAveragePooling1D()


def shortcut(x):
    return layers.Add()([x, dense()(x)])


def inside(x):
    rows = [layers.Input((STEPS, 8)), dense(), norm()]
    return mean()(keras.Sequential(rows)(x))


ROWS = {
    "batch norm": lambda x: mean()(norm()(dense()(x))),
    "dropout": lambda x: mean()(
        layers.Dropout(0.1)(norm()(dense(activation="relu")(x)))
    ),
    "lost in a sign": lambda x: mean()(lq.quantizers.SteSign()(norm()(dense()(x)))),
    "lost in what goes": lambda x: norm()(dense()(mean()(layers.Identity()(x)))),
    "handed through": lambda x: mean()(Through()(norm()(dense()(x)))),
    "shortcut": lambda x: mean()(norm()(shortcut(x))),
    "recurrent": lambda x: layers.SimpleRNN(3)(norm()(dense()(x))),
    "a sign as activation": lambda x: mean()(dense(activation="ste_sign")(norm()(x))),
    "a model inside": inside,
    "a sign of this package": lambda x: mean()(nobn.quantizers.RSign()(norm()(x))),
    "a sign as layer": lambda x: mean()(layers.Activation("rsign")(norm()(x))),
    "activations": lambda x: mean()(nobn.layers.RPReLU()(norm()(dense()(x)))),
}
LOST = [name for name in ROWS if name.startswith("lost")]


def masked(*names):
    """A model of ids with an output for each row, and ids of which some are padding."""
    ids = keras.Input((STEPS,), dtype="int32")
    x = layers.Embedding(IDS, 8, mask_zero=True, name="ids")(ids)
    model = scrambled(keras.Model(ids, [ROWS[name](x) for name in names]))
    return model, np.array([[1, 2, 0, 0], [0, 3, 4, 0], [4, 3, 2, 1]], np.int32)


def is_masked(output):
    return getattr(output, "_keras_mask", None) is not None


def test_rewritten_models_mask_what_the_given_one_does():
    model, ids = masked(*ROWS)
    made = nobn.fold_batch_norm(model, verify=False)
    for actual, given in zip(made(ids), model(ids), strict=True):
        assert_allclose(actual, given, rtol=1e-4, atol=1e-4)
        assert is_masked(actual) == is_masked(given)


def test_padding_counts_in_no_way_of_surgery_if_it_does_not_in_the_model():
    names = ("shortcut", "a sign of this package", "activations", "lost in a sign")
    model, ids = masked(*names)
    for made in (
        model,
        nobn.remove_batch_norm(model),
        nobn.deploy.fake_quantize(model, ids, verify=False),
    ):
        before = list(map(np.array, made(ids)))
        table = made.get_layer("ids").embeddings
        table.assign(np.concatenate([9 * np.ones((1, 8)), table[1:]]))
        for name, was, now in zip(names, before, made(ids), strict=True):
            moved = np.abs(now - was).max(axis=1) > 1e-3
            assert_array_equal(moved, [name in LOST] * 2 + [False])


@pytest.mark.convert
def test_a_file_masks_what_no_example_had(tmp_path):
    from larq_compute_engine.tflite.python.interpreter import Interpreter

    model, ids = masked("batch norm")
    path = tmp_path / "model.tflite"
    nobn.convert(model, path, data=np.maximum(ids, 1))
    actual = Interpreter(path.read_bytes()).predict(ids)
    assert_allclose(actual, model(ids), rtol=1e-4, atol=1e-4)
