import larq_nobn as nobn
import pytest
from interop import published_bnn_nobn
from interop.comparing import assert_same_function, save
from interop.published import randomized
from interop.published_bnn_nobn import Form


@pytest.mark.parametrize("form", ["nobn", "batch_norm", "none"])
@pytest.mark.parametrize(
    "name, arguments, size",
    [
        ("ReActNet18", {}, (16, 12)),
        ("ReActNet18", {"large": True}, (40, 32)),
        ("ReActNetA", {}, (32, 24)),
    ],
    ids=["18-cifar", "18-imagenet", "a"],
)
def test_outputs_are_those_of_pytorch(name, arguments, size, form, tmp_path):
    network = getattr(published_bnn_nobn, name)(Form(form), **arguments)
    network = randomized(network, seed=0)
    path = save(network, tmp_path / "checkpoint.pth.tar", prefix="module.")
    model = nobn.interop.load_bnn_nobn(path, size)
    assert_same_function(network, model, size)


@pytest.mark.parametrize("name", ["ReActNet18", "ReActNetA"])
def test_first_stage_and_another_alpha(name, tmp_path):
    form = Form("nobn", binary=False, alpha=0.3)
    network = randomized(getattr(published_bnn_nobn, name)(form), seed=1)
    path = save(network, tmp_path / "stage1.pth.tar")
    size = (16, 16)
    model = nobn.interop.load_bnn_nobn(path, size, binary_weights=False, alpha=0.3)
    assert_same_function(network, model, size)
