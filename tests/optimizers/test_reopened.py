"""Variables are known by the paths of their layers, whatever file a model comes from.

The step after opening is the step before it, bit for bit; and the oracle of which
weights are clipped is NumPy.
"""

import larq as lq
import numpy as np
import pytest
import tensorflow as tf
from larq_nobn._keras import keras, register
from larq_nobn.layers import BatchNormalizationPreconditioning, SymmetricHead
from larq_nobn.optimizers import AdaptiveGradientClipping, ParameterGroups
from larq_nobn.training._training_model import TrainingModel
from numpy.testing import assert_allclose, assert_array_equal
from optimizers.networks import clip

layers, new, legacy = keras.layers, keras.optimizers, keras.optimizers.legacy
pytestmark = pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5")
RNG = np.random.default_rng(0)
X = RNG.normal(size=(4, 4, 4, 2)).astype("float32")
Y = RNG.normal(size=(4, 3)).astype("float32")
LABELS = np.array([0, 1, 2, 1])
clipping, groups = AdaptiveGradientClipping, ParameterGroups


@register()
class ReopenedHead(layers.Layer):
    """A head with a layer inside, whose name Keras numbers anew in every object."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units, self.inner = units, layers.Dense(units)

    def build(self, input_shape):
        self.inner.build(input_shape)
        super().build(input_shape)

    def call(self, x):
        return self.inner(x)

    def get_config(self):
        return {**super().get_config(), "units": self.units}


def inside(name):
    """A model of one convolution, in whose name it is not."""
    inputs = keras.Input((2, 2, 3))
    return keras.Model(inputs, layers.Conv2D(3, 1, name="conv")(inputs), name=name)


def folded():
    return layers.Reshape((4, 3))


PARTS = {
    "dense": [layers.Flatten, lambda: layers.Dense(3, name="head")],
    "symmetric": [layers.Flatten, lambda: SymmetricHead(3, name="head")],
    "quantized": [
        layers.Flatten,
        lambda: lq.layers.QuantDense(
            3, kernel_quantizer="scaled_standardization", name="scores"
        ),
    ],
    "own": [layers.Flatten, lambda: ReopenedHead(3, name="scores")],
    "timed": [
        folded,
        lambda: layers.TimeDistributed(layers.Dense(3, name="inner"), name="scores"),
        layers.GlobalAveragePooling1D,
    ],
    "recurrent": [
        folded,
        lambda: layers.Bidirectional(
            layers.SimpleRNN(2, name="cells"), "sum", name="recurrent"
        ),
        lambda: layers.Dense(3, name="head"),
    ],
    "transposed": [
        lambda: lq.layers.QuantConv2DTranspose(
            5, 2, kernel_quantizer="ste_sign", name="up"
        ),
        layers.GlobalAveragePooling2D,
        lambda: layers.Dense(3, name="head"),
    ],
    "nested": [
        lambda: inside("a"),
        lambda: inside("b"),
        layers.GlobalAveragePooling2D,
        lambda: layers.Dense(3, name="conv"),
    ],
    "preconditioned": [
        lambda: BatchNormalizationPreconditioning(layers.Conv2D(3, 1, name="conv")),
        layers.Flatten,
        lambda: layers.Dense(3, name="head"),
    ],
}


def network(parts):
    keras.utils.set_random_seed(2)
    stem = lq.layers.QuantConv2D(
        3, 3, kernel_quantizer="scaled_std_sign", name="stem", use_bias=False
    )
    return keras.Sequential(
        [keras.Input(X.shape[1:]), stem, *(make() for make in PARTS[parts])]
    )


def sgd():
    return new.SGD(0.5)


def stateful():
    return new.Adam(0.1)


OPTIMIZERS = {
    "plain": lambda m: clipping(stateful(), 1e-3),
    "legacy": lambda m: clipping(legacy.SGD(0.5, momentum=0.9), 1e-3),
    "for_model": lambda m: clipping.for_model(m, stateful(), 1e-3),
    "silent": lambda m: clipping(stateful(), 1e-3, lower_factor=5e-4, silent_decay=0.1),
    "exclude": lambda m: clipping(
        sgd(), 1e-3, exclude=("^stem/kernel$", "inner|^b/conv/")
    ),
    "units": lambda m: clipping(
        sgd(), 1e-3, 1e-3, ("gain",), {"^(stem|up|a/conv)/": ()}
    ),
    "groups": lambda m: groups(stateful(), {"^stem/": 0.1, "kernel$": 3.0}),
    "around": lambda m: groups(
        clipping.for_model(m, stateful(), 1e-3), {"^scores/": 4.0}
    ),
    "between": lambda m: clipping.for_model(
        m, groups(sgd(), {"^a/conv/": 9.0, "^conv/": 4.0}), 1e-3
    ),
    "scaled": lambda m: keras.mixed_precision.LossScaleOptimizer(
        clipping.for_model(m, stateful(), 1e-3)
    ),
}
# Which kinds of files keep the state of which optimizers is Keras' own.
CASES = [
    *((parts, "for_model", "keras") for parts in ("own", "preconditioned")),
    ("quantized", "scaled", "keras"),
    ("symmetric", "silent", "keras"),
    *((parts, "exclude", "keras") for parts in ("own", "nested")),
    ("transposed", "units", "keras"),
    ("timed", "around", "keras"),
    ("nested", "between", "keras"),
    ("recurrent", "groups", "keras"),
    ("transposed", "for_model", "h5"),
    ("symmetric", "legacy", "h5"),
    ("timed", "around", "h5"),
    pytest.param("nested", "between", "tf", marks=pytest.mark.slow),
    ("own", "for_model", "config"),
    ("nested", "for_model", "checkpoint"),
]


def compiled(model, optimizer):
    model.compile(optimizer, "mse", run_eagerly=True)
    return model


def reopened(model, kind, path):
    if kind in ("keras", "h5", "tf"):
        path = path / ("model" if kind == "tf" else f"model.{kind}")
        model.save(path, **({"save_traces": False} if kind == "tf" else {}))
        again = keras.models.load_model(path)
        again.run_eagerly = True
        return again
    config = new.serialize(model.optimizer)
    model.save(path / "model.keras")
    again = keras.models.load_model(path / "model.keras", compile=False)
    compiled(again, new.deserialize(config))
    if kind == "config":
        again.optimizer.build(again.trainable_variables)
        for to, of in zip(
            again.optimizer.variables(), model.optimizer.variables(), strict=True
        ):
            to.assign(of)
        return again
    again.set_weights([0 * w for w in again.get_weights()])
    saved = tf.train.Checkpoint(model=model, optimizer=model.optimizer)
    saved = saved.write(str(path / "state"))
    tf.train.Checkpoint(model=again, optimizer=again.optimizer).read(saved)
    return again


def state(model):
    return [*model.get_weights(), *(x.numpy() for x in model.optimizer.variables())]


@pytest.mark.parametrize("parts, optimizer, kind", CASES)
def test_the_step_after_opening_is_the_step_before(parts, optimizer, kind, tmp_path):
    model = network(parts)
    compiled(model, OPTIMIZERS[optimizer](model)).train_on_batch(X, Y)
    again = reopened(model, kind, tmp_path)
    if optimizer in ("exclude", "groups"):  # the file of what a file gave
        again = reopened(again, kind, tmp_path)
    for each in (model, again):
        each.train_on_batch(X, Y)
    # A SavedModel has no counter of steps, of any optimizer.
    compared = keras.Model.get_weights if kind == "tf" else state
    for one, other in zip(compared(model), compared(again), strict=True):
        assert_array_equal(one, other)


# The axes of a unit of each weight of these, None for those that are not clipped.
CLIPPED = {
    "quantized": [(0, 1, 2), (0,), None, None, None],
    "own": [(0, 1, 2), (0,), None, None],
    "timed": [(0, 1, 2), (0,), None, None],
    # The model ends in a layer called as two in models inside it.
    "nested": [*[(0, 1, 2), (0,)] * 3, None, None],
    "transposed": [(0, 1, 2), (0,), (0, 1, 3), (0,), None, None],
}


@pytest.mark.parametrize("parts", CLIPPED)
def test_the_layers_of_an_opened_model_are_known(parts, tmp_path):
    """The oracle is NumPy; with micro-batches, and in a loop of one's own."""
    cross_entropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    network(parts).save(tmp_path / "model.keras")
    model = keras.models.load_model(tmp_path / "model.keras")
    for weight in model.trainable_variables:
        weight.assign_add(RNG.normal(0, 0.1, weight.shape))
    start = model.get_weights()
    with tf.GradientTape() as tape:
        loss = cross_entropy(LABELS, model(X))
    raw = tape.gradient(loss, model.trainable_variables)
    expected = [
        w - (g.numpy() if axes is None else clip(g, w, axes, 1e-3))
        for w, g, axes in zip(start, raw, CLIPPED[parts], strict=True)
    ]
    optimizer = clipping.for_model(model, new.SGD(1.0), 1e-3)
    optimizer.apply_gradients(zip(raw, model.trainable_variables, strict=True))
    for weight, wanted in zip(model.get_weights(), expected, strict=True):
        assert_allclose(weight, wanted, rtol=1e-5, atol=1e-6)
    model.set_weights(start)
    optimizer = new.deserialize(new.serialize(optimizer))
    training = TrainingModel(model, accumulate=2)
    training.compile(optimizer, cross_entropy, run_eagerly=True)
    training.train_on_batch(X, LABELS)
    for weight, wanted in zip(model.get_weights(), expected, strict=True):
        assert_allclose(weight, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("names", [["stem/kernel:0", "stem/gain:0"], None])
def test_files_of_before_open(names):
    """Groups kept one name of each variable, and clipping none."""
    config = groups(clipping(sgd()), {"^stem/kernel:0$": 2.0}).get_config()
    config["variables"] = names or []
    again = groups.from_config(config)
    weights = [tf.Variable([3.0, 4.0], name="kernel"), tf.Variable([1.0], name="gain")]
    pairs = [(tf.constant([0.3, 0.4]), weights[0]), (tf.constant([0.5]), weights[1])]
    if not names:
        with pytest.raises(ValueError, match="matches none of the 2 .* kernel:0, gain"):
            again.apply_gradients(pairs)
        return
    again.apply_gradients(pairs)
    assert_allclose(weights[0], [2.97, 3.96])  # 5 · 0.01 · 0.5 · 2 along the gradient
    assert_allclose(weights[1], [0.995])


def test_a_pattern_that_excludes_nothing_is_said(caplog):
    optimizer = clipping(sgd(), exclude=("^sroces/",))
    model = compiled(network("quantized"), optimizer)
    for _ in range(2):
        model.train_on_batch(X, Y)
    assert caplog.text.count("none is found by exclude=('^sroces/',)") == 1
