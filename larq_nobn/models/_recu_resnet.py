from __future__ import annotations

from typing import Any

from .._keras import keras
from ._pretrained import opens_weights
from ._reactnet import ReActNet18, reactnet
from ._variants import like


def _recu_resnet(
    network: str, normalization: Any, kernel_quantizer: Any, **arguments: Any
) -> keras.Model:
    if kernel_quantizer is None and normalization != "nobn":
        kernel_quantizer = "recu"
    return reactnet(
        network,
        normalization=normalization,
        kernel_quantizer=kernel_quantizer,
        latent_initializer="he_normal",
        real_shortcuts=True,
        **arguments,
    )


@opens_weights
@like(ReActNet18)
def ReCUResNet18(**arguments: Any) -> keras.Model:
    r"""ResNet-18 of ReCU for ImageNet, in the form for two stages of training.

    Every block of `ReActNet18` has a `quantizers.ReCU` kernel, and every new stage a
    real-valued one in its shortcut:

    \[ y = \mathrm{RPReLU}\big(\mathrm{norm}(\mathrm{conv}_{\mathrm{ReCU}}(
       \mathrm{sign}(x + b))) + \mathrm{shortcut}(x)\big) . \]

    `"nobn"` has the kernels, α and β of `ReActNet18`, since those of ReCU have no fixed
    scale. `larq-nobn train` moves τ of ReCU from 0.85 to 0.99, and `--stages 2` trains
    real-valued kernels first.

    For 224x224x3 images and 1000 classes, with multiplications (MACs) in millions and
    the weights that are trained with batch norm, as in the published code:

    | network        | weights    | binary MACs | float MACs |
    |----------------|------------|-------------|------------|
    | `ReCUResNet18` | 11,708,264 |       1,676 |        138 |
    | `ReCUResNet34` | 21,834,984 |       3,526 |        138 |

    Arguments:
        **arguments: Those of `ReActNet18`; the paper has the normalization
            `"batch_norm"`. `kernel_quantizer=None` is ReCU.

    Returns:
        A functional Keras model.

    Raises:
        TypeError, ValueError: For arguments that `ReActNet18` rejects.

    Example:
        ```python
        import larq_nobn as nobn

        arguments = {"normalization": "batch_norm", "width": 16, "blocks": (1, 1)}
        model = nobn.models.ReCUResNet18((32, 32, 3), 10, **arguments)
        ```

    References:
        - Z. Xu, M. Lin, J. Liu, J. Chen, L. Shao, Y. Gao, Y. Tian, R. Ji, "ReCU:
          Reviving the Dead Weights in Binary Neural Networks", ICCV 2021,
          arXiv:2103.12369.

    Differences from the paper:
        In training, the published code divides what a sign reads, with its threshold,
        by the standard deviation of the example. This changes no sign, only where its
        gradient ends; here signs have no such factor. Padding, and the layers of other
        normalizations, are as in `ReActNet18`.
    """
    return _recu_resnet("ReCUResNet18", **arguments)


@opens_weights
@like(ReActNet18, blocks=(6, 8, 12, 6))
def ReCUResNet34(**arguments: Any) -> keras.Model:
    """ResNet-34 of ReCU: `ReCUResNet18` with 32 blocks instead of 16.

    Arguments:
        **arguments: Those of `ReCUResNet18`; `blocks` are (6, 8, 12, 6).

    Example:
        ```python
        import larq_nobn as nobn

        arguments = {"normalization": "batch_norm", "width": 16, "blocks": (1, 1)}
        model = nobn.models.ReCUResNet34((32, 32, 3), 10, **arguments)
        ```

    References:
        - Z. Xu, M. Lin, J. Liu, J. Chen, L. Shao, Y. Gao, Y. Tian, R. Ji, "ReCU:
          Reviving the Dead Weights in Binary Neural Networks", ICCV 2021,
          arXiv:2103.12369.
    """
    return _recu_resnet("ReCUResNet34", **arguments)
