"""What is not a checkpoint of the published code is rejected in a sentence."""

import pickle
import sys

import larq_nobn as nobn
import numpy as np
import pytest
import torch
from interop.published import randomized
from interop.published_bnn_nobn import Form, ReActNet18
from larq_nobn._keras import keras
from larq_nobn.interop import load_bnn_nobn
from larq_nobn.interop._checkpoint import read_checkpoint
from larq_nobn.interop._slots import dense, fill


@pytest.fixture
def path(tmp_path):
    return tmp_path / "checkpoint.pth.tar"


@pytest.fixture
def state():
    return dict(randomized(ReActNet18(Form("nobn"), 4, (1,)), 0).state_dict())


def test_without_pytorch(monkeypatch, path):
    path.write_bytes(b"anything")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ImportError, match=r"pip install 'larq-nobn\[torch\]'"):
        load_bnn_nobn(path)


def test_missing_file_and_folder(path, tmp_path):
    with pytest.raises(FileNotFoundError, match="checkpoint.pth.tar is not a file"):
        load_bnn_nobn(path)
    with pytest.raises(FileNotFoundError, match="is not a file. Give a checkpoint"):
        load_bnn_nobn(tmp_path)


@pytest.mark.parametrize("content", [b"", b"not a pickle", b"PK\x03\x04broken"])
def test_other_files(content, path):
    path.write_bytes(content)
    with pytest.raises(ValueError, match="is damaged, or contains other"):
        load_bnn_nobn(path)


@pytest.mark.parametrize("zipped", [True, False])
def test_half_a_checkpoint(zipped, state, path):
    torch.save(state, path, _use_new_zipfile_serialization=zipped)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match="is damaged, or contains other"):
        load_bnn_nobn(path)


def test_a_version_of_pytorch_that_runs_code(monkeypatch, path):
    path.write_bytes(b"anything")
    monkeypatch.setattr(torch, "__version__", "2.5.1+cpu")
    with pytest.raises(ImportError, match="PyTorch 2.5.1.cpu can be made to run code"):
        load_bnn_nobn(path)


class Payload:
    def __reduce__(self):
        return exec, ("raise SystemExit('code was run')",)


@pytest.mark.parametrize("by_torch", [True, False])
def test_code_is_not_run(by_torch, path):
    content = {"state_dict": {}, "payload": Payload()}
    if by_torch:
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps(content, protocol=2))
    with pytest.raises(ValueError, match="than tensors such as .*exec, which are"):
        load_bnn_nobn(path)


@pytest.mark.parametrize(
    "content",
    [[1, 2], {}, {"epoch": 3}, {"state_dict": {}}, {"state_dict": {"a": 1.0}}, {1: 2}],
    ids=str,
)
def test_no_state_dict(content, path):
    torch.save(content, path)
    with pytest.raises(ValueError, match="contains no state_dict"):
        load_bnn_nobn(path)


@pytest.mark.parametrize(
    "tensor",
    [
        torch.ones(1, dtype=torch.half).expand(10**9),  # in a file of a kilobyte
        torch.eye(3).to_sparse(),
        torch.ones(3, device="meta"),
        torch.ones(3, dtype=torch.complex64),
        torch._neg_view(torch.ones(3)),
    ],
    ids=["repeated", "sparse", "meta", "complex", "negative"],
)
def test_other_tensors(tensor, path):
    torch.save({"a": tensor}, path)
    with pytest.raises(ValueError, match="contains tensors that are no weights: .*CPU"):
        read_checkpoint(path)


def test_bare_and_old_and_half_precision(state, path):
    """Without a key around it, in the format of PyTorch 1.1, in float16."""
    half = {name: value.half() for name, value in state.items()}
    half["layer1.0.bn1.num_batches_tracked"] = torch.tensor(7)
    torch.save(half, path, _use_new_zipfile_serialization=False)
    found = read_checkpoint(path)
    assert found.keys() == state.keys()
    for name, array in found.items():
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, half[name].float().numpy())


def test_a_checkpoint_of_something_else(path):
    torch.save({"fc.weight": torch.zeros(2, 3), "conv1.weight": torch.zeros(1)}, path)
    with pytest.raises(
        ValueError, match="is not a checkpoint of BNN-BN: it has neither"
    ):
        load_bnn_nobn(path)


@pytest.mark.parametrize(
    "name, found",
    [("fc.weight", "missing"), ("conv1.weight", "missing")],
)
def test_missing_tensors_that_tell_the_network(name, found, state, path):
    del state[name]
    torch.save(state, path)
    with pytest.raises(ValueError, match=f"checkpoint's {name} is {found}, but"):
        load_bnn_nobn(path)


def test_tensors_left_over_and_missing(state, path):
    torch.save({**state, "extra.bias": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match="has unknown tensors: extra.bias. Only"):
        load_bnn_nobn(path)
    del state["layer1.0.move1.bias"]
    torch.save(state, path)
    with pytest.raises(ValueError, match="misses tensors: layer1.0.move1.bias. Only"):
        load_bnn_nobn(path)


def test_long_lists_are_cut(state, path):
    torch.save({**state, **{f"x{n}": torch.zeros(1) for n in range(9)}}, path)
    with pytest.raises(
        ValueError, match="unknown tensors: x0, x1, x2, x3, x4, x5 and 3"
    ):
        load_bnn_nobn(path)


def test_wrong_shapes(state, path):
    torch.save({**state, "layer1.0.prelu.weight": torch.zeros(5)}, path)
    message = r"layer1.0.prelu.weight of shape \(5,\) instead of \(4,\)"
    with pytest.raises(ValueError, match=message):
        load_bnn_nobn(path)


def test_no_variable_stays_as_it_was():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3, name="lonely")])
    with pytest.raises(ValueError, match="Nothing in the checkpoint sets lonely/bias"):
        fill(model, {}, {})


@pytest.mark.parametrize("size", [32, (32,), (32, 32, 3)])
def test_image_sizes_that_are_none(size, state, path):
    torch.save(state, path)
    with pytest.raises(ValueError, match="is not a size. Give .height, width. as two"):
        load_bnn_nobn(path, size)


def test_images_that_are_too_small(state, path):
    torch.save(state, path)
    with pytest.raises(ValueError, match="image_size=4 is below 8"):
        load_bnn_nobn(path, (16, 4))


@pytest.mark.parametrize("alpha", [0.0, float("nan")])
def test_alpha(alpha, path):
    with pytest.raises(ValueError, match=f"alpha={alpha} is outside"):
        nobn.interop.load_bnn_nobn(path, alpha=alpha)


def test_no_variable_is_set_twice():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3, name="shared")])
    slots = dense("fc", model.layers[0])
    slots["other.bias"] = slots["fc.bias"]
    state = {"fc.weight": np.zeros((3, 2)), "fc.bias": np.zeros(3)}
    state["other.bias"] = np.ones(3)
    with pytest.raises(ValueError, match="Several tensors .* set shared/bias:0 of"):
        fill(model, slots, state)
