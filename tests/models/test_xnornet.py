"""Where XNOR-Net differs from Bi-Real Net; test_birealnet.py has what they share."""

import pytest
from larq_nobn import layers
from larq_nobn._keras import keras
from larq_nobn.models import XNORNet18

TINY = {"width": 4, "blocks": (1, 2)}
NORMS = {
    "batch_norm": keras.layers.BatchNormalization,
    "filter_response": layers.FilterResponseNormalization,
    "group": keras.layers.GroupNormalization,
    "kalman": layers.BatchKalmanNormalization,
}


@pytest.mark.parametrize("normalization", NORMS)
def test_normalization_stands_before_the_sign(normalization):
    model = XNORNet18((8, 8, 3), 3, normalization, **TINY)
    kind = NORMS[normalization]
    blocks = ["stage1_block1", "stage2_block1", "stage2_block2"]
    for name in blocks:
        conv = model.get_layer(f"{name}_conv")
        before = conv.inbound_nodes[0].inbound_layers
        assert (before.name, type(before)) == (f"{name}_norm", kind)
        behind = {node.layer.name for node in conv.outbound_nodes}
        assert f"{name}_add" in behind
    names = [f"{name}_norm" for name in ("stem", "stage2_block1_shortcut", *blocks)]
    assert {x.name for x in model.layers if isinstance(x, kind)} == set(names)


def test_the_shortcut_is_one_convolution_with_a_stride():
    model = XNORNet18((8, 8, 3), 3, **TINY)
    conv = model.get_layer("stage2_block1_shortcut_conv")
    assert (conv.kernel_size, conv.strides) == ((1, 1), (2, 2))
    before = conv.inbound_nodes[0].inbound_layers
    assert before.name == "stage1_block1_add"


def test_parameter_count_with_batch_norm():
    # γ and β of what enters the 16 blocks, of the stem and of the three shortcuts.
    entering = 5 * 64 + 4 * 128 + 4 * 256 + 3 * 512
    norms = 2 * (entering + 64 + 128 + 256 + 512)
    model = XNORNet18((32, 32, 3), 10, "batch_norm")
    trainable = sum(w.shape.num_elements() for w in model.trainable_weights)
    assert trainable == 11_169_738 - 4_800 + norms
