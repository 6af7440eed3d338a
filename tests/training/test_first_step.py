"""The network of a run before its first step."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from larq_nobn._keras import keras
from larq_nobn.training import RunSettings, Trainer


def channel_means(settings, folder):
    """Of what the signs before binary convolutions are taken of, largest first."""
    trainer = Trainer(settings, output=folder)
    network = trainer.build()
    binary = [x for x in network.layers if getattr(x, "input_quantizer", None)]
    images, _ = next(trainer._batches("train").as_numpy_iterator())
    maps = keras.Model(network.input, [x.input for x in binary])(images)
    means = [
        np.mean(each, (0, 1, 2), np.float64) + layer.input_quantizer.shift.numpy()
        for each, layer in zip(maps, binary, strict=True)
    ]
    assert len(means) == 2  # one a block; projections read real values
    return np.sort(np.abs(np.concatenate(means)))[::-1]


def test_what_looks_at_no_batch_starts_with_balanced_signs(tmp_path):
    settings = RunSettings.from_recipe(
        normalization="none",
        **{"dataset": "digits", "width": 4, "blocks": (1, 1), "seed": 3},
        **{"limit": 64, "batch_size": 64},
    )
    assert channel_means(replace(settings, calibrate=False), tmp_path)[0] > 0.1
    for normalization in ("none", "proxy"):
        changed = replace(settings, normalization=normalization)
        assert channel_means(changed, tmp_path)[0] < 1e-4
