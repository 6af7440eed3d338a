"""Operations that few networks have: converted, or one sentence says what to do."""

import larq_nobn as nobn
import larq as lq
import numpy as np
import pytest
import tensorflow as tf
from deploy.nets import SIGNS, binary_conv, head, scrambled
from deploy.sides import beside, examples, outputs
from larq_nobn._keras import keras
from larq_nobn.deploy import ConversionError, Runner, convert

pytestmark = pytest.mark.convert
layers = keras.layers


def of_maps(function, shape=(6, 6, 8)):
    inputs = keras.Input(shape)
    x = function(inputs)
    for layer in (layers.Conv2D(8, 1), binary_conv(4), *head()):
        x = layer(x)
    return scrambled(keras.Model(inputs, x))


def normalized(t):
    gamma, beta, mean, variance = (np.linspace(0.5, n, 8, dtype="f4") for n in range(4))
    norm = tf.compat.v1.nn.fused_batch_norm
    y, first, second = norm(t, gamma + 1, beta, mean, variance + 1, is_training=False)[
        :3
    ]
    return y, first, second


def largest(k):
    return lambda t: tf.math.top_k(t, k)[0]


def pooled(count):
    return lambda t: tf.nn.max_pool(t, [1, 1, 1, count], [1, 1, 1, count], "VALID")


MAPS = {
    "a maximum of pairs": pooled(2),
    "a maximum of four": lambda t: tf.nn.relu(pooled(4)(t * t[..., ::-1])),
    "a maximum of all": pooled(8),
    "a maximum in v1": lambda t: tf.compat.v1.nn.max_pool(
        t, [1, 1, 1, 2], [1, 1, 1, 2], "VALID"
    ),
    "the mean of a norm": lambda t: sum(normalized(t)[:2]),
    "the variance of a norm": lambda t: t * normalized(t)[2],
    "the mean alone": lambda t: t + normalized(t)[1],
    "twice the same norm": lambda t: normalized(t)[0] + t * normalized(t)[1],
    "k of int64": largest(np.int64(3)),
    "k of int16": largest(np.int16(3)),
    "k of a tensor": lambda t: largest(tf.constant(3, tf.int64))(t),
    "k of Python": largest(3),
}


# After layers that rules move into one another.
BEHIND = {
    "a pool after a norm": lambda t: pooled(2)(layers.BatchNormalization()(t)),
    "a pool after signs": lambda t: layers.ReLU()(pooled(2)(binary_conv(8)(t))),
    "a norm after a pool": lambda t: layers.BatchNormalization()(pooled(4)(t)),
}


@pytest.mark.parametrize("runtime", ["lce", "litert"])
def test_they_are_converted(runtime, tmp_path):
    """Side by side; LCE has no operation that takes the largest k."""
    whole = {n: layers.Lambda(f) for n, f in MAPS.items()} | BEHIND
    kinds = {n: f for n, f in whole.items() if ("k of" in n) == (runtime != "lce")}
    model = beside(map(of_maps, kinds.values()))
    x, path = examples(model), tmp_path / "m.tflite"
    convert(model, path, data=x, runtime=runtime)
    pairs = zip(kinds, Runner(path).outputs(x), outputs(model, x), strict=True)
    for name, actual, wanted in pairs:
        np.testing.assert_allclose(actual, wanted, 1e-3, 1e-3, err_msg=name)


def of_tokens(function, steps=6, dtype="int32"):
    inputs = keras.Input((steps,), dtype=dtype)
    x = layers.Dense(8)(function(inputs))
    x = lq.layers.QuantDense(4, **SIGNS)(x)
    return scrambled(keras.Model(inputs, x))


class Looking(keras.Model):
    """A subclassed model, of which no layer says how many ids there are."""

    def __init__(self):
        super().__init__()
        self.table = layers.Embedding(7, 8)
        self.dense = lq.layers.QuantDense(4, **SIGNS)

    def call(self, ids):
        return self.dense(self.table(ids + 2))


TABLE = np.linspace(-1, 1, 40, dtype="f4").reshape(5, 8)
TOKENS = {
    "one_hot": lambda t: tf.one_hot(t, 5),
    "one_hot by name": lambda t: tf.one_hot(indices=t, depth=7, axis=1),
    "gather": lambda t: tf.gather(TABLE, t),
    "gather of columns": lambda t: tf.gather(tf.transpose(TABLE), t, axis=1)[0],
    "embedding_lookup": lambda t: tf.nn.embedding_lookup(TABLE, t),
    "Embedding": layers.Embedding(5, 8),
    "a sum before": lambda t: layers.Embedding(9, 8)(t + 3),
    "multi_hot": lambda t: layers.CategoryEncoding(5, output_mode="multi_hot")(t),
    "count": lambda t: layers.CategoryEncoding(6, output_mode="count")(t),
}


def test_generated_tokens_are_those_of_the_vocabulary(tmp_path):
    types = ["int64" if name == "gather" else "int32" for name in TOKENS]
    pairs = zip(TOKENS.values(), types, strict=True)
    model = beside(of_tokens(function, dtype=dtype) for function, dtype in pairs)
    path = tmp_path / "m.tflite"
    report = convert(model, path)
    assert "random" in report.verify["data"]
    x = [np.array([[0, 1, 2, 3, 4, 4], [4, 0, 0, 1, 1, 3]], dtype) for dtype in types]
    made = zip(TOKENS, Runner(path)(x), model(x), strict=True)
    for name, actual, wanted in made:
        np.testing.assert_allclose(actual, wanted, 1e-4, 1e-4, err_msg=name)


def test_a_traced_model_is_asked_for_its_tokens(tmp_path):
    model = Looking()
    model(np.zeros((1, 6), "int32"))
    convert(model, tmp_path / "m.tflite", runtime="litert")


@pytest.mark.parametrize(
    "function, operation, remedy, runtime",
    [
        (layers.Activation("gelu"), "Erfc", "approximate=True", "litert"),
        (tf.math.erf, "Erf", "approximate=True", "lce"),
        (tf.math.bessel_i0, "BesselI0", "other functions", "litert"),
    ],
)
def test_what_tensorflow_lite_does_not_have(function, operation, remedy, runtime):
    if not isinstance(function, layers.Layer):
        function = layers.Lambda(function, name="odd")
    message = f"'{function.name}' needs the operation '{operation}'.*{remedy}"
    with pytest.raises(ConversionError, match=message):
        convert(of_maps(function), "m.tflite", runtime=runtime, verify=False)


def test_counts_of_unknown_length_end_no_process():
    def counted(t):
        found = tf.math.bincount(t, minlength=5, axis=-1, dtype=tf.float32)
        return tf.ensure_shape(found, (None, 5))

    model = of_tokens(layers.Lambda(counted, name="counted"))
    with pytest.raises(ConversionError, match="'counted' needs .*'DenseBincount'"):
        convert(model, "m.tflite", data=np.full((4, 6), 4, "int32"))


def test_a_sign_of_a_negative_norm_is_an_output(tmp_path):
    inputs, norm = keras.Input((6, 6, 8)), layers.BatchNormalization()
    sign = layers.Activation("ste_sign")(norm(inputs))
    model = keras.Model(inputs, [sign, binary_conv(8, input_quantizer=None)(sign)])
    norm.gamma.assign(np.resize([-1.0, 0.5, -2.0], 8))
    x, path = examples(model), tmp_path / "m.tflite"
    assert convert(model, path, data=x[0]).lce_bconv2d == 1
    for one, other in zip(Runner(path).outputs(x), outputs(model, x), strict=True):
        np.testing.assert_allclose(one, other, 1e-4, 1e-4)


def test_crops_and_gelu_have_a_remedy_that_converts(tmp_path):
    gelu = layers.Activation(lambda x: tf.nn.gelu(x, approximate=True))
    model = beside([of_maps(gelu), of_maps(layers.RandomCrop(4, 4))])
    convert(model, tmp_path / "m.tflite", data=examples(model))
    assert nobn.audit(tmp_path / "m.tflite").lce_bconv2d == 2
