"""Larq quantizers: for kernels and activations, by object, class or string alias."""

from ._recu import ReCU
from ._rsign import RSign
from ._scaled_standardization import ScaledStandardization
from ._scaled_std_sign import ScaledStdSign

__all__ = ["RSign", "ReCU", "ScaledStandardization", "ScaledStdSign"]
