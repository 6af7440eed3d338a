"""A network that grows at random, step by step, and what is known of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import larq as lq
import numpy as np
from larq_nobn import layers as own
from larq_nobn._keras import keras
from larq_nobn.graph._traits import inherited

from . import tables, users
from .tables import made
from .users import Draw, chance, one_of

layers = keras.layers
_MOST_CHANNELS = 40
_MOST_ELEMENTS = 12 * 12 * 64


class Network:
    """A network that grows; maps stay maps from one step to the next.

    Attributes:
        x: The current map.
        signed: Whether that is ±1, and nothing but training stands after the sign.
        trains: Whether a call asks for training behaviour at inference.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.x = keras.Input(shape)
        self.inputs, self.outputs, self.kept = [self.x], [], []
        self.signed = self.trains = False
        # Layers that may be called again, and whether only on signs.
        self.reusable: list[tuple[keras.layers.Layer, bool]] = []
        self.last: list[Callable[[], None]] = []  # sets weights after all else

    @property
    def size(self) -> tuple[int, ...]:
        return tuple(self.x.shape[1:3])

    @property
    def channels(self) -> int:
        return self.x.shape[-1]

    def apply(self, layer: keras.layers.Layer) -> None:
        actual = layer(self.x)
        self.x = (
            actual[0] if isinstance(layer, own.BatchKalmanNormalization) else actual
        )
        self.signed &= inherited(type(layer)).idle

    def norm(self, draw: Draw) -> None:
        # Of one position, some normalizations are all but a sign: rounding decides.
        if self.size != (1, 1):
            self.apply(made(draw, tables.NORMS))

    def affine(self, draw: Draw) -> None:
        self.apply(made(draw, tables.AFFINE))

    def activation(self, draw: Draw) -> None:
        self.apply(made(draw, tables.ACTIVATIONS))

    def sign(self, draw: Draw) -> None:
        self.apply(made(draw, tables.SIGNS))
        self.signed = True

    def pool(self, draw: Draw) -> None:
        self.apply(made(draw, tables.POOLS))

    def frame(self, draw: Draw) -> None:
        if min(self.size) > 2 and max(self.size) < 9:
            self.apply(made(draw, tables.FRAMES))

    def operator(self, draw: Draw) -> None:
        number = float(one_of(draw, [0.5, -2.0, 0.1]))
        forms = (lambda x: number * x, lambda x: x + number, lambda x: number - x)
        self.x = one_of(draw, forms)(self.x)
        self.signed = False

    def convolution(self, draw: Draw) -> None:
        """A real-valued one, also of signs."""
        kind = one_of(draw, ["Conv2D"] * 3 + ["DepthwiseConv2D", "SeparableConv2D"])
        if kind == "Conv2D":
            layer = lq.layers.QuantConv2D(
                **tables.geometry(draw, self.size, zero_padding=True),
                kernel_quantizer=made(draw, tables.REAL_KERNELS),
            )
        else:
            filters = {} if kind == "DepthwiseConv2D" else {"filters": 4}
            layer = getattr(layers, kind)(kernel_size=3, padding="same", **filters)
        self._convolve(draw, layer, needs_sign=False)

    def binary_convolution(self, draw: Draw) -> None:
        behind_sign = self.signed and chance(draw, 0.7)
        options = tables.geometry(draw, self.size, chance(draw, 0.5))
        if behind_sign and chance(draw, 0.2):  # weights that are ±c as they are
            options.pop("pad_values")
            layer = layers.Conv2D(**options)
            layer.build(self.x.shape)
            layer.kernel.assign(0.3 * lq.math.sign(layer.kernel))
        else:
            layer = lq.layers.QuantConv2D(
                **options,
                input_quantizer=None if behind_sign else made(draw, tables.SIGNS),
                kernel_quantizer=made(draw, tables.BINARY_KERNELS),
                kernel_constraint="weight_clip",
            )
        self._convolve(draw, layer, needs_sign=behind_sign)

    def rewritten(self, draw: Draw) -> None:
        """A binary layer that is another one, or several, in the file."""
        options = tables.geometry(draw, self.size, chance(draw, 0.5))
        quantizers = {
            "input_quantizer": made(draw, tables.SIGNS),
            "kernel_quantizer": made(draw, tables.BINARY_KERNELS),
            "kernel_constraint": "weight_clip",
        }
        kind = one_of(draw, ["groups", "steps", "padding", "sequence", "dense"])
        if kind == "steps":
            which = one_of(draw, ["input_quantizer", "kernel_quantizer"])
            quantizers[which] = "ste_heaviside"
        if kind == "padding" and options["padding"] == "same":
            options["pad_values"] = one_of(draw, [-1.0, 0.5])
        if kind == "sequence":
            self.apply(layers.Reshape((self.size[0] * self.size[1], self.channels)))
            causal = {"padding": one_of(draw, ["same", "causal"])}
            self.apply(lq.layers.QuantConv1D(6, 3, **causal, **quantizers))
            self.apply(layers.Reshape((1, *self.x.shape[1:])))
        elif kind == "dense":
            self.apply(lq.layers.QuantDense(8, **quantizers))
        else:
            groups = 2 if kind == "groups" and self.channels % 2 == 0 else 1
            self.apply(lq.layers.QuantConv2D(groups=groups, **options, **quantizers))

    def _convolve(self, draw: Draw, layer: Any, needs_sign: bool) -> None:
        if layer.use_bias and type(layer) is lq.layers.QuantConv2D:
            wrapped = own.BatchNormalizationPreconditioning(layer)
            layer = wrapped if chance(draw, 0.3) else layer
        self.apply(layer)
        self.reusable.append((layer, needs_sign))

    def zero_gains(self, draw: Draw) -> None:
        """A gain of which every second is 0, or all but one."""
        layer = one_of(draw, [layers.BatchNormalization, own.ChannelAffine])()
        self.apply(layer)
        channel, rest = np.arange(self.channels), one_of(draw, [2, 2, self.channels])
        zero = (channel % rest == 0) == chance(draw, 0.5)

        def fill() -> None:
            layer.gamma.assign(np.where(zero, 0.0, layer.gamma.numpy()))

        self.last.append(fill)

    def ties(self, draw: Draw) -> None:
        """Sums of ±1, thresholds that they reach exactly, and a binary layer."""
        self.apply(_plain_binary(draw, self.size))
        between = (lambda x: x, layers.ReLU(), layers.MaxPooling2D(2, 1, "same"))
        self.x = one_of(draw, between)(self.x)
        epsilon = one_of(draw, [0.0, 1e-3])
        norm = layers.BatchNormalization(epsilon=epsilon)
        self.apply(norm)
        gamma = draw.choice(one_of(draw, [[-1.0], [-1.0, 1.0]]), self.channels)
        mean, zeros = one_of(draw, [0.0, 2.0, 4.0]), np.zeros(self.channels)
        weights = [gamma, zeros, zeros + mean, zeros + np.float32(1 - epsilon)]
        self.last.append(lambda: norm.set_weights(weights))
        self.apply(_plain_binary(draw, self.size))

    def two_sizes(self, draw: Draw) -> None:
        """One binary layer on a map and on a part of it, in either order."""
        if min(self.size) < 2:
            return
        layer = _plain_binary(draw, self.size)
        small = layers.MaxPooling2D(2, padding="same")(self.x)
        if chance(draw, 0.5):
            large, small = layer(self.x), layer(small)
        else:
            small, large = layer(small), layer(self.x)
        large = layers.MaxPooling2D(2, padding="same")(large)
        self.x, self.signed = layers.Concatenate()([large, small]), False

    def twins(self, draw: Draw) -> None:
        """Two binary layers with equal weights on one map, or one called twice."""
        first = _plain_binary(draw, self.size)
        second = first
        if chance(draw, 0.5):
            second = type(first).from_config({**first.get_config(), "name": None})
            self.last.append(lambda: second.set_weights(first.get_weights()))
        ends = [first(self.x), second(self.x)]
        if chance(draw, 0.5):
            ends[1] = layers.ReLU()(ends[1])
        self.x, self.signed = made(draw, tables.MERGES)(ends), False

    def front_axis(self, draw: Draw) -> None:
        """A function over positions after a binary layer of sequences."""
        function, inside = one_of(draw, tables.FRONT_AXIS), chance(draw, 0.5)
        options = {**_SIGNS, "activation": function if inside else None}
        self.apply(layers.Reshape((self.size[0] * self.size[1], self.channels)))
        kinds = (lq.layers.QuantDense, lambda n, **o: lq.layers.QuantConv1D(n, 1, **o))
        self.apply(one_of(draw, kinds)(8, use_bias=False, **options))
        if not inside:
            self.apply(layers.Activation(function))
        self.apply(layers.Reshape((1, *self.x.shape[1:])))

    def sign_activation(self, draw: Draw) -> None:
        """A layer whose activation is a sign."""
        sign = made(draw, tables.SIGNS)
        binary = chance(draw, 0.5)
        layer = _plain_binary(draw, self.size) if binary else layers.Conv2D(8, 1)
        config = {**layer.get_config(), "name": None, "activation": sign}
        self.apply(type(layer)(**{**config, "dtype": None}))
        self.signed = True

    def again(self, draw: Draw) -> None:
        """An earlier convolution or model that fits once more."""
        actual = [
            entry
            for entry in self.reusable
            if tuple(entry[0].get_input_shape_at(0)) == tuple(self.x.shape)
            and (self.signed or not entry[1])
        ]
        if actual:
            self.apply(one_of(draw, actual)[0])

    def model(self, draw: Draw) -> None:
        """A model as a layer."""
        inner = Network(self.x.shape[1:])
        kinds = ["norm", "binary_convolution", "activation", "sign", "affine"]
        for kind in draw.choice(kinds, 3):
            getattr(inner, kind)(draw)
        model = keras.Model(inner.inputs, inner.x)
        self.apply(model)
        self.signed = inner.signed
        self.reusable.append((model, False))

    def keep(self, draw: Draw) -> None:
        self.kept.append(self.x)

    def input(self, draw: Draw) -> None:
        """One more input, to be merged later."""
        self.inputs.append(keras.Input(self.x.shape[1:]))
        self.kept.append(self.inputs[-1])

    def merge(self, draw: Draw) -> None:
        if not self.kept:
            return
        layer = made(draw, tables.MERGES)
        pair = [self.x, self.kept.pop()]
        size = np.min([x.shape[1:3] for x in pair], axis=0)
        pair = [_cropped(x, size) for x in pair]
        joined = isinstance(layer, layers.Concatenate)
        if not joined and pair[0].shape[-1] != pair[1].shape[-1]:
            pair[1] = layers.Conv2D(pair[0].shape[-1], 1)(pair[1])
        self.x = layer(pair if chance(draw, 0.5) else pair[::-1])
        self.signed = False
        if self.channels > _MOST_CHANNELS:
            self.apply(layers.Conv2D(8, 1))

    def output(self, draw: Draw) -> None:
        self.outputs.append(self.x)

    def finish(self, draw: Draw) -> None:
        if chance(draw, 0.2):
            self.outputs.append(self.x)
        else:
            whole = one_of(draw, ["GlobalAveragePooling2D", "Flatten"])
            x = getattr(layers, whole)()(self.x)
            self.outputs.append(layers.Dense(4)(x))
        # An input that was never merged would be none of the network's.
        for unused in self.kept:
            if any(unused is given for given in self.inputs):
                self.outputs.append(layers.GlobalMaxPooling2D()(unused))

    def step(self, name: str, draw: Draw) -> None:
        before = self.x
        getattr(self, name)(draw)
        if int(np.prod(self.x.shape[1:])) > _MOST_ELEMENTS or 0 in self.x.shape[1:]:
            self.x = before

    def larq(self, draw: Draw) -> None:
        with_input = not (self.signed and chance(draw, 0.5))
        layer = tables.larq_convolution(draw, self.size, self.channels, with_input)
        self.apply(layer)
        if chance(draw, 0.2):
            self.reusable.append((layer, False))

    def other_larq(self, draw: Draw) -> None:
        self.apply(tables.other(draw, self.size, binary=True))

    def float_convolution(self, draw: Draw) -> None:
        self.apply(tables.float_convolution(draw, self.size, self.channels))

    def map(self, draw: Draw) -> None:
        actual = one_of(draw, tables.MAPS)(draw)
        self.apply(layers.Activation(actual) if isinstance(actual, str) else actual)

    def batch_norm(self, draw: Draw) -> None:
        self.apply(layers.BatchNormalization())

    def function(self, draw: Draw) -> None:
        actual = one_of(draw, tables.FUNCTIONS)
        self.x = layers.Lambda(actual)(self.x) if chance(draw, 0.3) else actual(self.x)
        self.signed = False

    def _some(self, draw: Draw, table: Any) -> None:
        """One to three layers of a table."""
        for _ in range(draw.integers(1, 4)):
            self.apply(one_of(draw, table)(draw))

    def sequence(self, draw: Draw) -> None:
        self.apply(layers.Reshape((self.size[0] * self.size[1], self.channels)))
        for make in draw.choice(
            np.array(tables.SEQUENCES, object), draw.integers(1, 4)
        ):
            self.apply(make(draw))
        if chance(draw, 0.1):
            self.x = layers.Attention()([self.x, self.x])
        elif chance(draw, 0.1):
            self.x = layers.MultiHeadAttention(2, 4)(self.x, self.x)
        self.apply(layers.Reshape((1, *self.x.shape[1:])))

    def vector(self, draw: Draw) -> None:
        whole = ["GlobalAveragePooling2D", "GlobalMaxPooling2D", "Flatten", "Flatten"]
        self.apply(getattr(layers, one_of(draw, whole))())
        self._some(draw, tables.VECTORS)
        back = [(1, 1, -1)]
        if self.x.shape[-1] % 4 == 0:
            back.append((2, 2, -1))
        self.apply(layers.Reshape(one_of(draw, back)))

    def gate(self, draw: Draw) -> None:
        """Squeeze and excite."""
        pooled = layers.GlobalAveragePooling2D(keepdims=True)(self.x)
        inner = layers.Dense(4, activation="relu")(pooled)
        gate = layers.Dense(self.channels, activation="sigmoid")(inner)
        self.x = layers.Multiply()([self.x, gate])
        self.signed = False

    def ids(self, draw: Draw) -> None:
        """An input of ids, which are looked up."""
        ids = keras.Input((self.size[0],), dtype="int32")
        self.inputs.append(ids)
        actual = layers.Embedding(11, self.channels)(ids)
        actual = layers.Reshape((self.size[0], 1, self.channels))(actual)
        self.x = layers.Add()([self.x, actual])
        self.signed = False

    def masked(self, draw: Draw) -> None:
        """An input of ids with padding, and what does without the padding."""
        ids = keras.Input((6,), dtype="int32")
        self.inputs.append(ids)
        x = layers.Embedding(11, 8, mask_zero=True)(ids)
        for _ in range(draw.integers(1, 4)):
            before = x
            x = one_of(draw, tables.MASKED)(draw)(x)
            if x.shape == before.shape and chance(draw, 0.2):
                x = layers.Add()([before, x])
        x = layers.Dense(self.channels)(one_of(draw, tables.READERS)(draw)(x))
        actual = layers.Reshape((1, 1, self.channels))(x)
        self.x = layers.Add()([self.x, actual])
        self.signed = False

    def adapted(self, draw: Draw) -> None:
        """A layer that has seen data."""
        data = draw.normal(1.0, 2.0, (16, *self.x.shape[1:])).astype(np.float32)
        if chance(draw, 0.6):
            layer = layers.Normalization(axis=one_of(draw, [-1, None]))
            layer.adapt(data)
            self.apply(layer)
            return
        bins = layers.Discretization(num_bins=one_of(draw, [2, 5]))
        bins.adapt(data[..., 0])
        channels = int(one_of(draw, [4, 8]))
        self.x = layers.Embedding(5, channels)(bins(self.x[..., 0]))
        self.signed = False

    def own_sign(self, draw: Draw) -> None:
        self.apply(users.sign(draw))
        self.signed = True

    def sign_shortcut(self, draw: Draw) -> None:
        """A binary convolution whose shortcut is the sign that it reads."""
        signs = lq.quantizers.SteSign()(self.x)
        conv = lq.layers.QuantConv2D(
            self.channels,
            3,
            padding="same",
            pad_values=1.0 if min(self.size) < 3 else one_of(draw, [0.0, 1.0]),
            use_bias=False,
            **{**_SIGNS, "input_quantizer": None},
        )
        self.x, self.signed = layers.Add()([conv(signs), signs]), False
        self.apply(layers.BatchNormalization())

    def scaled_output(self, draw: Draw) -> None:
        """An output that ends in a scale."""
        x = layers.Dense(3)(layers.GlobalAveragePooling2D()(self.x))
        scale = one_of(draw, [2.0, -0.5, 255.0])
        self.outputs.append(layers.Rescaling(scale, one_of(draw, [0.0, 1.0]))(x))

    def training_call(self, draw: Draw) -> None:
        layer = one_of(draw, tables.TRAINS)()
        self.x = (
            layer(self.x, True) if chance(draw, 0.5) else layer(self.x, training=True)
        )
        self.signed, self.trains = False, True

    def crossed(self, draw: Draw) -> None:
        """Two layers side by side, joined."""
        start, ends, signed = self.x, [], self.signed
        for _ in range(2):
            self.x, self.signed = start, signed
            self.step(one_of(draw, ["larq", "map", "function", "norm"]), draw)
            ends.append(self.x)
        self.x = ends[0]
        self.kept.append(ends[1])
        self.merge(draw)


_SIGNS = {
    "input_quantizer": "ste_sign",
    "kernel_quantizer": "ste_sign",
    "kernel_constraint": "weight_clip",
}


def _plain_binary(draw: Draw, size: tuple[int, ...]) -> Any:
    return lq.layers.QuantConv2D(
        8,
        one_of(draw, [1, 3]),
        padding="same",
        pad_values=one_of(draw, [0.0, 1.0]) if min(size) > 2 else 1.0,
        use_bias=False,
        **_SIGNS,
    )


def _cropped(x: Any, size: np.ndarray) -> Any:
    over = [int(had - left) for had, left in zip(x.shape[1:3], size, strict=True)]
    if not any(over):
        return x
    return layers.Cropping2D(tuple((0, rows) for rows in over))(x)


KINDS = (
    *["binary_convolution"] * 4,
    *["norm", "affine", "activation", "keep", "merge"] * 2,
    *["rewritten"] * 2,
    *["sign", "convolution", "pool", "frame", "operator"],
    *["again", "model", "input", "output", "twins", "two_sizes"],
    *["zero_gains", "ties", "front_axis", "sign_activation"],
)
STEPS = (
    *KINDS,
    *["larq"] * 6,
    *["batch_norm"] * 4,
    *["other_larq", "float_convolution", "map", "function"] * 2,
    *["sequence", "vector", "crossed", "gate", "ids"],
    *["masked", "adapted", "own_sign", "sign_shortcut", "scaled_output"] * 2,
    *["twins", "ties", "two_sizes", "zero_gains"] * 2,
    "training_call",
)
