"""What a model is, for comparison with what a file of it opens as."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from larq_nobn._keras import keras


def class_names(model: keras.Model) -> list[str]:
    """The class of everything inside, quantizers too, with its module."""
    return sorted(
        f"{type(module).__module__}.{type(module).__qualname__}"
        for module in model.submodules
        if isinstance(module, keras.layers.Layer)
    )


def without_build_shapes(text: str) -> str:
    """A configuration in JSON without what Keras adds to the nested objects it built.

    From a SavedModel it does not restore that of a layer without a `build` of its own.
    """

    def plain(config: dict[str, Any]) -> dict[str, Any]:
        return {k: v for k, v in config.items() if k != "build_config"}

    return json.dumps(json.loads(text, object_hook=plain), sort_keys=True)


def outputs(model: keras.Model, images: list[np.ndarray]) -> list[np.ndarray]:
    """Those of inference, then the added losses."""
    actual = model(images if len(images) > 1 else images[0], training=False)
    actual = actual if isinstance(actual, list) else [actual]
    return [np.asarray(each) for each in [*actual, *model.losses]]
