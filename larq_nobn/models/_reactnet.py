from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .._checks import check_flag
from .._keras import keras
from ..layers import RPReLU
from ._frame import Frame
from ._parts import Parts
from ._pretrained import opens_weights
from ._residual18 import residual18
from ._variants import like


def reactnet(
    network: str,
    *,
    input_shape: Sequence[int],
    classes: int,
    normalization: Any,
    width: int,
    blocks: Sequence[int],
    alpha: float,
    variance_rule: str,
    head: str,
    scaled_shortcut: bool,
    power_of_two: bool,
    name: str,
    real_shortcuts: bool = False,
    **kernels: Any,
) -> keras.Model:
    """Builds a ReActNet of a name; `kernels` are arguments of `Parts`."""
    check_flag("scaled_shortcut", scaled_shortcut)
    return residual18(
        Frame(network, input_shape, classes, width, head, name),
        Parts(normalization, **kernels),
        blocks,
        alpha,
        variance_rule,
        activation=lambda name: RPReLU(power_of_two, name=name),
        scaled_shortcut=scaled_shortcut,
        binary=not real_shortcuts,
    )


@opens_weights
def ReActNet18(
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
    scaled_shortcut: bool = True,
    power_of_two: bool = False,
    name: str = "reactnet18",
    kernel_quantizer: Any = None,
    activation: Any = None,
) -> keras.Model:
    r"""ReActNet-18: a residual network of one binary convolution per block.

    Every block computes

    \[ y = \mathrm{RPReLU}\big(\alpha\, \mathrm{conv}(\mathrm{sign}(\beta x + b))
       + \mathrm{shortcut}(x)\big) . \]

    The shortcut is x itself or, at the start of a new stage, the 2x2 average of βx and
    a 1x1 convolution with a binary kernel. β is one over the expected standard
    deviation of x. The stem and the final dense layer, `head`, are real-valued; `head`
    returns logits in float32.

    Arguments:
        input_shape: (height, width, channels). For 64 pixels or more the stem is that
            for ImageNet (7x7, stride 2, max pooling), below a 3x3 convolution.
        classes: Number of classes, 2 or more.
        normalization: `"nobn"` (scaled weight standardization with gains, α and β);
            `"none"` (the original without normalization); a layer after every
            convolution: `"batch_norm"` as published, `"kalman"`, `"group"` (16 channels
            per group) or `"dynamic_tanh"`; a layer only after convolutions of branches:
            `"filter_response"`, `"proxy"` (layer norm and a leaky ReLU) or `"evonorm"`;
            or `"independent_component"`, before every convolution but the first. Only
            `"batch_norm"`, `"kalman"` and `"independent_component"` depend on the batch
            in training. Or a layer of your own after every convolution.
        width: Channels of the first stage; every further stage doubles them.
        binary_weights: Whether the kernels of the blocks are binary. False is for the
            first stage of two-stage training; names and shapes of weights are the same.
        blocks: Number of blocks per stage.
        alpha: Positive factor of the residual branches, 0.2 in the paper; `"nobn"`
            only. The defaults for `"nobn"` are those of the recipe of that name.
        variance_rule: `"nf"`, which counts every block, or `"vita"`, as in the
            published code; `"nobn"` only.
        estimator: Gradient estimator of the sign: a name or a function, as in
            `quantizers.RSign`; `"progressive_sign"` for `quantizers.ProgressiveSign`;
            or a quantizer of your own, which replaces `RSign`.
        variance_preserving, balanced: As in `quantizers.ScaledStdSign`; `"nobn"` only.
        head: `"dense"`, or `"symmetric"` for a `layers.SymmetricHead`.
        scaled_shortcut: Whether shortcuts of new stages average βx. False averages x,
            as in A&B BNN; `"nobn"` only.
        power_of_two: Whether the slopes of the RPReLUs are powers of two, as in A&B
            BNN.
        name: Name of the model.
        kernel_quantizer: Quantizer of the binary kernels; None for that of the
            normalization. `"nobn"` multiplies its `scale`, so its class must be derived
            from `quantizers.ScaledKernel`. If the object has no attribute
            `latent_limit`, all other normalizations clip latent weights to [-1, 1].
        activation: Activation in place of the network's own, here the RPReLUs, at each
            of their places; a layer or a function. None for the network's own. α, β and
            constants of `"nobn"` remain those of the own activation.

    A part of your own is given by its registered name (`"package>Class"`, or the alias
    of a quantizer), its class or an object. Each place gets a new layer or quantizer,
    made from the configuration of the object.

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
        pad as TensorFlow does, below and right. All but `"nobn"` clip latent weights to
        [-1, 1], and initialize them on both sides of zero, not above it; `"none"`,
        `"independent_component"`, `"evonorm"` and `"dynamic_tanh"` start from Glorot's
        larger weights, since small ones would make their branches too weak to learn.
        The pseudo-gradient of their binary kernels has the factor mean |W|, as Larq's
        `MagnitudeAwareSign`. Real-valued kernels of the first of two stages start as
        the binary ones. Thresholds of `"none"` and biases of normalizations start at
        1e-5, so that rounding does not decide the signs of sums that are 0.
    """
    return reactnet("ReActNet18", **locals())


@opens_weights
@like(ReActNet18, blocks=(6, 8, 12, 6))
def ReActNet34(**arguments: Any) -> keras.Model:
    """ReActNet-34: `ReActNet18` with 32 blocks instead of 16.

    For 224x224x3 images and 1000 classes it has 3,526 million binary and 138 million
    float MACs. A 64th of the binary ones and the float ones are 1.93e8 operations, the
    published number of Bi-Real Net-34, which has the same convolutions. With batch norm
    21,827,432 weights are trained, as in the published code.

    Arguments:
        **arguments: Those of `ReActNet18`; `blocks` are (6, 8, 12, 6).

    Example:
        ```python
        import larq_nobn as nobn

        model = nobn.models.ReActNet34((32, 32, 3), 10, width=16, blocks=(1, 1))
        ```

    References:
        - Z. Liu, Z. Shen, M. Savvides, K.-T. Cheng, "ReActNet: Towards Precise Binary
          Neural Network with Generalized Activation Functions", ECCV 2020,
          arXiv:2003.03488 (its code has this network).

    Differences from the paper:
        Those of `ReActNet18`. The kernels of shortcuts are binary here, as in the code
        of BNN-BN, and real-valued in the published code.
    """
    return reactnet("ReActNet34", **arguments)
