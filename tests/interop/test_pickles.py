"""Checkpoints are looked through before PyTorch makes anything of them."""

import pickle
import struct
import warnings
import zipfile
from collections import Counter, OrderedDict

import numpy as np
import pytest
import torch
from larq_nobn.interop import _pickles
from larq_nobn.interop._checkpoint import read_checkpoint

TENSOR = torch.arange(6.0).reshape(2, 3)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "checkpoint.pth.tar"


def attributed():
    tensor = torch.zeros(2)
    tensor.note = {"a": 1}
    parameter = torch.nn.Parameter(torch.zeros(2))
    parameter.numel = "an attribute of this name"
    return {"tensor": tensor, "parameter": parameter, "w": TENSOR}


def trained():
    """A network and optimizers after a step, as scripts keep them."""
    network = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.BatchNorm1d(3))
    network(torch.rand(4, 3)).sum().backward()
    kept = {"state_dict": network.state_dict(), "epoch": 3, "arch": "resnet18"}
    for name in ("SGD", "Adam", "LBFGS"):
        options = {"momentum": 0.9} if name == "SGD" else {}
        optimizer = getattr(torch.optim, name)(network.parameters(), 0.1, **options)
        optimizer.step(lambda: torch.zeros(()))
        schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [1, 3])
        kept[name] = optimizer.state_dict(), schedule.state_dict()
    return kept


def quantized():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.quantize_per_tensor(TENSOR, 0.5, 0, torch.qint8)


def beside(value):
    return {"state_dict": {"w": TENSOR}, "beside": value}


TIED = torch.ones(3)
HONEST = {
    "trained": trained(),
    "attributes": attributed(),
    "tied": {"a": TIED, "b": TIED, "c": TIED[1:]},
    "parameters": OrderedDict(torch.nn.Linear(2, 2).named_parameters()),
    "types": {
        str(each): torch.ones(2, dtype=each)
        for each in (
            torch.half,
            torch.bfloat16,
            torch.double,
            torch.int8,
            torch.int64,
            torch.bool,
        )
    },
    "empty and scalar": {"empty": torch.ones(0, 3), "scalar": torch.tensor(2.0)},
    "nested": beside([[[{"a": ({"b": [TENSOR, None]}, 1.5)}]]]),
    "keys": beside({1: 2, 2**62: 3, None: 4, 1.5: 5}),
    "sets": beside([{1, 2, "a"}, Counter("aab"), 1 + 2j, -(2**63), 2**64 - 1]),
    "sizes": beside([torch.Size([1, 2]), torch.device("cuda:0"), torch.float16]),
    "layout": beside(torch.strided),
    "sparse": beside([torch.eye(3).to_sparse()]),
    "quantized": beside(quantized()),
    "conjugate": beside(torch.ones(2, dtype=torch.complex64).conj()),
    "meta": beside(torch.ones(2, device="meta")),
    "long texts": beside(["text " * 10_000] * 50),
    "many": beside([float(number) for number in range(20_000)]),
}


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("name", HONEST)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_what_is_saved_opens(name, protocol, zipped, path):
    content = HONEST[name]
    torch.save(
        content, path, pickle_protocol=protocol, _use_new_zipfile_serialization=zipped
    )
    found, given = read_checkpoint(path), content.get("state_dict", content)
    given = {key: value for key, value in given.items() if "batches" not in key}
    assert found.keys() == given.keys()
    for key, array in found.items():
        np.testing.assert_array_equal(array, given[key].detach().float().numpy())


def text(words):
    return b"X" + struct.pack("<I", len(words)) + words.encode()


def number(value):
    return b"\x8a\x08" + struct.pack("<q", value)


STORAGE = (
    b"("
    + text("storage")
    + b"ctorch\nFloatStorage\n"
    + text("0")
    + text("cpu")
    + number(6)
    + b"tQ"
)
STRIDED = b"ctorch._utils\n_rebuild_tensor_v2\n(" + STORAGE + b"K\0%s%s\x89}tR"
WEIGHT = STRIDED % (b"K\2K\3\x86", b"K\3K\1\x86")
REPEATED = STRIDED % (number(10**8) + b"\x85", b"K\0\x85")
DOUBLED = b")" + b"q\1h\1\x86" * 60
NESTED = b")" + b"\x85" * 300_000
SET = b"c__builtin__\nset\n"
ORDERED = b"ccollections\nOrderedDict\n"


def written(path, pickled, zipped):
    """A checkpoint with weights, and something beside them."""
    content = b"\x80\2}(" + text("w") + WEIGHT + pickled + b"u."
    with zipfile.ZipFile(path, "w") if zipped else path.open("wb") as file:
        if zipped:
            file.writestr("archive/data.pkl", content)
            file.writestr("archive/data/0", TENSOR.numpy().tobytes())
            file.writestr("archive/version", "3")
        else:
            head = [torch.serialization.MAGIC_NUMBER, 1001, {"little_endian": True}]
            file.write(b"".join(pickle.dumps(each, 2) for each in head))
            file.write(content.replace(b"tQ", b"NtQ"))
            file.write(pickle.dumps(["0"], 2))
            file.write(struct.pack("<q", 6) + TENSOR.numpy().tobytes())


HOSTILE = {
    "doubled key": (DOUBLED + b"N", "would become more than 16,777,216 values"),
    "nested key": (NESTED + b"N", "is nested more than 100 deep"),
    "tuple as key": (b"K\1K\2\x86N", "a key that is neither text nor number"),
    "nested": (text("a") + NESTED, "is nested more than 100 deep"),
    "doubled": (text("a") + DOUBLED, "would become more than 16,777,216 values"),
    "long name": (
        text("a") + b"c" + b"x" * 10**5 + b"\n" + b"x" * 10**5 + b"\n",
        "a name that is none",
    ),
    "in itself": (text("a") + b"]q\1h\1a", "changes what is in use"),
    "changed later": (
        text("a") + b"]q\1\x85" + text("b") + b"h\1K\1a",
        "changes what is in use",
    ),
    "set of tuples": (
        text("a") + SET + b"]K\1K\2\x86a\x85R",
        "calls set with other arguments",
    ),
    "pairs with tuples": (
        text("a") + ORDERED + b"]](K\1K\2\x86Nea\x85R",
        "a key that is neither",
    ),
    "large number": (
        text("a") + b"\x8a\x0a" + b"\1" * 10,
        "a whole number of more than 64 bits",
    ),
    "other call": (
        text("a") + b"ctorch\nTensor\n" + number(10**9) + b"\x85R",
        "calls what makes no tensor",
    ),
    "call of a call": (text("a") + ORDERED + b")R)R", "calls what makes no tensor"),
    "hidden call": (
        text("a")
        + b"ctorch._tensor\n_rebuild_from_type_v2\n(ctorch\nTensor\nctorch\nTensor\n"
        + number(10**9)
        + b"\x85}tR",
        "calls what makes no tensor",
    ),
    "size of a tensor": (
        text("a") + b"ctorch\nSize\n" + REPEATED + b"\x85R",
        "calls Size with other arguments",
    ),
    "key of a storage": (
        text("a") + STORAGE.replace(text("0"), b")\x85"),
        "neither text nor number",
    ),
    "sparse of one value": (
        text("a")
        + b"ctorch._utils\n_rebuild_sparse_tensor\n("
        + (b"ctorch.serialization\n_get_layout\n" + text("torch.sparse_coo") + b"\x85R")
        + (b"(" + REPEATED + REPEATED + number(10**9) + b"\x85ttR"),
        "makes a sparse tensor of repeated values",
    ),
    "state of a tensor": (
        text("a") + WEIGHT + b"}b",
        "sets the state of what is not a dictionary",
    ),
    "many uses": (
        text("a")
        + b"("
        + (SET + b"]q\2(" + b"N" * 1000 + b"e\x85R")
        + (SET + b"h\2\x85R") * 20_000
        + b"t",
        "would become more than",
    ),
    "protocol 4": (
        text("a") + b"\x8c\1a",
        "in another way than PyTorch's own, with SHORT_BINUNICODE",
    ),
}


@pytest.mark.parametrize("zipped", [True, False])
def test_what_is_written_by_hand_opens(zipped, path):
    """What is rejected below is not rejected for how it is written."""
    written(path, text("a") + SET + b"](K\1K\2e\x85R", zipped)
    with pytest.raises(ValueError, match="contains no state_dict"):
        read_checkpoint(path)
    written(path, b"", zipped)
    np.testing.assert_array_equal(read_checkpoint(path)["w"], TENSOR.numpy())


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_no_weights_is_not_made(name, zipped, path, monkeypatch):
    pickled, reason = HOSTILE[name]
    written(path, pickled, zipped)
    monkeypatch.setattr(torch, "load", None)
    with pytest.raises(
        ValueError, match=f"tar .*{reason}.*, as no checkpoint of weights"
    ):
        read_checkpoint(path)


def test_there_are_only_so_many_operations(path, monkeypatch):
    monkeypatch.setattr(_pickles, "_OPERATIONS", 1000)
    torch.save(beside(list(range(1000))), path)
    with pytest.raises(ValueError, match="tar has more than 1,000 operations, as no"):
        read_checkpoint(path)
