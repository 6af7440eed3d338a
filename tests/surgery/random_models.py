"""Random functional models, as hypothesis draws them.

A model is a list of steps and a seed. A step is the kind of what comes next and a
number that its options are drawn from, so that a failing model is short to write down
and `build(steps, seed)` makes it again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import larq as lq
import numpy as np
from larq_nobn import layers as nobn_layers
from larq_nobn import quantizers
from hypothesis import strategies as st
from larq_nobn._keras import keras
from surgery.parts import batch_norms, binary, conv, image_input, settled

layers = keras.layers
INPUT = (10, 10, 3)
# No step makes a map smaller than this: LCE pads smaller ones wrongly.
_SMALLEST = 5


class _Network:
    """What steps have built so far: a current map, and others kept for later."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.image = self.x = image_input(shape)
        self.kept: list[Any] = []
        self.outputs: list[Any] = []
        self.convolutions: list[keras.layers.Layer] = []
        self.norms: list[keras.layers.Layer] = []
        self.models: list[keras.Model] = []

    @property
    def room(self) -> bool:
        return self.x.shape[1] >= 2 * _SMALLEST

    def apply(self, layer: keras.layers.Layer) -> None:
        self.x = layer(self.x)

    def float_convolution(self, draw: Any) -> None:
        self.x = conv(
            self.x,
            int(draw.choice([4, 6])),
            int(draw.choice([1, 3])),
            2 if self.room and draw.random() < 0.3 else 1,
            use_bias=bool(draw.random() < 0.4),
            activation="relu" if draw.random() < 0.15 else None,
        )
        self._keep_convolution()

    def _center(self) -> None:
        """Gives signs something to tell apart: what a ReLU makes is all +1 to them."""
        layer = self.x._keras_history.layer
        activation = getattr(layer, "activation", keras.activations.linear)
        if isinstance(layer, layers.ReLU) or activation is keras.activations.relu:
            self.x = layers.BatchNormalization()(self.x)

    def binary_convolution(self, draw: Any) -> None:
        self._center()
        dilated = draw.random() < 0.2
        self.x = binary(
            self.x,
            int(draw.choice([4, 6])),
            int(draw.choice([1, 3])),
            2 if self.room and not dilated and draw.random() < 0.3 else 1,
            dilation_rate=2 if dilated else 1,
            pad_values=float(draw.choice([0.0, 1.0])),
            use_bias=bool(draw.random() < 0.2),
            activation="relu" if draw.random() < 0.15 else None,
            input_quantizer=_input_quantizer(draw),
            kernel_quantizer=_kernel_quantizer(draw),
            kernel_constraint=None if draw.random() < 0.2 else "weight_clip",
        )
        self._keep_convolution()

    def _keep_convolution(self) -> None:
        self.convolutions.append(self.x._keras_history.layer)

    def depthwise(self, draw: Any) -> None:
        multiplier = 1 if self.x.shape[-1] > 8 else int(draw.choice([1, 1, 2]))
        bias = bool(draw.random() < 0.3)
        self.apply(
            layers.DepthwiseConv2D(
                3, padding="same", depth_multiplier=multiplier, use_bias=bias
            )
        )

    def norm(self, draw: Any) -> None:
        kind = draw.random()
        if kind < 0.85:
            layer = layers.BatchNormalization(
                scale=bool(draw.random() < 0.7),
                center=bool(draw.random() < 0.8),
                epsilon=float(draw.choice([1e-3, 1e-5])),
            )
            self.x = layer(self.x)
        elif kind < 0.95:
            layer = nobn_layers.IndependentComponent(0.0)
            self.x = layer(self.x)
        else:
            layer = nobn_layers.BatchKalmanNormalization()
            self.x, _ = layer(self.x)
            return
        self.norms.append(layer)

    def activation(self, draw: Any) -> None:
        kinds: tuple[Callable[[], Any], ...] = (
            layers.ReLU,
            lambda: layers.Activation("relu"),
            lambda: layers.PReLU(shared_axes=[1, 2]),
            nobn_layers.RPReLU,
            lambda: layers.LeakyReLU(0.1),
            lambda: layers.Dropout(0.1),
            nobn_layers.ChannelAffine,
        )
        self.apply(kinds[draw.integers(len(kinds))]())

    def sign(self, draw: Any) -> None:
        self._center()
        kinds = (lq.quantizers.SteSign, lq.quantizers.ApproxSign, quantizers.RSign)
        self.apply(kinds[draw.integers(len(kinds))]())

    def pool(self, draw: Any) -> None:
        kind = draw.choice([layers.MaxPool2D, layers.AvgPool2D])
        strides = 2 if self.room and draw.random() < 0.7 else 1
        self.apply(kind(2, strides, padding="same"))

    def keep(self, draw: Any) -> None:
        self.kept.append(self.x)

    def add(self, draw: Any) -> None:
        if not self.kept:
            return
        x, y = self._same_size(self.kept.pop())
        if x.shape[-1] != y.shape[-1]:
            y = conv(y, x.shape[-1], 1)
            if draw.random() < 0.7:
                y = layers.BatchNormalization()(y)
        self.x = layers.add([x, y] if draw.random() < 0.5 else [y, x])

    def concatenate(self, draw: Any) -> None:
        if self.kept:
            x, y = self._same_size(self.kept.pop())
            self.x = layers.concatenate([x, y])
            if self.x.shape[-1] > 12:
                self.x = conv(self.x, 6, 1)

    def multiply(self, draw: Any) -> None:
        gate = layers.GlobalAveragePooling2D(keepdims=True)(self.x)
        gate = conv(gate, self.x.shape[-1], 1, activation="sigmoid")
        self.x = layers.multiply([self.x, gate])

    def _same_size(self, y: Any) -> tuple[Any, Any]:
        while y.shape[1] > self.x.shape[1]:
            y = layers.AvgPool2D(2, padding="same")(y)
        while self.x.shape[1] > y.shape[1]:
            self.x = layers.AvgPool2D(2, padding="same")(self.x)
        return self.x, y

    def again(self, draw: Any) -> None:
        """An earlier convolution or batch norm that fits, or a whole model, again."""
        earlier = (*self.convolutions, *self.norms, *self.models)
        found = [layer for layer in earlier if self._fits(layer)]
        if found:
            self.apply(found[draw.integers(len(found))])

    def _fits(self, layer: keras.layers.Layer) -> bool:
        given, here = layer.get_input_shape_at(0), tuple(self.x.shape)
        if isinstance(layer, keras.Model):
            return given == here
        shrinks = max(getattr(layer, "strides", (1,))) > 1
        return given[-1] == here[-1] and (self.room or not shrinks)

    def model(self, draw: Any) -> None:
        inner = _Network(self.x.shape[1:])
        for kind in draw.choice(["norm", "binary_convolution", "activation"], 3):
            getattr(inner, kind)(draw)
        model = keras.Model(inner.image, inner.x)
        self.models.append(model)
        self.apply(model)

    def output(self, draw: Any) -> None:
        self.outputs.append(self.x)

    def finish(self) -> keras.Model:
        x = layers.GlobalAveragePooling2D()(self.x)
        x = layers.Dense(4)(layers.BatchNormalization()(x))
        return keras.Model(self.image, [x, *self.outputs] if self.outputs else x)


def _input_quantizer(draw: Any) -> Any:
    kinds: tuple[Callable[[], Any], ...] = (
        lambda: "ste_sign",
        lambda: "approx_sign",
        lambda: lq.quantizers.SteSign(clip_value=1.3),
        lambda: lq.quantizers.SwishSign(),
        lambda: quantizers.RSign(scale=0.5),
        lambda: quantizers.SignSwish(),
        lambda: None,
    )
    return kinds[draw.integers(len(kinds))]()


def _kernel_quantizer(draw: Any) -> Any:
    kinds: tuple[Callable[[], Any], ...] = (
        lambda: "ste_sign",
        lambda: "ste_sign",
        lambda: "magnitude_aware_sign",
        lambda: quantizers.ScaledStdSign(),
        lambda: quantizers.ReCU(),
    )
    return kinds[draw.integers(len(kinds))]()


# Batch norm stands in all places, so it comes up often.
KINDS = (
    *["norm"] * 6,
    *["binary_convolution"] * 4,
    *["float_convolution"] * 2,
    *["keep"] * 3,
    *["add"] * 3,
    *["activation", "depthwise", "sign", "pool", "concatenate", "multiply"],
    *["again", "model", "output"],
)
PLAIN = tuple(kind for kind in KINDS if kind not in ("model", "output"))


def steps(kinds: tuple[str, ...] = KINDS, longest: int = 12) -> st.SearchStrategy:
    """Lists of steps for `build`."""
    step = st.tuples(st.sampled_from(kinds), st.integers(0, 2**16))
    return st.lists(step, min_size=3, max_size=longest)


seeds = st.integers(0, 2**16)


def build(plan: list[tuple[str, int]], seed: int) -> keras.Model:
    """The model of a list of steps, with weights as training may leave them."""
    keras.utils.set_random_seed(seed)
    network = _Network(INPUT)
    for kind, number in plan:
        getattr(network, kind)(np.random.default_rng(number))
    model = network.finish()
    return settled(model, seed) if batch_norms(model) else model
