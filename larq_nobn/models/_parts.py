"""The layers that networks consist of, for each normalization."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import tensorflow as tf

from .._checks import check_choice, check_flag
from .._errors import InvalidValue
from .._keras import keras
from .._larq import lq, without_starvation_warning
from ..graph._operation import rebuild
from ..layers import IndependentComponent, SignFlipDropout
from ..layers._grouped import GroupedConv2D
from ..quantizers import ProgressiveSign, ScaledStandardization, ScaledStdSign
from ..quantizers._kernel_quantizer import ScaledKernel, StandardizedKernel
from ..quantizers._rsign import ESTIMATORS, RSign
from ._moments import PropagatedMoments
from ._normalizations import BATCH_NORM, OFFSET, START, batch_norm, normalization_of
from ._own import fresh, is_own

_PROGRESSIVE = "progressive_sign"
# Expected maximum in a max pool of a size, in standard deviations of its values,
# measured with random kernels on images. For independent normal values it would be 1.03
# (2x2) and 1.49 (3x3), but neighboring values are similar.
_MAXIMUM = {1: 0.0, 2: 0.85, 3: 1.03}
LARGE = 64  # pixels of the smallest image with the stem for ImageNet


@dataclass(frozen=True)
class Parts:
    """The layers of a network with one normalization.

    Arguments:
        normalization: One of `NORMALIZATIONS`, or a user's layer.
        binary_weights: Whether the binary layers have binary kernels; False is for the
            first stage of two-stage training, with the same weight names.
        estimator: The gradient estimator of signs of activations, as in `RSign`;
            `"progressive_sign"` for `ProgressiveSign`; or a user's quantizer.
        variance_preserving, balanced: As in `ScaledStdSign`; for `"nobn"` only.
        kernel_quantizer: That of binary kernels; None for the network's own.
        activation: A name, layer or function; None for the network's own.
        shift: Whether the signs learn a shift.
        lift: Whether `OFFSET` is added after convolutions, not in signs.
        norm_first: Whether a normalization precedes the sign of a binary convolution,
            as in DenseNets, instead of following the convolution.
        bias: Whether the convolutions of `"nobn"` learn a bias, as batch norm has after
            them. It is free after a binary convolution, unlike the shift of a sign of a
            sum or a pool. Before a max pool it starts at minus the expected maximum.
        quick: Whether the binary kernels of `"nobn"` start from the published latent
            weights, so small that signs change within a few steps. Networks without
            shortcuts rarely survive that.
        latent_initializer: Initializer of binary kernels, but for `"nobn"`.
    """

    normalization: Any
    binary_weights: bool
    estimator: Any
    variance_preserving: bool = False
    balanced: bool = False
    kernel_quantizer: Any = None
    activation: Any = None
    shift: bool = True
    lift: bool = False
    norm_first: bool = False
    bias: bool = False
    quick: bool = True
    latent_initializer: Any = None
    _moments: PropagatedMoments = field(default_factory=PropagatedMoments)

    def __post_init__(self) -> None:
        normalization_of(self.normalization)
        if not is_own(self.estimator):
            check_choice("estimator", self.estimator, (*ESTIMATORS, _PROGRESSIVE))
        check_flag("binary_weights", self.binary_weights)
        check_flag("variance_preserving", self.variance_preserving)
        check_flag("balanced", self.balanced)

    @property
    def is_free(self) -> bool:
        """Whether kernels are standardized, and no layer normalizes."""
        return self.normalization == "nobn"

    @property
    def _flips(self) -> bool:
        return self.normalization == "independent_component"

    def apply(self, layer: keras.layers.Layer, inputs: Any) -> tf.Tensor:
        """Calls a layer of the network; all layers are called here."""
        if self.normalization == "kalman":
            return self._moments.apply(layer, inputs)
        return layer(inputs)

    def average(self, x: tf.Tensor, name: str) -> tf.Tensor:
        """Adds a 2x2 average pool, which halves height and width."""
        pool = keras.layers.AveragePooling2D(2, padding="same", name=f"{name}_pool")
        return self.apply(pool, x)

    def add(self, branch: tf.Tensor, x: tf.Tensor, name: str) -> tf.Tensor:
        """Adds a branch to `x`."""
        return self.apply(keras.layers.Add(name=f"{name}_add"), [branch, x])

    def activate(self, x: tf.Tensor, usual: keras.layers.Layer) -> tf.Tensor:
        """Adds the activation that was given, or else the usual one of the network."""
        made = usual
        if self.activation is not None:
            made = fresh("activation", self.activation, usual.name)
        if not isinstance(made, keras.layers.Layer):
            made = keras.layers.Activation(made, name=usual.name)
        return self.apply(made, x)

    def clip(self, x: tf.Tensor, name: str) -> tf.Tensor:
        """Adds a hard tanh, which converters fuse into a sum or a pool before it."""
        hard_tanh = lq.activations.hard_tanh
        return self.activate(x, keras.layers.Activation(hard_tanh, name=f"{name}_clip"))

    def normalize(
        self, x: tf.Tensor, name: str, branch: bool = False, start: Any = START
    ) -> tf.Tensor:
        """Adds the normalization, if it is a layer."""
        if self.normalization == "kalman":
            return self._moments.normalize(x, f"{name}_norm")
        norm = normalization_of(self.normalization)
        return norm.after(x, f"{name}_norm", branch, start)

    def beside(self, x: tf.Tensor, name: str) -> tf.Tensor:
        """Normalizes a map to which branches are added, if the normalization does."""
        normalized = normalization_of(self.normalization).beside or self.norm_first
        return self.normalize(x, name) if normalized else x

    def _lifted(self, x: tf.Tensor, name: str) -> tf.Tensor:
        """Adds `OFFSET` after a convolution, if signs do not add it."""
        if not self.lift or self.normalization not in ("none", "nobn"):
            return x
        return keras.layers.Rescaling(1.0, OFFSET, name=f"{name}_offset")(x)

    def components(self, x: tf.Tensor, name: str) -> tf.Tensor:
        """Adds an `IndependentComponent` for a real-valued kernel, if it is in use."""
        if not self._flips:
            return x
        return IndependentComponent(name=f"{name}_norm", **BATCH_NORM)(x)

    def _kernel(
        self, name: str, scale: float, binary: bool, pool: int = 1
    ) -> dict[str, Any]:
        """Returns the options of a convolution with a real-valued or `binary` kernel.

        Only `"nobn"` uses the scale. Its binary kernels start from the published latent
        weights, and those before a norm that sets the scale are as small: a weight of
        0.1 needs a hundred steps to change its sign. In other cases the magnitude of
        the weights scales the branch, so they start from Keras' default. `pool` is the
        size of the max pool after the convolution.
        """
        initializers = keras.initializers
        options: dict[str, Any] = {"use_bias": False}
        signs = binary and self.binary_weights
        own = self._own_kernel(f"{name}_kernel") if signs else None
        if not self.is_free:
            if signs:
                quantizer = own or lq.quantizers.MagnitudeAwareSign()
                options["kernel_quantizer"] = quantizer
                if (limit := getattr(quantizer, "latent_limit", 1.0)) is not None:
                    options["kernel_constraint"] = lq.constraints.WeightClip(limit)
            if self.norm_first:
                if not binary:
                    options["kernel_initializer"] = "he_normal"
            elif binary and self.latent_initializer is not None:
                options["kernel_initializer"] = self.latent_initializer
            elif binary and normalization_of(self.normalization).scaled:
                start = initializers.RandomUniform(-1e-3, 1e-3)
                options["kernel_initializer"] = start
            return options
        std = scale  # of the convolution's output
        arguments: dict[str, Any] = {"scale": scale, "name": f"{name}_kernel"}
        if signs:
            # The mean magnitude of uniform latent weights is 0.87 times their σ.
            std = scale * (1.0 if self.variance_preserving else 0.75**0.5)
            arguments["variance_preserving"] = self.variance_preserving
            arguments["balanced"] = self.balanced
        kind = ScaledStdSign if signs else ScaledStandardization
        quantizer = options["kernel_quantizer"] = kind(**arguments)
        if own is not None:
            std, quantizer = scale, rebuild(own, scale=scale * own.scale)
            options["kernel_quantizer"] = quantizer
        # Of positive weights, only a standardized kernel has both signs.
        if binary and self.quick and isinstance(quantizer, StandardizedKernel):
            options["kernel_initializer"] = initializers.RandomUniform(0.0, 1e-3)
        if self.bias:
            # If all maxima were above zero, all signs after the pool would be +1.
            centered = initializers.Constant(OFFSET - std * _MAXIMUM[pool])
            options |= {"use_bias": True, "bias_initializer": centered}
        return options

    def _own_kernel(self, name: str) -> Any:
        """Returns a new kernel quantizer of the user; None if there is none."""
        if self.kernel_quantizer is None:
            return None
        made = fresh("kernel_quantizer", self.kernel_quantizer, name)
        if self.is_free and not isinstance(made, ScaledKernel):
            raise InvalidValue(
                f"kernel_quantizer={self.kernel_quantizer!r} has no scale, but the "
                "kernels of normalization='nobn' are scaled instead of normalized. "
                "Derive its class from quantizers.ScaledKernel, or choose another "
                "normalization, such as batch_norm."
            )
        return made

    @without_starvation_warning()
    def _convolved(
        self, x: tf.Tensor, name: str, *arguments: Any, **options: Any
    ) -> tf.Tensor:
        grouped = options.get("groups", 1) > 1
        convolution = GroupedConv2D if grouped else lq.layers.QuantConv2D
        conv = convolution(*arguments, name=f"{name}_conv", **options)
        return self.apply(conv, x)

    def float_conv(
        self,
        x: tf.Tensor,
        channels: int,
        size: int,
        strides: int,
        name: str,
        scale: float = 1.0,
        binary: bool = False,
        groups: int = 1,
        pool: int = 1,
        padding: str = "same",
        bias: bool = False,
    ) -> tf.Tensor:
        """Adds a convolution of real-valued inputs.

        Its kernel is real-valued too, unless `binary`, as in the first layer of some
        networks. The scale is for `"nobn"` only, such as for a ReLU after it. Groups of
        a 1x1 kernel are of shuffled channels. `pool` is the size of a max pool that the
        caller adds after it. With `bias`, it has one under every normalization.
        """
        kernel = self._kernel(name, scale, binary, pool)
        if groups > 1:
            kernel |= {"groups": groups, "shuffled": size == 1}
        if bias:
            start = keras.initializers.Constant(OFFSET)
            kernel |= {"use_bias": True, "bias_initializer": start}
        return self._convolved(x, name, channels, size, strides, padding, **kernel)

    def _sign(self, name: str, beta: float) -> Any:
        beta, name = beta if self.is_free else 1.0, f"{name}_sign"
        # The offset is the initial value of a learned shift. Networks of `"nobn"`
        # without shifts have biases that start at it.
        needed = self.shift if self.is_free else self.normalization == "none"
        offset = OFFSET if needed and not self.lift else 0.0
        if self.estimator == _PROGRESSIVE:
            return ProgressiveSign(beta, shift=self.shift, offset=offset, name=name)
        if is_own(self.estimator):
            own = fresh("estimator", self.estimator, name)
            if isinstance(own, keras.layers.Layer):
                return own
        how = {"shift": self.shift, "offset": offset, "estimator": self.estimator}
        return RSign(beta, **how, name=name)

    def signs(self, x: tf.Tensor, name: str, beta: float = 1.0) -> tf.Tensor:
        """Adds sign(beta·x + shift) as a layer, whose output convolutions may share."""
        if self._flips:
            # Sign flips instead of dropout, whose zeros would become +1.
            x = self._sign(name, beta)(batch_norm(x, f"{name}_norm"))
            return SignFlipDropout(name=f"{name}_flip")(x)
        if self.norm_first:
            x = self.normalize(x, name)
        return self.apply(self._sign(name, beta), x)

    def binary_conv(
        self,
        x: tf.Tensor,
        channels: int,
        size: int | tuple[int, int],
        strides: int,
        name: str,
        alpha: float = 1.0,
        beta: float = 1.0,
        padding: str = "same",
        dilation: int = 1,
        pool: keras.layers.MaxPool2D | None = None,
        signed: bool = False,
        activation: str | None = None,
    ) -> tf.Tensor:
        """Adds alpha·conv(sign(beta·x + shift)), with a binary kernel, normalized.

        Both factors are for `"nobn"`: alpha is part of the kernel's scale and beta of
        the sign's, so neither is an operation of its own. After the convolution come an
        activation and a max pool, if given. If `signed`, x is an output of `signs`.
        """
        if self._flips and not signed:
            x, signed = self.signs(x, name), True
        elif self.norm_first and not signed:
            x = self.normalize(x, name)
        # Tells Larq's summary that the input is binary.
        marker = lq.quantizers.NoOp(precision=1)
        x = self._convolved(
            x,
            name,
            channels,
            size,
            strides,
            padding,
            pad_values=1.0,
            dilation_rate=dilation,
            input_quantizer=marker if signed else self._sign(name, beta),
            activation=activation if self.activation is None else None,
            **self._kernel(name, alpha, True, pool.pool_size[0] if pool else 1),
        )
        if activation is not None and self.activation is not None:
            x = self.activate(x, keras.layers.ReLU(name=f"{name}_act"))
        if pool is not None:
            x = self.apply(pool, x)
        return x if self.norm_first else self.normalize(x, name, branch=True)

    def projection(
        self,
        x: tf.Tensor,
        channels: int,
        name: str,
        scale: float,
        pooled: bool = True,
        binary: bool = True,
    ) -> tf.Tensor:
        """Adds a shortcut's 1x1 convolution, with a binary or a real-valued kernel.

        The input is real-valued, so the convolution is linear, and the scale of
        `"nobn"` is part of its kernel. The size is halved by a 2x2 average before it
        or, if not `pooled`, by its stride.
        """
        if pooled:
            x = self.average(x, name)
        x, kernel = self.components(x, name), self._kernel(name, scale, binary)
        x = self._convolved(x, name, channels, 1, 1 if pooled else 2, **kernel)
        return self._lifted(self.beside(x, name), name)

    def stem(
        self,
        x: tf.Tensor,
        width: int,
        activation: keras.layers.Layer | None = None,
        added: bool = True,
    ) -> tf.Tensor:
        """Adds the first convolution of residual networks and of VGG.

        For 64 pixels or more it is that for ImageNet, 7x7 with stride 2 and max
        pooling, below a 3x3 convolution. The activation follows the normalization.
        `added` says whether branches are added to the result.
        """
        large = min(x.shape[1:3]) >= LARGE
        size, strides, pool = (7, 2, 3) if large else (3, 1, 1)
        x = self.float_conv(x, width, size, strides, "stem", pool=pool)
        x = self.beside(x, "stem") if added else self.normalize(x, "stem")
        x = self._lifted(x, "stem")
        if activation is not None:
            x = self.activate(x, activation)
        max_pool = keras.layers.MaxPool2D(3, 2, padding="same", name="stem_pool")
        return self.apply(max_pool, x) if large else x
