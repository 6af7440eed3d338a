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
from ..quantizers._filters import measured_filters
from ..quantizers._recu import clamp_limits
from ._monitor import EpochMonitor, fractions, owners

_TRANSPOSED = (keras.layers.Conv2DTranspose, keras.layers.Conv3DTranspose)


def binary_weights(model: keras.Model) -> list[Any]:
    """Returns the weights of a model whose quantizer declares `precision` 1."""
    return [
        weight
        for weight in model.weights
        if hasattr(weight, "latent_variable") and weight.precision == 1
    ]


def layers_with(
    model: keras.Model, variables: Sequence[Any]
) -> list[keras.layers.Layer]:
    """Returns the innermost layer of each variable, also inside wrappers."""
    layers = {
        id(own): module
        for module in (model, *model.submodules)
        if isinstance(module, keras.layers.Layer)
        for own in (*module._trainable_weights, *module._non_trainable_weights)
    }
    return [layers[id(variable)] for variable in variables]


class QuantizedKernel:
    """A kernel with a Larq quantizer.

    Calling the layer's own quantizer would update its metrics and add its losses. So
    values, in the precision of the layer, come from a copy, whose weights are updated
    first.
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
            self.value()  # builds the copy
            pairs = zip(self._copy.weights, quantizer.weights, strict=True)
            self._pairs = list(pairs)

    def value(self) -> tf.Tensor:
        """Returns the kernel of the forward pass."""
        for copied, weight in self._pairs:
            copied.assign(weight)
        return kernel_in_layer(self._layer, self._variable, self._copy)

    def dead(self, tau: float) -> tf.Tensor | int:
        """Counts latent weights beyond the quantile, at the τ of a `ReCU` if any."""
        if self.latent_free:
            return 0
        columns = self._columns()
        if columns.shape[0] == 1:  # no variance
            return 0
        filters = measured_filters(columns, deviation=True)
        quantile = tau if self._recu is None else self._recu.tau
        _, _, limit = clamp_limits(filters, tf.convert_to_tensor(quantile))
        return tf.math.count_nonzero(tf.abs(filters.columns - filters.mean) > limit)

    def _columns(self) -> tf.Tensor:
        """Returns the latent weights, with a column per filter (output channel)."""
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
    are those of the quantized kernel. A weight that flips twice does not count.

    A weight is dead, in the terms of ReCU, if it is so far in the tail of the
    distribution that its sign hardly ever changes. With the standardized latent weights
    of a filter and the mean over the layer,

    \[ \hat w = \frac{2\sqrt 2\,(W - \mu)}{\sqrt{\sigma^2 + 10^{-5}}}, \qquad
       Q = -\operatorname{mean}|\hat w|\, \ln(2 - 2\tau), \]

    with unbiased \(\sigma^2\), a weight is dead if \(|\hat w| > Q\), which a fraction
    \(2 - 2\tau\) of Laplacian weights is. This applies to every quantizer, with the τ
    of its `ReCU` if it has one. Weights without latent weights, such as
    `NoOp(precision=1)` with `Bop`, do not count.

    Binary weights are those whose quantizer declares `precision` 1. Ratios count each
    weight of the network once. The monitor changes neither training nor the metrics of
    quantizers.

    Arguments:
        tau: τ of quantizers without one of their own, in (0.5, 1).
        log_dir: Folder for TensorBoard, which also gets `flip_ratio/LAYER` and
            `dead_weight_ratio/LAYER`; None writes to the logs only.

    Logs:
        flip_ratio: Fraction of all binary weights.
        dead_weight_ratio: Fraction of all binary weights that have latent weights; NaN
            if none have.

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
        The paper counts dead weights of ReCU; here they are counted for every
        quantizer, whether or not it clamps them. The quantile is that of the published
        code, which estimates it from the mean magnitude. Larq's `FlipRatio` counts
        flips from step to step instead of from epoch to epoch.
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
                f"The model {self.model.name} has no binary weights to monitor. Give a "
                "layer a kernel_quantizer of precision 1, or leave "
                "BinaryWeightMonitor out."
            )
        known = [id(kernel.latent) for kernel in self._kernels]
        if known != [id(variable.latent_variable) for variable in variables]:
            layers = layers_with(self.model, variables)
            self._kernels = [*map(QuantizedKernel, layers, variables)]
        self._signs = self._signs_now()

    def measure(self) -> dict[str, float]:
        # Eagerly, since tracing would take longer than many epochs.
        before, self._signs = self._signs, self._signs_now()
        flipped = [
            tf.math.count_nonzero(now != then)
            for now, then in zip(self._signs, before, strict=True)
        ]
        dead = [kernel.dead(self.tau) for kernel in self._kernels]
        sizes = np.array([kernel.size for kernel in self._kernels])
        latent_free = np.array([kernel.latent_free for kernel in self._kernels])
        return {
            **fractions("flip_ratio", self._layers, flipped, sizes),
            **fractions(
                "dead_weight_ratio", self._layers, dead, np.where(latent_free, 0, sizes)
            ),
        }

    def get_state(self) -> list[str]:
        """Returns the signs at the start of the epoch, as hexadecimals per kernel.

        A checkpoint within an epoch contains them.
        """
        return [np.packbits(signs.numpy()).tobytes().hex() for signs in self._signs]

    def set_state(self, state: list[str]) -> None:
        """Restores what `get_state` returned; call it after `on_epoch_begin`."""
        packed = [np.frombuffer(bytes.fromhex(text), np.uint8) for text in state]
        self._signs = [
            tf.constant(np.unpackbits(bits)[: kernel.size].reshape(signs.shape) == 1)
            for bits, kernel, signs in zip(
                packed, self._kernels, self._signs, strict=True
            )
        ]

    def _signs_now(self) -> list[tf.Tensor]:
        """Returns the signs of each kernel as booleans."""
        return [kernel.value() > 0 for kernel in self._kernels]
