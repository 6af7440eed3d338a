"""Batch normalization preconditioning around a binary convolution."""

from __future__ import annotations

import larq as lq
import numpy as np
from contract_case import Case
from contract_oracles import Weights, per_channel
from larq_nobn.layers import BatchNormalizationPreconditioning


def binary_convolution() -> lq.layers.QuantConv2D:
    return lq.layers.QuantConv2D(
        5,
        3,
        padding="same",
        pad_values=1.0,
        input_quantizer="ste_sign",
        kernel_quantizer="ste_sign",
        kernel_constraint="weight_clip",
    )


def preconditioned_convolution(
    x: np.ndarray, weights: Weights, upstream: np.ndarray
) -> Weights:
    kernel, (_, height, width, _) = weights["kernel"], x.shape
    signs, binary = np.where(x >= 0, 1.0, -1.0), np.where(kernel >= 0, 1.0, -1.0)
    padded = np.pad(signs, [(0, 0), (1, 1), (1, 1), (0, 0)], constant_values=1.0)
    d_kernel, d_padded = np.zeros_like(kernel), np.zeros_like(padded)
    for row, column in np.ndindex(3, 3):
        window = (slice(None), slice(row, row + height), slice(column, column + width))
        d_kernel[row, column] = np.einsum("nhwi,nhwo->io", padded[window], upstream)
        d_padded[window] += upstream @ binary[row, column].T
    d_bias = per_channel(upstream)
    # The averages as they are after this batch, which is the one that they serve.
    mean, variance = weights["moving_mean"], weights["moving_variance"]
    variance = np.maximum(variance, 0.01 * variance.max()) + 1e-4
    along, across = np.empty_like(kernel), d_bias.copy()
    for *tap, j, o in np.ndindex(kernel.shape):
        place = (*tap, j, o)
        along[place] = (d_kernel[place] - mean[j] * d_bias[o]) / variance[j]
        across[o] -= mean[j] * along[place]
    return {
        "x": d_padded[:, 1:-1, 1:-1] * (np.abs(x) <= 1),
        "kernel": along * (np.abs(kernel) <= 1),
        "bias": across,
    }


ROWS = (
    Case(
        BatchNormalizationPreconditioning,
        kwargs=lambda: {"layer": binary_convolution(), "momentum": 0.5},
        shapes=((2, 6, 6, 4),),
        weights=("kernel", "bias"),
        state=("moving_mean", "moving_variance", "batches"),
        training=True,
        drops_mask=True,  # as the convolution inside
        same_value=True,
        oracle=preconditioned_convolution,
        inference="removed",
        lce_bconv2d=2,
    ),
)
