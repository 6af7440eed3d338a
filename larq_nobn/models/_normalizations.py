"""The normalizations that networks are built with, by name, and what is known of each.

Their layers are the functions of the same names in `_normalizers.py`.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Normalization:
    """What is known of a normalization without its layers.

    Attributes:
        after: Whether a layer stands after convolutions.
        batch: Whether what it computes in training depends on the other examples of a
            batch.
        beside: Whether the stem and the projections of shortcuts, to which branches are
            added, have it too. By results/init_and_placement/ some are better without.
        before_sign: Whether it suits the place before a sign. There EvoNorm would be
            group norm, and Proxy Norm, without the activation that it makes up for,
            layer norm: neither could show what it is for.
        scaled: Whether it, or the kernel, brings convolutions to scale. Else latent
            weights start from Glorot's larger ones; so do those of EvoNorm, whose
            activation needs values near 1 and not near 0.001 to be more than linear,
            and of DyT's tanh.
        centered: Whether it subtracts a mean.
        concatenated: Whether it suits networks whose features are concatenated, or
            rectified. Batch Kalman normalization, which carries moments through sums,
            signs and kernels alone, would never see a prior there.
    """

    after: bool = True
    batch: bool = False
    beside: bool = True
    before_sign: bool = True
    scaled: bool = True
    centered: bool = True
    concatenated: bool = True


NORMALIZATIONS = {
    "batch_norm": Normalization(batch=True),
    "none": Normalization(after=False, scaled=False, centered=False),
    "nobn": Normalization(after=False, centered=False),
    "filter_response": Normalization(beside=False, centered=False),
    "proxy": Normalization(beside=False, before_sign=False),
    "group": Normalization(),
    # Carries moments along: `models/_moments.py`.
    "kalman": Normalization(after=False, batch=True, concatenated=False),
    # Stands before the convolution.
    "independent_component": Normalization(after=False, batch=True, scaled=False),
    "evonorm": Normalization(beside=False, before_sign=False, scaled=False),
    "dynamic_tanh": Normalization(scaled=False, centered=False),
}
