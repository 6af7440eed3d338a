"""The network of a run before its first step."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
from larq_nobn._keras import keras
from larq_nobn.training import RunSettings
from larq_nobn.training.run._images import images_of
from larq_nobn.training.run._start import started


def channel_means(settings):
    """Of what the signs before binary convolutions are taken of, largest first."""
    keras.utils.set_random_seed(settings.seed)
    strategy = tf.distribute.get_strategy()
    network, _ = started(settings, 1e-3, None, None, strategy, "auto")
    binary = [x for x in network.layers if getattr(x, "input_quantizer", None)]
    images, _ = next(images_of(settings, "train").as_numpy_iterator())
    maps = keras.Model(network.input, [x.input for x in binary])(images)
    means = [
        np.mean(each, (0, 1, 2), np.float64) + layer.input_quantizer.shift.numpy()
        for each, layer in zip(maps, binary, strict=True)
    ]
    assert len(means) == 2  # one a block; projections read real values
    return np.sort(np.abs(np.concatenate(means)))[::-1]


@pytest.mark.parametrize(
    "normalization", ["none", "filter_response", "proxy", "group", "evonorm"]
)
def test_what_looks_at_no_batch_begins_with_balanced_signs(normalization):
    settings = RunSettings.from_recipe(
        normalization=normalization,
        **{"dataset": "digits", "width": 4, "blocks": (1, 1), "seed": 3},
        **{"limit": 64, "batch_size": 64},
    )
    assert channel_means(settings)[0] < 1e-4
    assert channel_means(replace(settings, calibrate=False))[0] > 0.1
