from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from .._checks import check_number
from .._errors import InvalidValue
from .._keras import keras
from .._larq import kernel_in_layer, lq
from .._math import at_least_float32
from ..quantizers import ReCU
from ..quantizers._filters import filters
from ..quantizers._recu import clamped
from ._monitor import EpochMonitor, owners, shares

_TRANSPOSED = (keras.layers.Conv2DTranspose, keras.layers.Conv3DTranspose)


def binary_weights(model: keras.Model) -> list[Any]:
    """The weights of a model whose quantizer declares `precision` 1."""
    return [
        weight
        for weight in model.weights
        if hasattr(weight, "latent_variable") and weight.precision == 1
    ]


def layers_with(
    model: keras.Model, variables: Sequence[Any]
) -> list[keras.layers.Layer]:
    """The innermost layer that each variable belongs to, in a wrapper too."""
    layers = {
        id(own): module
        for module in (model, *model.submodules)
        if isinstance(module, keras.layers.Layer)
        for own in (*module._trainable_weights, *module._non_trainable_weights)
    }
    return [layers[id(variable)] for variable in variables]


class QuantizedKernel:
    """A kernel with a quantizer of Larq's kind.

    Calling the layer's own quantizer would move its metrics and add its losses, so the
    values come from a copy, which takes over the weights at every look. They are in the
    precision of the layer.
    """

    def __init__(self, layer: keras.layers.Layer, variable: Any) -> None:
        self._layer, self._variable = layer, variable
        self.latent, quantizer = variable.latent_variable, variable.quantizer
        self.size = variable.shape.num_elements()
        is_module = isinstance(quantizer, tf.Module)
        parts = (quantizer, *quantizer.submodules) if is_module else ()
        # Whether the variable itself contains the signs, as for `Bop`.
        self.latent_free = any(isinstance(p, lq.quantizers.NoOp) for p in parts)
        self._recu = next((part for part in parts if isinstance(part, ReCU)), None)
        self._copy, self._pairs = quantizer, []
        if isinstance(quantizer, keras.layers.Layer):
            self._copy = type(quantizer).from_config(quantizer.get_config())
            self.value()  # makes its weights
            pairs = zip(self._copy.weights, quantizer.weights, strict=True)
            self._pairs = list(pairs)

    def value(self) -> tf.Tensor:
        """What the forward pass multiplies with."""
        for mine, given in self._pairs:
            mine.assign(given)
        return kernel_in_layer(self._layer, self._variable, self._copy)

    def dead(self, tau: float) -> tf.Tensor | int:
        """How many latent weights lie beyond the quantile, at τ of a `ReCU` inside."""
        if self.latent_free:
            return 0
        columns = self._columns()
        if columns.shape[0] == 1:  # no variance, and no tail either
            return 0
        of = filters(columns, deviation=True)
        known = tau if self._recu is None else self._recu.tau
        _, _, limit = clamped(of, tf.convert_to_tensor(known))
        return tf.math.count_nonzero(tf.abs(of.columns - of.mean) > limit)

    def _columns(self) -> tf.Tensor:
        """The latent weights of each filter, that is of each output channel."""
        w = at_least_float32(tf.convert_to_tensor(self.latent))
        if isinstance(self._layer, _TRANSPOSED):  # (..., out, in)
            w = tf.linalg.matrix_transpose(w)
        depthwise = "depthwise_kernel" in self._variable.name  # (..., in, multiplier)
        channels = w.shape[-2] * w.shape[-1] if depthwise else w.shape[-1]
        return tf.reshape(w, (-1, channels))


class BinaryWeightMonitor(EpochMonitor):
    r"""Logs the fraction of binary weights that flip, and of dead latent weights.

    The flip ratio of an epoch is the fraction of binary weights whose sign at its end
    differs from that at the end of the epoch before, or at the start of training. Signs
    are those of the quantized kernel, so the threshold of the quantizer counts: 0, or
    the mean of the filter, or whatever it is. A weight that flips twice has not moved.

    A weight is dead, in ReCU's sense, if it lies so far in the tail of the distribution
    that its sign hardly ever changes. With the standardized latent weights of a filter
    and the mean over the layer,

    \[ \hat w = \frac{2\sqrt 2\,(W - \mu)}{\sqrt{\sigma^2 + 10^{-5}}}, \qquad
       Q = -\operatorname{mean}|\hat w|\, \ln(2 - 2\tau), \]

    \(\sigma^2\) unbiased, a weight is dead if \(|\hat w| > Q\). For Laplacian weights
    that is the share \(2 - 2\tau\). The same measure is taken for every quantizer, with
    the τ of its `ReCU` if it has one. Weights without latent ones, `NoOp(precision=1)`
    under `Bop`, have no tails and do not count.

    Binary weights are those whose quantizer declares `precision` 1. Ratios of several
    layers are weighted by their weights. Training is not changed, and the quantizers'
    own metrics are not touched.

    Arguments:
        tau: τ for quantizers without one of their own, in (0.5, 1).
        log_dir: Folder for TensorBoard, which also gets `flip_ratio/LAYER` and
            `dead_weight_ratio/LAYER`; None writes to the logs only.

    Logs:
        flip_ratio: Over all binary weights.
        dead_weight_ratio: Over all binary weights with latent ones; NaN without any.

    Raises:
        TypeError, ValueError: For arguments outside the ranges above; at the start of
            training, for a model without binary weights.

    Example:
        ```python
        import larq as lq
        import larq_nobn as nobn
        import numpy as np
        import tensorflow as tf

        model = tf.keras.Sequential([
            tf.keras.Input((8,)),
            lq.layers.QuantDense(4, kernel_quantizer=nobn.quantizers.ScaledStdSign()),
        ])
        model.compile("sgd", "mse")
        history = model.fit(
            np.ones((16, 8)), np.ones((16, 4)), epochs=3, verbose=0,
            callbacks=[nobn.callbacks.BinaryWeightMonitor()],
        )
        print(history.history["flip_ratio"], history.history["dead_weight_ratio"])
        ```

    References:
        - Z. Xu, M. Lin, J. Liu, J. Chen, L. Shao, Y. Gao, Y. Tian, R. Ji, "ReCU:
          Reviving the Dead Weights in Binary Neural Networks", ICCV 2021,
          arXiv:2103.12369.

    Differences from the paper:
        The paper speaks of dead weights of ReCU's own latent weights; here they are
        counted for every quantizer, whether or not it clamps them. The quantile is that
        of the published code, which estimates it from the mean magnitude. Larq's
        `FlipRatio` counts flips from step to step instead of from epoch to epoch.
    """

    def __init__(
        self, tau: float = 0.85, log_dir: str | os.PathLike | None = None
    ) -> None:
        super().__init__(log_dir)
        self.tau = check_number("tau", tau, "(0.5, 1)", "Use ReCU's 0.85.")
        self._layers: list[str] = []
        self._kernels: list[QuantizedKernel] = []
        self._signs: list[tf.Tensor] = []

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        variables = binary_weights(self.model)
        self._layers = owners(self.model, variables)
        if not variables:
            raise InvalidValue(
                f"The model {self.model.name} has no binary weights to watch. Give a "
                "layer a kernel_quantizer of precision 1, or leave "
                "BinaryWeightMonitor out."
            )
        known = [id(kernel.latent) for kernel in self._kernels]
        if known != [id(variable.latent_variable) for variable in variables]:
            layers = layers_with(self.model, variables)
            self._kernels = [*map(QuantizedKernel, layers, variables)]
        self._signs = self._signs_now()

    def measure(self) -> dict[str, float]:
        # As it comes: tracing it would take longer than many epochs do.
        before, self._signs = self._signs, self._signs_now()
        flipped = [
            tf.math.count_nonzero(now != then)
            for now, then in zip(self._signs, before, strict=True)
        ]
        dead = [kernel.dead(self.tau) for kernel in self._kernels]
        sizes = np.array([kernel.size for kernel in self._kernels])
        latent_free = np.array([kernel.latent_free for kernel in self._kernels])
        return {
            **shares("flip_ratio", self._layers, flipped, sizes),
            **shares(
                "dead_weight_ratio", self._layers, dead, np.where(latent_free, 0, sizes)
            ),
        }

    def get_state(self) -> list[str]:
        """Returns the signs at the start of the epoch, of each kernel as hexadecimals.

        With `set_state`, for a checkpoint within an epoch.
        """
        return [np.packbits(signs.numpy()).tobytes().hex() for signs in self._signs]

    def set_state(self, state: list[str]) -> None:
        """Takes back what `get_state` returned; after `on_epoch_begin`."""
        packed = [np.frombuffer(bytes.fromhex(text), np.uint8) for text in state]
        self._signs = [
            tf.constant(np.unpackbits(bits)[: kernel.size].reshape(signs.shape) == 1)
            for bits, kernel, signs in zip(
                packed, self._kernels, self._signs, strict=True
            )
        ]

    def _signs_now(self) -> list[tf.Tensor]:
        """Signs of each kernel as booleans."""
        return [kernel.value() > 0 for kernel in self._kernels]
