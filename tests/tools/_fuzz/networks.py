"""Draws networks of whatever Keras, Larq and this package have for maps.

A network is all drawn from one number, so that a line of the log makes it again.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import larq as lq
import numpy as np
import tensorflow as tf
from deploy.nets import Subclassed
from larq_nobn._keras import dtype_policy, keras

from .steps import STEPS, Network
from .users import chance, one_of

layers = keras.layers
_SHAPES = (
    *[(8, 8, 3), (8, 8, 4), (8, 8, 8), (8, 8, 16)],
    *[(6, 5, 6), (4, 4, 32), (1, 1, 32), (2, 2, 8), (3, 7, 1), (5, 5, 33), (8, 8, 64)],
)
_TRIES = 30


class Drawn(NamedTuple):
    """A network, what is asked of its conversion, and how it was drawn."""

    model: keras.Model
    options: dict[str, Any]
    steps: list[str]
    trains: bool


def latent() -> None:
    """Closes Larq's scope, which stays open when Keras does not build a layer."""
    lq.context.quantized_scope(False).__enter__()


def draw(seed: int, in_float32: bool = False) -> Drawn:
    """The network of a number; what Keras itself does not build is drawn once more.

    Arguments:
        seed: The number.
        in_float32: Whether it computes in float32 where it would in half precision.
    """
    for attempt in range(_TRIES):
        try:
            drawn = _attempt(seed, attempt, in_float32)
            half = drawn.options["policy"] != "float32"
            # A step that fails in one precision only makes other networks of a number.
            if half and not _alike(drawn, _attempt(seed, attempt, not in_float32)):
                continue
        except (ValueError, TypeError, tf.errors.InvalidArgumentError, IndexError):
            continue
        return drawn
    raise RuntimeError(f"Nothing could be built of seed {seed}.")


def _attempt(seed: int, attempt: int, in_float32: bool) -> Drawn:
    random = np.random.default_rng([seed, attempt])
    keras.backend.clear_session()
    latent()
    keras.utils.set_random_seed(int(random.integers(2**31)))
    return _drawn(random, in_float32)


def _alike(one: Drawn, other: Drawn) -> bool:
    """Whether two networks have the same steps, and weights of the same shapes."""
    shapes = [[tuple(w.shape) for w in x.model.weights] for x in (one, other)]
    return shapes[0] == shapes[1] and one.steps == other.steps


def _drawn(random: np.random.Generator, in_float32: bool) -> Drawn:
    policy = str(random.choice(["float32", "mixed_float16", "mixed_bfloat16"], p=_HALF))
    options: dict[str, Any] = {"policy": policy}
    with dtype_policy("float32" if in_float32 else policy):
        network, steps = _grown(random)
        model = keras.Model(*_ports(random, network))
        model = _dressed(random, model, options)
    unsettled = disturb(model, random)
    for fill in network.last:
        fill()
    if chance(random, 0.1):
        options["batch_size"] = int(random.integers(2, 4))
    if not unsettled and len(model.inputs or ()) == 1 and chance(random, 0.05):
        options["labels"] = True
    return Drawn(model, options, steps, network.trains)


_HALF = [0.94, 0.03, 0.03]


def _grown(random: np.random.Generator) -> tuple[Network, list[str]]:
    network, steps = Network(one_of(random, _SHAPES)), []
    if chance(random, 0.1):  # bytes, as cameras give them
        start = keras.Input(network.x.shape[1:], dtype="uint8")
        network.inputs = [start]
        network.x = layers.Rescaling(1 / 127.5, -1.0)(start)
    for _ in range(random.integers(2, 9)):
        name = one_of(random, STEPS)
        for _ in range(3):
            try:
                network.step(name, random)
                steps.append(name)
                break
            except (ValueError, TypeError, tf.errors.InvalidArgumentError, IndexError):
                continue
    network.finish(random)
    return network, steps


def _ports(random: np.random.Generator, network: Network) -> tuple[Any, Any]:
    inputs, outputs = network.inputs, network.outputs
    if len(outputs) > 1 and chance(random, 0.2):
        outputs = {f"end_{chr(122 - i)}": y for i, y in enumerate(outputs)}
    alone = len(inputs) == 1 and chance(random, 0.7)
    single = isinstance(outputs, list) and len(outputs) == 1
    return inputs[0] if alone else inputs, outputs[0] if single else outputs


def _dressed(
    random: np.random.Generator, model: keras.Model, options: dict[str, Any]
) -> keras.Model:
    """The model as it is, or as a user may hand it in otherwise."""
    kind = one_of(random, [*["functional"] * 14, "subclassed", "subclassed", "inside"])
    options["form"] = kind
    if kind == "subclassed":
        new = Subclassed(model)
        new(
            tf.nest.map_structure(
                lambda x: tf.zeros((1, *x.shape[1:]), x.dtype), model.input
            )
        )
        return new
    if kind == "inside":
        start = tf.nest.map_structure(
            lambda x: keras.Input(x.shape[1:], dtype=x.dtype), model.input
        )
        return keras.Model(start, model(start))
    return model


def examples(model: keras.Model, count: int, seed: int) -> list[np.ndarray]:
    """Noise for every input, in the order that the model has them."""
    random = np.random.default_rng(seed)
    actual = []
    for given in specs(model):
        shape = (count, *given.shape[1:])
        if given.dtype == tf.uint8:
            actual.append(random.integers(0, 256, shape).astype(np.uint8))
        elif given.dtype.is_integer:
            actual.append(random.integers(0, 11, shape).astype(np.int32))
        else:
            actual.append(random.normal(size=shape).astype(np.float32))
    return actual


def specs(model: keras.Model) -> list[Any]:
    graph = model.inner if isinstance(model, Subclassed) else model
    return tf.nest.flatten(graph.input)


def packed(model: keras.Model, parts: list[Any]) -> Any:
    """One array per input, in the structure that the model is called on."""
    graph = model.inner if isinstance(model, Subclassed) else model
    return tf.nest.pack_sequence_as(graph.input, parts)


def disturb(model: keras.Model, random: np.random.Generator) -> bool:
    """Moves weights to where training may leave them, and some of them further.

    Returns:
        Whether a statistic or a factor was made extreme.
    """
    norms = [
        part
        for part in model.submodules
        if isinstance(part, layers.BatchNormalization) and part.built
    ]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    model(packed(model, examples(model, 16, 1)), training=True)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    owned = {id(weight) for norm in norms for weight in norm.weights}
    for weight in model.trainable_weights:
        if id(weight) not in owned and weight.shape.rank == 1:
            weight.assign_add(random.uniform(-0.2, 0.3, weight.shape))
    extreme = chance(random, 0.3)
    for norm in norms:
        _disturb_norm(norm, random, extreme)
    if extreme:
        for weight in model.trainable_weights:
            if weight.shape.rank == 1 and chance(random, 0.3):
                values = weight.numpy()
                values[0] = one_of(random, [0.0, 1e-6, 10.0, -3.0, 100.0])
                weight.assign(values)
    return extreme


def _disturb_norm(norm: Any, random: np.random.Generator, extreme: bool) -> None:
    mean, variance = norm.moving_mean, norm.moving_variance
    size = mean.shape
    mean.assign_add(0.3 * tf.sqrt(variance) * random.normal(size=size))
    variance.assign(0.01 + variance * random.uniform(0.5, 2.0, size))
    if norm.gamma is not None:
        sign = random.choice([-1.0, 1.0], size)
        norm.gamma.assign(sign * random.uniform(0.5, 1.5, size))
    if norm.beta is not None:
        norm.beta.assign(0.5 * random.normal(size=size))
    if not extreme:
        return
    kind = one_of(random, ["gamma", "variance", "mean", "beta", "all"])
    which = random.random(size) < 0.4
    for name, variable, value in (
        ("gamma", norm.gamma, one_of(random, [0.0, 1e-7, 50.0])),
        ("variance", variance, one_of(random, [0.0, 1e-9, 1e4])),
        ("mean", mean, one_of(random, [100.0, -1e3])),
        ("beta", norm.beta, one_of(random, [100.0, -1e3, 1e-6])),
    ):
        if variable is not None and kind in (name, "all"):
            variable.assign(np.where(which, value, variable.numpy()))
