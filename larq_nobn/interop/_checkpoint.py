"""The tensors of a PyTorch checkpoint, read without running code from it."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .._checks import check_path
from .._errors import InvalidValue, MissingPackage, needing
from .._files import reject_expansion
from .._messages import first_line

# The first version of PyTorch that runs no code where it reads weights alone.
_SAFE = (2, 6)
# How many batches a batch norm has seen, which counts only where momentum is None.
_COUNTER = "num_batches_tracked"
_PARALLEL = "module."  # what DataParallel puts before every name


def _torch() -> Any:
    """Imports PyTorch, which is an optional dependency."""
    with needing("PyTorch checkpoints need PyTorch", "torch"):
        import torch
    if tuple(map(int, torch.__version__.split(".")[:2])) < _SAFE:
        raise MissingPackage(
            f"PyTorch {torch.__version__} can be made to run code by a checkpoint of "
            "which it reads the weights alone. Install a later one with: "
            "pip install 'larq-nobn[torch]'"
        )
    return torch


def read_checkpoint(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Reads the `state_dict` of a checkpoint, or a file that is nothing but one.

    Returns every tensor by its name, in float32, without the prefix of `DataParallel`
    and the batch counters of batch norm.
    """
    file = Path(check_path("path", path))
    if not file.is_file():
        raise FileNotFoundError(
            f"{file} is not a file. Give a checkpoint that PyTorch saved, such as "
            "model_best.pth.tar."
        )
    torch = _torch()
    state = _state_dict(file, _load(file, torch), torch.Tensor)
    if all(name.startswith(_PARALLEL) for name in state):
        state = {name.removeprefix(_PARALLEL): state[name] for name in state}
    try:
        return _arrays(state, file.stat().st_size)
    except (RuntimeError, TypeError, ValueError) as error:  # PyTorch, of other tensors
        reason = str(error).partition("\n")[0].rstrip(".")
        raise InvalidValue(
            f"{file} contains tensors that are no weights: {reason}. Save a state_dict "
            "of dense tensors of real numbers, on the CPU."
        ) from error


def _arrays(state: Mapping[str, Any], size: int) -> dict[str, np.ndarray]:
    """The tensors of a file of so many bytes, some of which can be the same bytes."""
    values = sum(tensor.numel() for tensor in state.values())
    reject_expansion(values * np.dtype(np.float32).itemsize, size)
    if any(tensor.is_complex() for tensor in state.values()):
        raise InvalidValue("one is of complex numbers")
    return {
        name: tensor.float().numpy()
        for name, tensor in state.items()
        if name.split(".")[-1] != _COUNTER
    }


def _load(file: Path, torch: Any) -> object:
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except (MemoryError, OSError):
        raise
    except Exception as error:  # whatever a pickle of other bytes makes PyTorch say
        rejected = re.search(r"GLOBAL (\S+)", str(error))
        said = f" ({type(error).__name__}: {first_line(error).rstrip('.')})"
        what = f" such as {rejected[1]}" if rejected else said
        raise InvalidValue(
            f"{file} is damaged, or contains other Python objects than tensors{what}, "
            "which are never made from a file, since that can run any code. Save its "
            "state_dict alone with PyTorch and load that."
        ) from error


def _state_dict(file: Path, content: object, tensor: Any) -> Mapping[str, Any]:
    # Methods of the classes: a file can set attributes of these names.
    if isinstance(content, dict):
        state = dict.get(content, "state_dict", content)
        items = list(dict.items(state)) if isinstance(state, dict) else []
        if items and all(
            isinstance(name, str) and isinstance(value, tensor) for name, value in items
        ):
            return {name: tensor.detach(value) for name, value in items}
    raise InvalidValue(
        f"{file} contains no state_dict, which is a mapping from names to tensors. "
        "Save model.state_dict() with PyTorch, alone or under the key 'state_dict'."
    )
