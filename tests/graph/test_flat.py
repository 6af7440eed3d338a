import larq as lq
import numpy as np
import pytest
import tensorflow as tf
from larq_nobn import layers
from deploy.nets import binary_conv, images, scrambled
from larq_nobn._keras import dtype_policy, keras
from larq_nobn.graph._copies import to_keras
from larq_nobn.graph._errors import ModelError
from larq_nobn.graph._graph import Graph
from larq_nobn.graph._models import flattened, from_keras
from numpy.testing import assert_array_equal

BatchNorm = keras.layers.BatchNormalization


def backbone(name="backbone"):
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, name="stem")(inputs)
    return keras.Model(inputs, BatchNorm(name="norm")(x), name=name)


def check(model, *inputs):
    before = model.get_weights()
    copy = flattened(scrambled(model))
    given = {id(layer) for layer in model.submodules}
    assert not any(isinstance(layer, keras.Model) for layer in copy.layers)
    assert not given & {id(layer) for layer in copy.layers}
    # The same variables, which conversion and verification read.
    own = {id(variable) for variable in model.variables}
    assert {id(variable) for variable in copy.variables} <= own
    tf.nest.map_structure(assert_array_equal, copy(*inputs), model(*inputs))
    assert len(model.get_weights()) == len(before)
    return copy


def test_nested_models_are_opened_and_names_stay_apart():
    inputs = keras.Input((8, 8, 3))
    x = backbone()(inputs)
    rows = [BatchNorm(name="norm"), keras.layers.Flatten(name="flatten")]
    tail = keras.Sequential(rows, "tail")
    model = keras.Model(inputs, keras.layers.Dense(2, name="head")(tail(x)), name="net")
    copy = check(model, images())
    names = [layer.name for layer in copy.layers[1:]]
    assert names == ["stem", "norm", "tail_norm", "flatten", "head"]
    assert copy.name == "net"


def test_shared_models_and_layers_stay_shared():
    left, right = keras.Input((8, 8, 3)), keras.Input((8, 8, 3))
    shared = backbone()
    total = keras.layers.Add(name="sum")([shared(left), shared(right)])
    model = keras.Model([left, right], [total, total * 2.0])
    copy = check(model, [images(), images(seed=2)])
    assert len(Graph(copy).uses("stem")) == 2
    assert len(copy.weights) == len(model.weights)


def test_inputs_and_outputs_keep_their_structure():
    inputs = {"b": keras.Input((3,), name="b"), "a": keras.Input((3,), name="a")}
    total = keras.layers.Subtract()([inputs["a"], inputs["b"]])
    inner = keras.Model(inputs, {"out": total}, name="inner")
    outer = {"x": keras.Input((3,), name="x"), "y": keras.Input((3,), name="y")}
    actual = inner({"a": outer["x"], "b": outer["y"]})["out"]
    model = keras.Model(outer, {"z": keras.layers.Dense(2)(actual)})
    rng = np.random.default_rng(1)
    check(model, {key: rng.normal(size=(2, 3)).astype(np.float32) for key in outer})


def test_a_backbone_in_inference_mode_stays_in_it():
    inputs = keras.Input((8, 8, 3))
    model = keras.Model(inputs, backbone()(inputs, training=False))
    copy, x = check(model, images()), images()
    assert_array_equal(copy(x, training=True), model(x, training=False))


def test_training_state_and_policies_are_kept():
    model = backbone()
    model.get_layer("norm").trainable = False
    copy = flattened(model)
    assert not copy.get_layer("norm").trainable
    with dtype_policy("mixed_float16"):
        model = backbone()
    assert flattened(model).get_layer("stem").compute_dtype == "float16"


def test_batch_norm_over_virtual_batches_keeps_its_axis():
    norm = BatchNorm(virtual_batch_size=2)
    model = keras.Sequential([keras.Input((8, 8, 3)), norm])
    check(model, images())
    assert_array_equal(to_keras(from_keras(model))(images()), model(images()))


def test_what_only_training_needs_is_left_out():
    inputs = keras.Input((8, 8, 3))
    dense = keras.layers.Conv2D(4, 1, name="conv")
    x = layers.BatchNormalizationPreconditioning(dense, name="conditioned")(inputs)
    y, state = layers.BatchKalmanNormalization(name="first")(x)
    z, _ = layers.BatchKalmanNormalization(name="second")([y, state])
    model = scrambled(keras.Model(inputs, z))
    copy = flattened(model)
    assert type(copy.get_layer("conditioned")) is keras.layers.Conv2D
    assert copy.get_layer("second").inbound_nodes[0].input_tensors.shape == z.shape
    assert_array_equal(copy(images()), model(images()))


class Twice(keras.Model):
    def call(self, inputs):
        return 2 * inputs


class Halved(keras.Model):
    """A functional model by construction that does something else when called."""

    def call(self, inputs, training=None, mask=None):
        return super().call(inputs, training, mask) / 2


def halved():
    inputs = keras.Input((3,))
    return Halved(inputs, keras.layers.Dense(3)(inputs), name="halved")


def test_rejects_what_it_cannot_see_into_by_name():
    inputs = keras.Input((3,))
    nested = keras.Sequential([Twice(name="inner")], name="seq")
    ends = Twice(name="twice")(halved()(nested(inputs)))
    parts = ", ".join(
        f"the subclassed or unbuilt model {name!r}"
        for name in ("inner", "halved", "twice")
    )
    for model, message in (
        (keras.Model(inputs, ends, name="net"), f"'net' cannot be .* of {parts}"),
        (Twice(name="m"), "the subclassed or unbuilt model 'm'"),
        (keras.Sequential(name="m"), "the subclassed or unbuilt model 'm'"),
        ("net.keras", "'net.keras' is not a Keras model"),
    ):
        with pytest.raises(ModelError, match=message):
            flattened(model)


def test_a_quantized_kernel_is_copied_as_it_is_trained():
    model = keras.Sequential([keras.Input((8, 8, 3)), binary_conv(4, name="conv")])
    with lq.context.quantized_scope(True):
        copy = flattened(model)
    latent = model.get_layer("conv").kernel.latent_variable
    assert_array_equal(copy.get_layer("conv").kernel.latent_variable, latent)
    assert np.abs(latent).max() < 1
