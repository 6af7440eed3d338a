"""What is not a checkpoint of the published code is rejected in a sentence."""

import pickle

import numpy as np
import pytest
import torch
from interop.published import ReActNet18, state_of
from larq_nobn.interop import load_bnn_nobn
from larq_nobn.interop._checkpoint import read_checkpoint

STATE = state_of(ReActNet18("nobn", 4, (1,)))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "checkpoint.pth.tar"


def test_a_version_of_pytorch_that_runs_code(monkeypatch, path):
    path.write_bytes(b"anything")
    monkeypatch.setattr(torch, "__version__", "2.5.1+cpu")
    with pytest.raises(
        ImportError, match="checkpoint can make PyTorch 2.5.1.cpu run code"
    ):
        load_bnn_nobn(path)


def test_other_files_and_half_a_checkpoint(path):
    contents = [b"", b"not a pickle", b"PK\x03\x04broken"]
    for zipped in (True, False):
        torch.save(STATE, path, _use_new_zipfile_serialization=zipped)
        contents.append(path.read_bytes()[: path.stat().st_size // 2])
    for content in contents:
        path.write_bytes(content)
        with pytest.raises(ValueError, match="is damaged, or contains other"):
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


def without(name):
    return {key: value for key, value in STATE.items() if key != name}


ZERO = torch.zeros(1)
NO_STATE = "contains no state_dict"
NO_WEIGHTS = "contains tensors that are not weights: .*CPU"
CONTENTS = (
    *((content, NO_STATE) for content in ([1], {"epoch": 3})),
    # In a file of a kilobyte.
    ({"a": torch.ones(1, dtype=torch.half).expand(10**9)}, NO_WEIGHTS),
    ({"a": torch.eye(3).to_sparse()}, NO_WEIGHTS),
    (
        {"fc.weight": torch.zeros(2, 3), "conv1.weight": ZERO},
        "is not a checkpoint of BNN-BN or A&B BNN: it has neither",
    ),
    (without("fc.weight"), "checkpoint's fc.weight is missing, but"),
    (without("layer1.0.move1.bias"), "misses tensors: layer1.0.move1.bias. Only"),
    ({**STATE, "extra.bias": ZERO}, "has unknown tensors: extra.bias. Only"),
    (
        {**STATE, "layer1.0.prelu.weight": torch.zeros(5)},
        r"layer1.0.prelu.weight of shape \(5,\) instead of \(4,\)",
    ),
)


@pytest.mark.parametrize("content, message", CONTENTS)
def test_what_a_checkpoint_contains(content, message, path):
    torch.save(content, path)
    with pytest.raises(ValueError, match=message):
        load_bnn_nobn(path)


def test_bare_and_old_and_half_precision(path):
    """Without a key around it, in the format of PyTorch 1.1, in float16."""
    half = {name: value.half() for name, value in STATE.items()}
    half["layer1.0.bn1.num_batches_tracked"] = torch.tensor(7)
    torch.save(half, path, _use_new_zipfile_serialization=False)
    arrays = read_checkpoint(path)
    assert arrays.keys() == STATE.keys()
    for name, array in arrays.items():
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, half[name].float().numpy())


def test_arguments(path):
    torch.save(STATE, path)
    with pytest.raises(ValueError, match="is not a pair. Give height and width, or"):
        load_bnn_nobn(path, (32,))
    with pytest.raises(ValueError, match="image_size=4 is below 8"):
        load_bnn_nobn(path, (16, 4))
