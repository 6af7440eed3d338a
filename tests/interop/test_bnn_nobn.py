import larq_nobn as nobn
import pytest
from interop import published_bnn_nobn
from interop.comparing import assert_same_function, save
from interop.published import randomized
from interop.published_bnn_nobn import Form


@pytest.mark.parametrize(
    "name, form, arguments, size",
    [
        ("ReActNet18", "nobn", {}, (16, 12)),
        ("ReActNet18", "none", {}, (16, 12)),
        ("ReActNet18", "batch_norm", {"large": True, "blocks": (1, 1)}, (40, 32)),
        ("ReActNetA", "nobn", {}, (32, 24)),
        ("ReActNetA", "batch_norm", {}, (32, 24)),
    ],
    ids=["18-nobn", "18-none", "18-imagenet", "a-nobn", "a-batch_norm"],
)
def test_outputs_are_those_of_pytorch(name, form, arguments, size, tmp_path):
    network = getattr(published_bnn_nobn, name)(Form(form), **arguments)
    network = randomized(network, seed=0)
    path = save(network, tmp_path / "checkpoint.pth.tar", prefix="module.")
    model = nobn.interop.load_bnn_nobn(path, size)
    assert_same_function(network, model, size)


@pytest.mark.parametrize("name", ["ReActNet18", "ReActNetA"])
def test_first_stage_and_another_alpha(name, tmp_path):
    form = Form("nobn", binary=False, alpha=0.3)
    # A second block, whose input has another variance by alpha.
    network = getattr(published_bnn_nobn, name)(form, blocks=(2, 1))
    network = randomized(network, seed=1)
    path = save(network, tmp_path / "stage1.pth.tar")
    size = (16, 16)
    model = nobn.interop.load_bnn_nobn(path, size, binary_weights=False, alpha=0.3)
    assert_same_function(network, model, size)
