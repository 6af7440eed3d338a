from __future__ import annotations

import os

from .._checks import check_choice, check_flag, check_number, check_size
from .._errors import InvalidValue
from .._keras import keras
from ._checkpoint import read_checkpoint
from ._reactnets import fill, reactnet18, reactnet_a, shape_of


def import_checkpoint(
    path: str | os.PathLike,
    image_size: int | tuple[int, int] | None = None,
    binary_weights: bool = True,
    alpha: float | None = None,
    source: str | None = None,
) -> keras.Model:
    r"""Opens a checkpoint of BNN-BN's or A&B BNN's PyTorch code as a Keras model.

    The names and shapes in the checkpoint determine the network (`ReActNet18`, also as
    -34, or `ReActNetA`), its width, blocks, classes and stem, and its normalization:
    `"nobn"`, `"batch_norm"` or `"none"`. Every tensor is assigned by its name to one
    variable. In A&B BNN, slopes are \(2^{\operatorname{round}(L)}\), and the shortcut
    is that of x itself where a stage starts. The model computes the same as PyTorch in
    evaluation mode, at every image size that PyTorch accepts. For that it pads with
    zeros, and its first layer rotates the image by 180 degrees, and all kernels are
    rotated too, so that TensorFlow pads on the sides where PyTorch does.

    Every import checks that the names and shapes are exactly those of the network. The
    tests of this package compare the outputs with those of the published networks.

    Arguments:
        path: A `.pth.tar` file, or any file with a `state_dict`; no code from it runs.
        image_size: (height, width) or one number, 8 or more; None for 32x32 if the stem
            is that for CIFAR, else 224x224. A ReActNet-A of A&B BNN has the stem for
            CIFAR for fewer than 1000 classes.
        binary_weights: Whether kernels are binary; False for a checkpoint of the first
            stage. Names and shapes do not tell.
        alpha: Positive factor of the residual branches of the normalizer-free form,
            which checkpoints do not contain; None for the published one, 0.2 in BNN-BN
            and 0.25 in A&B BNN.
        source: `"bnn_nobn"` or `"ab"` accepts only that code's; None accepts both.

    Returns:
        A functional Keras model, which can be trained and converted like any other.

    Raises:
        ImportError: If PyTorch is not installed.
        FileNotFoundError: If there is no such file.
        ValueError: If it is not such a checkpoint, or contains code.

    Example:
        ```python
        model = nobn.interop.import_checkpoint("model_best.pth.tar")
        nobn.convert(model, "reactnet_a.tflite")
        ```

    References:
        - T. Chen, Z. Zhang, X. Ouyang, Z. Liu, Z. Shen, Z. Wang, '"BNN - BN = ?":
          Training Binary Neural Networks without Batch Normalization', CVPR Workshops
          2021, arXiv:2104.08215, with the code github.com/VITA-Group/BNN_NoBN.
        - R. Ma, G. Qiao, Y. Liu, L. Meng, N. Ning, Y. Liu, S. Hu, "A&B BNN: Add&Bit-
          Operation-Only Hardware-Friendly Binary Neural Network", CVPR 2024,
          arXiv:2403.03739, with the code github.com/Ruichen0424/AB-BNN.

    Differences from the paper:
        PyTorch's sign(0) = 0 becomes +1.
    """
    check_flag("binary_weights", binary_weights)
    if alpha is not None:
        check_number("alpha", alpha, "(0, inf)", "None is the published one.")
    if source is not None:
        check_choice("source", source, ("bnn_nobn", "ab"))
    size = check_size(image_size, "published_image_size")
    state = read_checkpoint(path)
    parts = {name.rpartition(".")[2] for name in state}
    is_ab = "L_alpha" in parts  # the logarithms of its slopes
    if source is not None and is_ab != (source == "ab"):
        raise InvalidValue(
            f"{path} is not a checkpoint of source={source!r}, but of "
            f"{'A&B BNN' if is_ab else 'BNN-BN'}. Leave source out, or give another."
        )
    if is_ab and "gain" not in parts:
        raise InvalidValue(
            f"{path} has slopes of A&B BNN, but not the gains of its convolutions. "
            "Give a checkpoint of its ReActNets."
        )
    without = "nobn" if "gain" in parts else "none"
    arguments = {
        "classes": shape_of(state, "fc.weight", 2)[0],
        "normalization": "batch_norm" if "running_mean" in parts else without,
        "binary_weights": binary_weights,
        "alpha": alpha or (0.25 if is_ab else 0.2),
        "variance_rule": "vita",
        "variance_preserving": False,
        "balanced": False,
        "scaled_shortcut": not is_ab,
        "power_of_two": is_ab,
    }
    arguments |= {"estimator": "sigmoid_sign"} if is_ab else {}
    if state.keys() & {"layer1.0.binary_conv.weight", "layer1.0.conv1.weight"}:
        model, slots = reactnet18(state, size, **arguments)
    elif "feature.1.binary_3x3.weight" in state:
        model, slots = reactnet_a(state, size, **arguments)
    else:
        raise InvalidValue(
            f"{path} is not a checkpoint of BNN-BN or A&B BNN: it has neither "
            "layer1.0.binary_conv.weight or layer1.0.conv1.weight, as ReActNet-18 has, "
            "nor feature.1.binary_3x3.weight, as ReActNet-A has. Give a checkpoint of "
            "one of these networks."
        )
    fill(slots, state)
    return model


load_bnn_nobn = import_checkpoint  # its name while it read BNN-BN's code alone
