from __future__ import annotations

from collections.abc import Sequence

from .._checks import check_flag
from .._keras import keras
from ..layers import RPReLU
from ._frame import Frame
from ._parts import Parts
from ._pretrained import opens_weights
from ._residual18 import residual18


@opens_weights
def ReActNet18(
    input_shape: Sequence[int],
    classes: int,
    normalization: str = "nobn",
    width: int = 64,
    binary_weights: bool = True,
    blocks: Sequence[int] = (4, 4, 4, 4),
    alpha: float = 0.5,
    variance_rule: str = "nf",
    estimator: str = "approx_sign",
    variance_preserving: bool = True,
    balanced: bool = True,
    head: str = "dense",
    scaled_shortcut: bool = True,
    power_of_two: bool = False,
    name: str = "reactnet18",
) -> keras.Model:
    r"""ReActNet-18: a residual network of one binary convolution per block.

    Every block computes

    \[ y = \mathrm{RPReLU}\big(\alpha\, \mathrm{conv}(\mathrm{sign}(\beta x + b))
       + \mathrm{shortcut}(x)\big) . \]

    The shortcut is x itself, or, where the stage changes, the 2x2 average of βx after
    a binary 1x1 kernel. β is one over the expected standard deviation of x. The stem
    and the final dense layer, `head`, are real-valued; `head` returns logits in
    float32.

    Arguments:
        input_shape: (height, width, channels). From 64 pixels on the stem is that for
            ImageNet (7x7, stride 2, max pooling), below a 3x3 convolution.
        classes: Number of classes, 2 or more.
        normalization: `"nobn"` (scaled weight standardization with gains, α and β),
            `"none"` (the original without normalization), or the original with a layer
            after every convolution: `"batch_norm"` as published, `"kalman"`,
            `"group"` (16 channels a group) or `"dynamic_tanh"`; or after those of the
            branches alone, which suits them better: `"filter_response"`, `"proxy"`
            (layer norm and a leaky ReLU) or `"evonorm"`. `"independent_component"` puts
            one before every convolution but the first. In training `"batch_norm"`,
            `"kalman"` and `"independent_component"` look at the batch, the others at
            each example.
        width: Channels of the first stage; doubled in every further stage.
        binary_weights: False keeps the kernels of the blocks real-valued, for the first
            stage of two-stage training; names and shapes of all weights are the same.
        blocks: Number of blocks per stage.
        alpha: Positive factor on the residual branches, 0.2 in the paper; `"nobn"`
            only. The defaults for `"nobn"` are those of the recipe of that name.
        variance_rule: `"nf"`, which counts every block, or `"vita"`, the bookkeeping of
            the published code; `"nobn"` only.
        estimator: Gradient estimator of the sign, as in `quantizers.RSign`, or
            `"progressive_sign"` for `quantizers.ProgressiveSign`.
        variance_preserving, balanced: As in `quantizers.ScaledStdSign`; `"nobn"` only.
        head: `"dense"`, or `"symmetric"` for a `layers.SymmetricHead`.
        scaled_shortcut: False averages x itself where the stage changes, as A&B BNN
            does; `"nobn"` only.
        power_of_two: Whether the slopes of the RPReLUs are powers of two, as in A&B
            BNN.
        name: Name of the model.

    Returns:
        A functional Keras model.

    Raises:
        TypeError, ValueError: For arguments outside the ranges above or an image too
            small for the number of stages.

    Example:
        ```python
        import larq_nobn as nobn

        model = nobn.models.ReActNet18((32, 32, 3), classes=10, width=16)
        model.compile("adam", "mse")
        ```

    References:
        - Z. Liu, Z. Shen, M. Savvides, K.-T. Cheng, "ReActNet: Towards Precise Binary
          Neural Network with Generalized Activation Functions", ECCV 2020,
          arXiv:2003.03488.
        - T. Chen, Z. Zhang, X. Ouyang, Z. Liu, Z. Shen, Z. Wang, '"BNN - BN = ?":
          Training Binary Neural Networks without Batch Normalization', CVPR Workshops
          2021, arXiv:2104.08215.
        - R. Ma, G. Qiao, Y. Liu, L. Meng, N. Ning, Y. Liu, S. Hu, "A&B BNN: Add&Bit-
          Operation-Only Hardware-Friendly Binary Neural Network", CVPR 2024,
          arXiv:2403.03739 (`scaled_shortcut=False`, `power_of_two=True`, α = 0.25 and
          the estimator `"sigmoid_sign"`).

    Differences from the paper:
        Binary convolutions are padded with +1 instead of 0, and stride-2 convolutions
        pad as TensorFlow does, below and right. All but `"nobn"` clip their binary
        weights to [-1, 1] and start them on both sides of zero, not above it; `"none"`,
        `"independent_component"`, `"evonorm"` and `"dynamic_tanh"` from Glorot's larger
        ones, since with small ones their branches are too weak to learn.
    """
    check_flag("scaled_shortcut", scaled_shortcut)
    kernels = (binary_weights, estimator, variance_preserving, balanced)
    parts = Parts(normalization, *kernels)
    frame = Frame("ReActNet18", input_shape, classes, width, head, name)
    return residual18(
        frame,
        parts,
        blocks,
        alpha,
        variance_rule,
        activation=lambda name: RPReLU(power_of_two, name=name),
        scaled_shortcut=scaled_shortcut,
    )
