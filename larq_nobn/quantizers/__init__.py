"""Larq quantizers: for kernels and activations, by object, class or string alias."""

from ._bernoulli_sign import BernoulliSign
from ._binary_regularized import BinaryRegularized
from ._biper import BiPer
from ._kernel_quantizer import KernelQuantizer, ScaledKernel
from ._progressive_sign import ProgressiveSign
from ._recu import ReCU
from ._reste import ReSTE
from ._rsign import RSign
from ._scaled_standardization import ScaledStandardization
from ._scaled_std_sign import ScaledStdSign
from ._sigmoid_sign import SigmoidSign
from ._sign_swish import SignSwish

__all__ = [
    "BernoulliSign",
    "BiPer",
    "BinaryRegularized",
    "KernelQuantizer",
    "ProgressiveSign",
    "RSign",
    "ReCU",
    "ReSTE",
    "ScaledKernel",
    "ScaledStandardization",
    "ScaledStdSign",
    "SigmoidSign",
    "SignSwish",
]
