"""Imports compare each of their layers with PyTorch's operations on its tensors."""

import numpy as np
import pytest
import torch
from interop import published_ab, published_bnn_nobn, published_recu
from interop.published import randomized
from interop.published_bnn_nobn import Form
from larq_nobn.interop import _ab, _bnn_nobn, _recu, _slots
from larq_nobn.interop._slots import Slot

NETWORKS = {
    "recu": (_recu, lambda: published_recu.ReActNet(blocks=(2, 1))),
    "vgg": (_recu, published_recu.VGGSmall),
    "bnn_nobn": (
        _bnn_nobn,
        lambda: published_bnn_nobn.ReActNet18(Form("batch_norm"), blocks=(2, 1)),
    ),
    "ab": (_ab, lambda: published_ab.ReActNet18(blocks=(2, 1))),
    "birealnet": (_ab, lambda: published_ab.BiRealNet18(blocks=(2, 1))),
}
LOAD = {_recu: "load_recu", _bnn_nobn: "load_bnn_nobn", _ab: "load_ab"}


def load(name, path, monkeypatch, change=None, **options):
    """Imports a network, with slots or tensors changed on the way into it."""
    module, network = NETWORKS[name]
    torch.save(randomized(network(), seed=0).state_dict(), path)
    if change is not None:

        def fill(model, slots, state, turned, verify):
            turned = change(slots, turned)
            return _slots.fill(model, slots, state, turned, verify)

        monkeypatch.setattr(module, "fill", fill)
    return getattr(module, LOAD[module])(path, **options)


def swapped(first, second):
    """Two tensors of equal shape, each in the place of the other."""

    def change(slots, turned):
        assert slots[first].shapes == slots[second].shapes
        slots[first], slots[second] = slots[second], slots[first]
        return turned

    return change


def arranged(name, other):
    """A tensor of which the axes come in another order."""

    def change(slots, turned):
        variable, shapes, _ = slots[name]

        def arrange(array):
            return np.reshape(other(array), variable.shape)

        slots[name] = Slot(variable, shapes, arrange)
        return turned

    return change


def axes(*order):
    return lambda array: array.transpose(order)


BLOCK = "layer1.0"
PLANTED = {
    "a kernel's height for its width": (
        "recu", arranged(f"{BLOCK}.conv.weight", axes(3, 2, 1, 0))),
    "a kernel's inputs for its outputs": (
        "bnn_nobn", arranged(f"{BLOCK}.binary_conv.weight", axes(2, 3, 0, 1))),
    "a kernel as it is stored": ("vgg", arranged("conv1.weight", lambda x: x)),
    "the kernel of the stem": ("ab", arranged("conv1.weight", axes(3, 2, 1, 0))),
    "that of a shortcut": (
        "ab", arranged("layer2.0.downsample.1.weight", lambda x: x)),
    "kernels that are not turned": ("ab", lambda slots, turned: False),
    "kernels that are turned": ("vgg", lambda slots, turned: True),
    "two kernels": (
        "recu", swapped(f"{BLOCK}.conv.weight", "layer1.1.conv.weight")),
    "scale and bias": ("bnn_nobn", swapped("bn1.weight", "bn1.bias")),
    "mean and variance": (
        "recu", swapped(f"{BLOCK}.bn.running_mean", f"{BLOCK}.bn.running_var")),
    "batch norms of two blocks": (
        "recu", swapped(f"{BLOCK}.bn.running_mean", "layer1.1.bn.running_mean")),
    "both shifts of an activation": (
        "ab", swapped(f"{BLOCK}.move1.bias", f"{BLOCK}.move2.bias")),
    "the shift of a sign": (
        "bnn_nobn", swapped(f"{BLOCK}.move0.bias", f"{BLOCK}.move1.bias")),
    "slopes of two blocks": (
        "ab", swapped(f"{BLOCK}.prelu.L_alpha", "layer1.1.prelu.L_alpha")),
    "slopes the other way round": (
        "birealnet", arranged("prelu1.weight", lambda x: x[::-1])),
    "the dense layer as it is stored": ("ab", arranged("fc.weight", lambda x: x)),
    "a flat map channel by channel": ("vgg", arranged("fc.weight", axes(1, 0))),
}  # fmt: skip


@pytest.mark.parametrize("kind", PLANTED)
def test_a_tensor_in_the_wrong_place_is_found(kind, tmp_path, monkeypatch):
    name, change = PLANTED[kind]
    path = tmp_path / "checkpoint.pth.tar"
    with pytest.raises(
        ValueError, match=r"Layer '\w+', set from .*; verify=False opens"
    ):
        load(name, path, monkeypatch, change)
    load(name, path, monkeypatch, change, verify=False)
