"""Networks with other kernel quantizers, or with weight decay, than they come with."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import larq as lq

from .._keras import keras
from .._larq import without_starvation_warning
from .._names import KERNELS as NAMES
from ..graph import Call, is_binary, rebuild, replace_layers
from ..layers import ActivationStandardization
from ..quantizers import BernoulliSign, BinaryRegularized, SignSwish

# Quantizers are registered under these names. A fresh one for each layer, because some
# own weights.
_REGISTERED = {
    **keras.utils.get_custom_objects(),
    "bnn_plus": lambda: BinaryRegularized(SignSwish(), order=1, strength=1e-7),
}
KERNELS: dict[str, Callable[[], Any]] = {name: _REGISTERED[name] for name in NAMES}
# These bring the weights to scale themselves, or look at more than [-1, 1] of them.
_UNCLIPPED = {"scaled_std_sign", "recu", "reste"}
# Beyond, a weight of this natural parameter is of the other sign once in 22,000 draws,
# and each time takes a step that no other step could undo.
_LARGEST_NATURAL = 5.0


def with_kernels(
    network: keras.Model,
    kernel: str | None,
    weight_decay: float,
    temperature: float = 1.0,
    latent_initializer: str | None = None,
    standardize_activations: bool = False,
) -> keras.Model:
    """Builds a new network again, with what settings say of its kernels and signs.

    None, 0 and False leave those of the network; `temperature` is for
    `"bernoulli_sign"`.
    """
    if not any((kernel, weight_decay, latent_initializer, standardize_activations)):
        return network
    kernels: dict[str, Callable[[], Any]] = {
        **KERNELS,
        "bernoulli_sign": partial(BernoulliSign, temperature),
    }

    def same_but(layer: keras.layers.Layer) -> keras.layers.Layer:
        changes: dict[str, Any] = {}
        if weight_decay and hasattr(layer, "kernel_regularizer"):
            # The gradient of half the square is the kernel itself.
            changes["kernel_regularizer"] = keras.regularizers.L2(weight_decay / 2)
        binary = is_binary(getattr(layer, "kernel_quantizer", None))
        if latent_initializer is not None and binary:
            changes["kernel_initializer"] = latent_initializer
        if kernel is not None and binary:
            changes["kernel_quantizer"] = kernels[kernel]()
            if kernel in _UNCLIPPED:
                changes["kernel_constraint"] = None
            elif kernel == "bernoulli_sign":
                clip = lq.constraints.WeightClip(_LARGEST_NATURAL)
                changes["kernel_constraint"] = clip
        return rebuild(layer, **changes)

    done = {
        node.layer.name
        for each in network.layers
        if isinstance(each, ActivationStandardization)
        for node in each.outbound_nodes
    }

    def standardized(call: Call) -> Any:
        """A layer after an `ActivationStandardization`, if it starts with a sign."""
        layer = same_but(call.layer)
        sign = is_binary(layer) or is_binary(getattr(layer, "input_quantizer", None))
        if not sign or layer.name in done:
            return layer
        before = ActivationStandardization(name=f"{layer.name}_standardization")
        return lambda x: layer(before(x))

    with without_starvation_warning():
        if standardize_activations:
            return replace_layers(network, standardized)
        return keras.models.clone_model(network, clone_function=same_but)


def scale_latent_weights(network: keras.Model, factor: float) -> None:
    """Multiplies the latent weights of every binary kernel."""
    for layer in network.layers:
        if is_binary(getattr(layer, "kernel_quantizer", None)):
            latent = layer.kernel.latent_variable
            latent.assign(factor * latent)
