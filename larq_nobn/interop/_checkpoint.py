"""The tensors of a PyTorch checkpoint, read without running code from it."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .._archive_limits import check_size, check_zip
from .._checks import check_path
from .._files import check_permission
from ._pickles import Foreign, Odd, check_pickle

# The first version of PyTorch that runs no code where it reads weights alone.
_SAFE = (2, 6)
# How many batches a batch norm has seen, which counts only where momentum is None.
_COUNTER = "num_batches_tracked"
# What PyTorch takes for an archive; other files are pickles, one after the other: what
# it is, its version, of which machine, the content, and the order of the tensors.
_ARCHIVE, _PICKLES = b"PK\3\4", 5
_PARALLEL = "module."  # what DataParallel puts before every name


def _torch() -> Any:
    """Imports PyTorch, which is an optional dependency."""
    try:
        import torch
    except ImportError as error:
        raise ImportError(
            f"PyTorch checkpoints need PyTorch ({error}). Install it with: "
            "pip install 'larq-nobn[torch]'"
        ) from error
    if tuple(map(int, torch.__version__.split(".")[:2])) < _SAFE:
        raise ImportError(
            f"PyTorch {torch.__version__} can be made to run code by a checkpoint of "
            "which it reads the weights alone. Install a later one with: "
            "pip install 'larq-nobn[torch]'"
        )
    return torch


def read_checkpoint(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Reads the `state_dict` of a checkpoint, or a file that is nothing but one.

    Arguments:
        path: What `torch.save` wrote.

    Returns:
        Every tensor by its name, in float32, without the prefix of `DataParallel` and
        the batch counters of batch norm.

    Raises:
        ImportError: If PyTorch is not installed.
        FileNotFoundError: If there is no such file.
        ValueError: If it is not a checkpoint, is damaged, or carries code.
    """
    file = Path(check_path("path", path))
    if not file.is_file():
        raise FileNotFoundError(
            f"{file} is not a file. Give a checkpoint that PyTorch saved, such as "
            "model_best.pth.tar."
        )
    state = _state_dict(file, _load(file))
    if all(name.startswith(_PARALLEL) for name in state):
        state = {name.removeprefix(_PARALLEL): state[name] for name in state}
    try:
        return _arrays(state, file.stat().st_size)
    except (RuntimeError, TypeError, ValueError) as error:  # PyTorch, of other tensors
        reason = str(error).partition("\n")[0].rstrip(".")
        raise ValueError(
            f"{file} contains tensors that are no weights: {reason}. Save a state_dict "
            "of dense tensors of real numbers, on the CPU."
        ) from error


def _arrays(state: Mapping[str, Any], size: int) -> dict[str, np.ndarray]:
    """The tensors of a file of so many bytes, some of which can be the same bytes."""
    values = sum(tensor.numel() for tensor in state.values())
    check_size(values * np.dtype(np.float32).itemsize, size)
    if any(tensor.is_complex() for tensor in state.values()):
        raise ValueError("one is of complex numbers")
    return {
        name: tensor.float().numpy()
        for name, tensor in state.items()
        if name.split(".")[-1] != _COUNTER
    }


def _check_pickles(file: Path) -> None:
    """Looks through what PyTorch would unpickle, by the bytes that it would take."""
    with file.open("rb") as stream:
        if stream.read(len(_ARCHIVE)) == _ARCHIVE:
            with zipfile.ZipFile(stream) as archive:
                check_zip(archive)
            content = _torch()._C.PyTorchFileReader(str(file)).get_record("data.pkl")
            check_pickle(io.BytesIO(content))
        else:
            stream.seek(0)
            for _ in range(_PICKLES):
                check_pickle(stream)


def _load(file: Path) -> object:
    torch = _torch()
    check_permission(file)
    try:
        _check_pickles(file)
        return torch.load(file, map_location="cpu", weights_only=True)
    except Foreign as error:
        raise ValueError(
            f"{file} carries Python objects other than tensors ({error}), which are "
            "never made from a file, since that can run any code. Where you trust it, "
            "save its state_dict alone with PyTorch and load that."
        ) from error
    except Odd as error:
        raise ValueError(
            f"{file} {error}, as no checkpoint of weights does. Save its state_dict "
            "alone with PyTorch and load that."
        ) from error
    except Exception as error:  # whatever readers of archives say to other bytes
        raise ValueError(
            f"{file} is damaged or no PyTorch checkpoint. Give a file that torch.save "
            "wrote, and load it again if it was copied."
        ) from error


def _state_dict(file: Path, content: object) -> Mapping[str, Any]:
    tensor = _torch().Tensor
    # Methods of the classes: a file can set attributes of these names.
    if isinstance(content, dict):
        state = dict.get(content, "state_dict", content)
        items = list(dict.items(state)) if isinstance(state, dict) else []
        if items and all(
            isinstance(name, str) and isinstance(value, tensor) for name, value in items
        ):
            return {name: tensor.detach(value) for name, value in items}
    raise ValueError(
        f"{file} contains no state_dict, which is a mapping from names to tensors. "
        "Save model.state_dict() with PyTorch, alone or under the key 'state_dict'."
    )
