"""The tensors of a PyTorch checkpoint, read without running code from it."""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .._archive_limits import check_size, check_zip
from .._checks import check_path
from .._files import check_permission

# The first version of PyTorch that runs no code where it reads weights alone.
_SAFE = (2, 6)
# How many batches a batch norm has seen, which counts only where momentum is None.
_COUNTER = "num_batches_tracked"
# PyTorch makes these as large as a few bytes of a file say; no tensor has them.
_GROWING = re.compile(rb"\n(bytearray|encode)\n")
_PICKLE = re.compile(r"\.pkl$", re.IGNORECASE)
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
        ValueError: If it is no checkpoint, is damaged, or carries code.
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
        name: tensor.detach().float().numpy()
        for name, tensor in state.items()
        if name.split(".")[-1] != _COUNTER
    }


def _growing(file: Path) -> str:
    """Which of `_GROWING` a checkpoint names, if any."""
    contents = [file.read_bytes()]
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
            contents += [archive.read(each) for each in names if _PICKLE.search(each)]
    found = (_GROWING.search(content) for content in contents)
    return next((each[1].decode() for each in found if each), "")


def _load(file: Path) -> object:
    torch = _torch()
    check_permission(file)
    try:
        if zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as archive:
                check_zip(archive)
        grown = _growing(file)
        if grown:
            raise ValueError(f"GLOBAL {grown} was not an allowed global")
        return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever readers of archives say to other bytes
        named = re.search(r"GLOBAL ([\w.]+) was not an allowed global", str(error))
        if named:
            raise ValueError(
                f"{file} carries Python objects other than tensors ({named[1]}), which "
                "are never made from a file, since that can run any code. Where you "
                "trust it, save its state_dict alone with PyTorch and load that."
            ) from error
        raise ValueError(
            f"{file} is damaged or no PyTorch checkpoint. Give a file that torch.save "
            "wrote, and load it again if it was copied."
        ) from error


def _state_dict(file: Path, content: object) -> Mapping[str, Any]:
    if isinstance(content, Mapping):
        state = content.get("state_dict", content)
        if (
            isinstance(state, Mapping)
            and state
            and all(isinstance(name, str) for name in state)
            and all(isinstance(value, _torch().Tensor) for value in state.values())
        ):
            return state
    raise ValueError(
        f"{file} contains no state_dict, which is a mapping from names to tensors. "
        "Save model.state_dict() with PyTorch, alone or under the key 'state_dict'."
    )
