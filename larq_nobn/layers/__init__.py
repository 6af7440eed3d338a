"""Keras layers: normalizers and activations of feature maps."""

from ._activation_standardization import ActivationStandardization
from ._channel_affine import ChannelAffine
from ._channelwise import ChannelwiseLayer
from ._dynamic_tanh import DynamicTanh
from ._evonorm import EvoNormS0
from ._fake_quantization import FakeQuantization
from ._frn import FilterResponseNormalization
from ._independent_component import IndependentComponent
from ._kalman import BatchKalmanNormalization
from ._leaky_integrate_and_fire import LeakyIntegrateAndFire
from ._preconditioned_layer import BatchNormalizationPreconditioning
from ._propagate_moments import propagate_moments
from ._proxy import ProxyNormalization
from ._rprelu import RPReLU
from ._sign_flip_dropout import SignFlipDropout
from ._skip_init import SkipInit
from ._symmetric_head import SymmetricHead
from ._tlu import ThresholdedLinearUnit

__all__ = [
    "ActivationStandardization",
    "BatchKalmanNormalization",
    "BatchNormalizationPreconditioning",
    "ChannelAffine",
    "ChannelwiseLayer",
    "DynamicTanh",
    "EvoNormS0",
    "FakeQuantization",
    "FilterResponseNormalization",
    "IndependentComponent",
    "LeakyIntegrateAndFire",
    "ProxyNormalization",
    "RPReLU",
    "SignFlipDropout",
    "SkipInit",
    "SymmetricHead",
    "ThresholdedLinearUnit",
    "propagate_moments",
]
