"""The weights of a network under names that stay the same in every copy of it."""

from __future__ import annotations

from collections import Counter
from typing import Any

from .._keras import keras


def weights_by_name(model: keras.Model, prefix: str = "") -> dict[str, Any]:
    """Returns the weights of all layers under `layer/weight`.

    Of binary kernels the latent weights. Layers of models inside the model have the
    names of these in front, and all of them the prefix.
    """
    weights: dict[str, Any] = {}
    for layer in model.layers:
        path = f"{prefix}{layer.name}/"
        if isinstance(layer, keras.Model):
            weights |= weights_by_name(layer, path)
            continue
        seen: Counter[str] = Counter()
        for weight in layer.weights:
            # Reopened files keep no more than the last part of a name.
            last = weight.name.rsplit("/", 1)[-1].partition(":")[0]
            seen[last] += 1
            again = f"_{seen[last]}" if seen[last] > 1 else ""
            latent = getattr(weight, "latent_variable", weight)
            weights[f"{path}{last}{again}"] = latent
    return weights
