from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .._keras import keras
from ._frame import Frame, check_supported
from ._normalizations import BEFORE_SIGN
from ._parts import Parts
from ._pretrained import opens_weights
from ._residual18 import residual18


@opens_weights
def XNORNet18(
    input_shape: Sequence[int],
    classes: int,
    normalization: Any = "nobn",
    width: int = 64,
    binary_weights: bool = True,
    blocks: Sequence[int] = (4, 4, 4, 4),
    alpha: float = 0.5,
    variance_rule: str = "nf",
    estimator: Any = "approx_sign",
    variance_preserving: bool = True,
    balanced: bool = True,
    head: str = "dense",
    name: str = "xnornet18",
    kernel_quantizer: Any = None,
    activation: Any = None,
) -> keras.Model:
    r"""XNOR-Net with 18 layers: normalization, then sign, then convolution.

    Every block computes, with a normalization or none,

    \[ y = \alpha\, \mathrm{conv}(\mathrm{sign}(\beta\, \mathrm{norm}(x)))
       + \mathrm{shortcut}(x) . \]

    The shortcut is x itself or, at the start of a new stage, a 1x1 convolution of x
    with stride 2 and a binary kernel, normalized. β is one over the expected standard
    deviation of x. One PReLU follows the stem, another precedes the final average; the
    signs have no shift. The stem and the final dense layer, `head`, are real-valued;
    `head` returns logits in float32.

    Arguments:
        normalization: `"nobn"` (scaled weight standardization with gains, α and β),
            `"none"`, or a layer before every sign: `"batch_norm"` as published,
            `"kalman"`, `"filter_response"`, `"group"` or `"dynamic_tanh"`.
            `"independent_component"` is before every convolution but the first.
        blocks: Number of blocks, of one convolution each, per stage.
        estimator: Gradient estimator of the sign, as in `quantizers.RSign`; the paper
            has `"ste_sign"`.
        input_shape, classes, width, binary_weights, alpha, variance_rule,
        variance_preserving, balanced, head, name, kernel_quantizer, activation: As in
        `ReActNet18`.

    Returns:
        A functional Keras model.

    Raises:
        TypeError, ValueError: For arguments outside the ranges above or an image too
            small for the number of stages.

    Example:
        ```python
        import larq_nobn as nobn

        model = nobn.models.XNORNet18((32, 32, 3), classes=10, width=16)
        model.compile("adam", "mse")
        ```

    References:
        - M. Rastegari, V. Ordonez, J. Redmon, A. Farhadi, "XNOR-Net: ImageNet
          Classification Using Binary Convolutional Neural Networks", ECCV 2016,
          arXiv:1603.05279.
        - T. Chen, Z. Zhang, X. Ouyang, Z. Liu, Z. Shen, Z. Wang, '"BNN - BN = ?":
          Training Binary Neural Networks without Batch Normalization', CVPR Workshops
          2021, arXiv:2104.08215.
        - R. Ma, G. Qiao, Y. Liu, L. Meng, N. Ning, Y. Liu, S. Hu, "A&B BNN: Add&Bit-
          Operation-Only Hardware-Friendly Binary Neural Network", CVPR 2024,
          arXiv:2403.03739 (the published code of the normalizer-free form).

    Differences from the paper:
        As in the published normalizer-free code, which has α = 0.25 and the estimator
        `"sigmoid_sign"`, there is one shortcut per convolution, not per two; binary
        kernels of shortcuts have real-valued inputs; and shortcuts of new stages are
        not scaled by β, although the expected variance is reset to 1 there. Activations
        are not scaled by their local mean magnitude. Padding is as in `ReActNet18`;
        without `"nobn"` binary kernels start from Glorot's weights. Without a
        normalization layer 1e-5 is added as in `BiRealNet18`.
    """
    check_supported("XNORNet18", normalization, BEFORE_SIGN)
    kernels = (binary_weights, estimator, variance_preserving, balanced)
    own = (kernel_quantizer, activation)
    parts = Parts(
        normalization, *kernels, *own, shift=False, lift=True, norm_first=True
    )
    frame = Frame("XNORNet18", input_shape, classes, width, head, name)
    return residual18(frame, parts, blocks, alpha, variance_rule, pooled=False)
