from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .._keras import keras
from ._frame import Frame
from ._parts import Parts
from ._pretrained import opens_weights
from ._residual18 import residual18


@opens_weights
def BiRealNet18(
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
    name: str = "birealnet18",
    kernel_quantizer: Any = None,
    activation: Any = None,
) -> keras.Model:
    r"""Bi-Real Net-18: every binary convolution has a real-valued shortcut of its own.

    Every block computes

    \[ y = \alpha\, \mathrm{conv}(\mathrm{sign}(\beta x)) + \mathrm{shortcut}(x) . \]

    The shortcut is x itself or, at the start of a new stage, a real-valued 1x1
    convolution of the 2x2 average of x. β is one over the expected standard deviation
    of x. One PReLU follows the stem, another precedes the final average; the signs have
    no shift. The stem and the final dense layer, `head`, are real-valued; `head`
    returns logits in float32.

    Arguments:
        normalization: Any of `NORMALIZATIONS`, as in `ReActNet18`: `"nobn"` (scaled
            weight standardization with gains, α and β), `"none"`, or a layer after
            every convolution or those of branches; the paper has `"batch_norm"`.
        blocks: Number of blocks, of one convolution each, per stage.
        input_shape, classes, width, binary_weights, alpha, variance_rule, estimator,
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

        model = nobn.models.BiRealNet18((32, 32, 3), classes=10, width=16)
        model.compile("adam", "mse")
        ```

    References:
        - Z. Liu, B. Wu, W. Luo, X. Yang, W. Liu, K.-T. Cheng, "Bi-Real Net: Enhancing
          the Performance of 1-bit CNNs With Improved Representational Capability and
          Advanced Training Algorithm", ECCV 2018, arXiv:1808.00278.
        - T. Chen, Z. Zhang, X. Ouyang, Z. Liu, Z. Shen, Z. Wang, '"BNN - BN = ?":
          Training Binary Neural Networks without Batch Normalization', CVPR Workshops
          2021, arXiv:2104.08215.
        - R. Ma, G. Qiao, Y. Liu, L. Meng, N. Ning, Y. Liu, S. Hu, "A&B BNN: Add&Bit-
          Operation-Only Hardware-Friendly Binary Neural Network", CVPR 2024,
          arXiv:2403.03739 (the published code of the normalizer-free form).

    Differences from the paper:
        The two PReLUs are those of the normalizer-free form; the original has none, but
        here all normalizations have the same activations. The normalizer-free code of
        A&B BNN has α = 0.25 and the estimator `"sigmoid_sign"`. As in that code, the
        shortcut of a new stage is not scaled by β, although the expected variance is
        reset to 1 there. Padding and initial weights differ as in `ReActNet18`. Without
        a normalization layer, the stem and the shortcuts of new stages add 1e-5, so
        that rounding does not decide the signs of flat patches.
    """
    kernels = (binary_weights, estimator, variance_preserving, balanced)
    own = (kernel_quantizer, activation)
    parts = Parts(normalization, *kernels, *own, shift=False, lift=True)
    frame = Frame("BiRealNet18", input_shape, classes, width, head, name)
    return residual18(frame, parts, blocks, alpha, variance_rule, binary=False)
