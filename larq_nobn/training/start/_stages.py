"""Two-stage training: what the second stage takes over from the first."""

from __future__ import annotations

from typing import Any

from ..._keras import keras


def carry(source: keras.Model, target: keras.Model) -> None:
    """Gives a network the weights of another one with the same layers.

    Weights belong together if their layers have the same name, and they too. What only
    the target has, such as the scale of a kernel quantizer, keeps its value.

    Raises:
        ValueError: If the target has no place for a weight of the source.
    """
    missing = []
    for layer in source.layers:
        places = _by_name(_layer_of(target, layer.name))
        for name, value in _by_name(layer).items():
            if name in places and places[name].shape == value.shape:
                places[name].assign(value.numpy())
            else:
                missing.append(f"{layer.name}/{name}")
    if missing:
        raise ValueError(
            f"The network {target.name} has no place for {', '.join(missing)}. Give "
            "both stages the same network, width and blocks."
        )


def _layer_of(model: keras.Model, name: str) -> keras.layers.Layer | None:
    return next((layer for layer in model.layers if layer.name == name), None)


def _by_name(layer: keras.layers.Layer | None) -> dict[str, Any]:
    """Latent weights under the last part of their names; files keep no more of them."""
    weights = [] if layer is None else layer.weights
    return {
        weight.name.rsplit("/", 1)[-1]: getattr(weight, "latent_variable", weight)
        for weight in weights
    }
