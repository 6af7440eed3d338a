from __future__ import annotations

import os

from .._checks import check_flag
from .._keras import keras
from ._assembly import Assembly
from ._checkpoint import read_checkpoint
from ._recu_networks import is_strided, residual, style_of, vgg_size, vgg_small
from ._shapes import check_image_size
from ._slots import fill


def load_recu(
    path: str | os.PathLike,
    image_size: tuple[int, int] | None = None,
    *,
    verify: bool = True,
) -> keras.Model:
    r"""Opens a checkpoint of ReCU's PyTorch code as a model of Larq layers.

    The names in the checkpoint tell the network: ResNet-20, ResNet-18 or VGG-small for
    CIFAR, ResNet-18 or 34 for ImageNet, or the same in ReActNet's structure. Its
    shapes tell width, blocks and classes. Tensors are taken by name, and each has its
    variable, τ of every layer included. The model has batch norm, as published;
    `fold_batch_norm` takes it out. It computes what PyTorch computes in evaluation
    mode, at every size that PyTorch can compute: it pads with zeros, and where maps are
    halved by convolutions its first layer turns the image by 180 degrees, with all
    kernels turned alike, for TensorFlow to pad where PyTorch does.

    Every import checks that the names are those of the network, no more and no fewer,
    that each tensor has its shape, that each variable gets one tensor, and that each
    layer computes what PyTorch's operations make of its tensors. A checkpoint contains
    no network to compare the whole with. The tests of this package compare each network
    with the published one.

    Arguments:
        path: A `.pth.tar` file, or any with a `state_dict`; no code from it runs.
        image_size: (height, width), 8 or more; None for 32x32 if the stem is that for
            CIFAR, else 224x224. VGG-small takes the one size that its dense layer fits.
        verify: Whether each layer is compared with PyTorch's operations.

    Returns:
        A functional Keras model, which can be trained and converted like any other.

    Raises:
        ImportError: If PyTorch is not installed.
        FileNotFoundError: If there is no such file.
        TypeError, ValueError: If it is no such checkpoint, or carries code, or for an
            image size that the network does not take.

    Example:
        ```python
        model = nobn.interop.load_recu("model_best.pth.tar")
        nobn.convert(nobn.fold_batch_norm(model), "resnet20.tflite")
        ```

    References:
        - Z. Xu, M. Lin, J. Liu, J. Chen, L. Shao, Y. Gao, Y. Tian, R. Ji, "ReCU:
          Reviving the Dead Weights in Binary Neural Networks", ICCV 2021,
          arXiv:2103.12369, with the code github.com/z-hXu/ReCU.

    Differences from the paper:
        PyTorch's sign(0) = 0 becomes +1. In training, ReActNet's structure goes without
        `ActivationStandardization`, since it would have to stand between the shift and
        the sign of one `RSign`; no output depends on it.
    """
    check_flag("verify", verify)
    state = read_checkpoint(path)
    net = Assembly(state)
    style = style_of(state)
    if style is not None:
        default = 224 if is_strided(state, style) else 32
        model = residual(net, style, check_image_size(image_size, default))
    elif "conv0.weight" in state:
        fitting = vgg_size(state)
        if check_image_size(image_size, fitting[0]) != fitting:
            raise ValueError(
                f"image_size={image_size} does not fit the dense layer of this "
                f"VGG-small, which takes {fitting} only. Leave the size out."
            )
        model = vgg_small(net, fitting)
    else:
        raise ValueError(
            f"{path} is not a checkpoint of ReCU: it has none of layer1.0.conv1.alpha, "
            "layer1.0.conv.alpha and conv0.weight, which its networks have. Give a "
            "checkpoint of one of them."
        )
    fill(model, net.slots, state, turned=style is not None, verify=verify)
    return model
