"""Each way in which a model is made again, with each kind of state that a layer has."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import larq_nobn as nobn
import larq as lq
import numpy as np
import pytest
import tensorflow as tf
from larq_nobn import training
from larq_nobn._keras import keras
from larq_nobn.deploy._errors import ConversionError
from larq_nobn.graph._copies import copied, to_keras
from larq_nobn.graph._errors import ModelError
from larq_nobn.graph._models import from_keras
from larq_nobn.training._network import probabilities_of, transfer, with_kernels
from numpy.testing import assert_allclose
from training.runs import step_by_step, without_curves

layers = keras.layers
register = keras.utils.register_keras_serializable("test_copies")
# Far from what layers without their state are made for.
IMAGES = np.random.default_rng(0).normal(3, 5, (24, 4, 4, 3)).astype(np.float32)


@register
class Annealed(layers.Layer):
    """With an attribute that training changes, and no configuration says."""

    slope = 1.0

    def build(self, shape: Any) -> None:
        self.scale = self.add_weight("scale", initializer="ones")

    def call(self, x: tf.Tensor) -> tf.Tensor:
        return self.scale * self.slope * x


@register
class Counting(layers.Layer):
    """With a state that is no trainable weight, and changes with each call."""

    def build(self, shape: Any) -> None:
        self.count = self.add_weight("count", initializer="zeros", trainable=False)

    def call(self, x: tf.Tensor) -> tf.Tensor:
        made = x + self.count
        self.count.assign_add(1.0)
        return made


class Bare(layers.Layer):
    """Without a configuration, and without weights."""

    def __init__(self, factor: float, name: str) -> None:
        super().__init__(name=name)
        self.factor = factor

    def call(self, x: tf.Tensor) -> tf.Tensor:
        return self.factor * x


def adapted(kind: type, name: str, **arguments: Any) -> keras.layers.Layer:
    layer = kind(name=name, **arguments)
    layer.adapt(IMAGES)
    return layer


def annealed(name: str) -> keras.layers.Layer:
    layer = Annealed(name=name)
    layer.slope = 0.3
    return layer


def nested(name: str) -> keras.Model:
    start = keras.Input((4, 4, 3))
    return keras.Model(start, adapted(layers.Normalization, name)(start), name="inner")


def shared(name: str) -> Callable[[Any], Any]:
    layer = adapted(layers.Normalization, name)
    return lambda x: layer(0.5 * layer(x))


# By the name of the layer; the last alone has other channels.
KINDS: dict[str, Callable[[str], Any]] = {
    "normalization": lambda name: adapted(layers.Normalization, name),
    "discretization": lambda name: adapted(
        layers.Discretization, name, num_bins=4, output_mode="int"
    ),
    "annealed": annealed,
    "counting": lambda name: Counting(name=name),
    "nested": nested,
    "shared": shared,
    "wrapper": lambda name: layers.TimeDistributed(layers.Dense(3), name=name),
    "bare": lambda name: Bare(0.3, name),
    "quantizer": lambda name: binary(name, nobn.quantizers.ReCU()),
}


def binary(name: str, kernel_quantizer: Any = "ste_sign") -> keras.layers.Layer:
    return lq.layers.QuantConv2D(
        8,
        3,
        padding="same" if name == "conv" else "valid",
        input_quantizer="ste_sign",
        kernel_quantizer=kernel_quantizer,
        kernel_constraint="weight_clip",
        name=name,
    )


def network(*kinds: str) -> keras.Model:
    keras.utils.set_random_seed(0)
    x = image = keras.Input((4, 4, 3))
    for kind in kinds:
        x = KINDS[kind](kind)(x)
        if not x.dtype.is_floating:
            x = layers.Rescaling(0.5, -0.6, dtype="float32")(x)
    x = layers.Conv2D(8, 1, name="stem")(x)
    x = layers.BatchNormalization(name="norm")(binary("conv")(x))
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    model = keras.Model(image, layers.Dense(3, name="head")(x), name="net")
    rng = np.random.default_rng(1)
    for weight in model.trainable_weights:
        latent = getattr(weight, "latent_variable", weight)
        latent.assign(rng.uniform(0.2, 0.9, weight.shape) * rng.choice([-1, 1]))
    if "quantizer" in kinds:
        model.get_layer("quantizer").kernel_quantizer.tau.assign(0.6)
    return model


def without(*names: str) -> list[str]:
    return [kind for kind in KINDS if kind not in names]


def part_of(model: keras.Model, kind: str) -> keras.layers.Layer:
    return next(x for x in model._flatten_layers() if x.name == kind)


def made_of(layer: keras.layers.Layer) -> np.ndarray:
    """What a layer makes of the images; its state stays as it is."""
    before = layer.get_weights()
    made = np.asarray(layer(IMAGES))
    layer.set_weights(before)
    return made


def saved(ending: str) -> Callable[[keras.Model, Any], keras.Model]:
    def way(model: keras.Model, folder: Any) -> keras.Model:
        with lq.context.quantized_scope(False):
            model.save(folder / f"model.{ending}")
        return training.open_model(folder / f"model.{ending}")

    return way


class Annealing(keras.callbacks.Callback):
    """Sets an attribute in each epoch."""

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        for layer in self.model._flatten_layers():
            if isinstance(layer, Annealed):
                layer.slope = 0.3


def trained(model: keras.Model, folder: Any, **arguments: Any) -> training.Run:
    """A run that starts from the model, and hardly trains."""
    if not (folder / "model.keras").exists():
        saved("keras")(model, folder)
    labels = np.arange(len(IMAGES)) % 3
    config = training.RunSettings.from_recipe(
        "fine_tune",
        init=str(folder / "model.keras"),
        epochs=2,
        batch_size=24,
        learning_rate=1e-12,
        augment="none",
    )
    data = ((IMAGES, labels), (IMAGES, labels))
    with step_by_step(), without_curves():
        return training.train(config, folder / "run", data=data, **arguments)


def taught(model: keras.Model, folder: Any) -> keras.Model:
    """The network of a file, as it teaches another one."""
    made = saved("keras")(model, folder)
    outputs, state = [], made.get_weights()
    for run in (
        lambda x: tf.nn.softmax(made(x)),
        probabilities_of(made, "net", (4, 4, 3), 3),
    ):
        made.set_weights(state)  # one layer counts its calls
        outputs.append(run(IMAGES))
    assert_allclose(*outputs, rtol=1e-5)
    made.set_weights(state)
    return made


def cloned(model: keras.Model, folder: Any) -> keras.Model:
    """As training builds a network with other regularizers, and gives it weights."""
    made = with_kernels(model, training.Recipe(weight_decay=0.1))
    transfer(model, made, "model")
    return made


# Models of new layers.
COPIES = {
    "copied": lambda model, _: copied(model),
    "built": lambda model, _: to_keras(from_keras(model)),
    "fold": lambda model, _: nobn.fold_batch_norm(model, verify=False),
    "remove": lambda model, _: nobn.remove_batch_norm(model),
    "reestimate": lambda model, _: nobn.reestimate_batch_norm(model, IMAGES),
    "ranges": lambda model, _: nobn.deploy.fake_quantize(model, IMAGES, verify=False),
}
FILES = {
    "keras": saved("keras"),
    "h5": saved("h5"),
    "teacher": taught,
    "cloned": cloned,
}
# This writes binary kernels in another way, and these run the copy on data.
LEFT_OUT = {"quantizer": ("remove",), "counting": ("reestimate", "ranges")}


def check(way: str, made: keras.Model, model: keras.Model, kinds: list[str]) -> None:
    for kind in kinds:
        if way in LEFT_OUT.get(kind, ()):
            continue
        expected = made_of(part_of(model, kind))
        assert np.ptp(expected) > 0
        actual = made_of(part_of(made, kind))
        where = f"{kind} after {way}"
        assert_allclose(actual, expected, rtol=1e-5, atol=1e-5, err_msg=where)


@contextmanager
def unchanged(model: keras.Model) -> Iterator[None]:
    before = model.get_weights()
    yield
    for was, now in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(now, was)


def assert_nothing_is_shared(one: keras.Model, other: keras.Model) -> None:
    assert not {id(x) for x in one.variables} & {id(x) for x in other.variables}


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5:UserWarning")
@pytest.mark.parametrize("ways", [COPIES, FILES], ids=["copies", "files"])
def test_a_copy_computes_what_its_layer_does(ways, tmp_path):
    # What has no configuration is in no file, and in no model that Keras clones.
    bare = ["bare"] if ways is COPIES else []
    plain = without("annealed", "bare")
    model = network(*plain, *bare)
    with unchanged(model):
        for way, make in ways.items():
            given = network(*plain) if way == "copied" else model
            made = make(given, tmp_path)
            check(way, made, given, plain if way == "copied" else [*plain, *bare])
            assert_nothing_is_shared(given, made)


def test_the_optimized_model_has_every_state_and_shares_none():
    model = network(*without("counting"))  # which no file can do
    with unchanged(model):
        made = nobn.deploy.prepared(model, verify=False)
    assert_allclose(made(IMAGES), model(IMAGES), rtol=1e-4, atol=1e-4)
    assert_nothing_is_shared(model, made)


def test_what_a_copy_loses_is_a_refusal_with_the_name_of_the_layer(tmp_path):
    model, says = network("annealed"), r"'annealed' \(Annealed\) dep"
    for make in COPIES.values():
        with pytest.raises((ModelError, ConversionError), match=says):
            make(model, tmp_path)


def test_a_run_is_not_saved_as_another_function_and_can_be_resumed(tmp_path):
    kinds = ["normalization", "annealed", "shared", "quantizer"]
    model = network(*kinds)
    with pytest.raises(ModelError, match=r"'annealed' \(Annealed\) depends on more"):
        trained(model, tmp_path, progress=Annealing())
    assert not (tmp_path / "run" / "model.keras").exists()
    assert any((tmp_path / "run" / "checkpoints").iterdir())
    run = trained(model, tmp_path, resume=True)
    again = training.load_run(run.folder).model
    assert_allclose(again(IMAGES), run.model(IMAGES), rtol=1e-5)
    check("run", again, model, [kind for kind in kinds if kind != "annealed"])
