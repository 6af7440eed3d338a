"""The weights of a network, by names that are the same in every copy of it."""

from __future__ import annotations

from collections import Counter
from typing import Any

from .._keras import keras, keras_3, of_keras_3


def weights_by_name(model: keras.Model, prefix: str = "") -> dict[str, Any]:
    """Returns the weights of all layers under `layer/weight`.

    Binary kernels are represented by their latent weights. The names of nested models,
    and the prefix, precede the name of a layer.
    """
    weights: dict[str, Any] = {}
    for layer in model.layers:
        path = f"{prefix}{layer.name}/"
        if isinstance(layer, keras_3().Model if of_keras_3(layer) else keras.Model):
            weights |= weights_by_name(layer, path)
            continue
        seen: Counter[str] = Counter()
        for weight in layer.weights:
            # Reopened files keep only the last part of a name.
            last = weight.name.rsplit("/", 1)[-1].partition(":")[0]
            if (type(layer).__name__, last) == ("DepthwiseConv2D", "kernel"):
                last = "depthwise_kernel"  # as legacy Keras has it, unlike Keras 3
            seen[last] += 1
            again = f"_{seen[last]}" if seen[last] > 1 else ""
            latent = getattr(weight, "latent_variable", weight)
            weights[f"{path}{last}{again}"] = latent
    return weights
