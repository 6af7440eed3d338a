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

# The first version of PyTorch whose weights_only=True runs no code of a file.
_SAFE = (2, 6)
# The number of batches of a batch norm, which matters only if momentum is None.
_COUNTER = "num_batches_tracked"
_PARALLEL = "module."  # prefix of every name in DataParallel


def _torch() -> Any:
    """Imports PyTorch, which is an optional dependency."""
    with needing("PyTorch checkpoints need PyTorch", "torch"):
        import torch
    if tuple(map(int, torch.__version__.split(".")[:2])) < _SAFE:
        raise MissingPackage(
            f"A checkpoint can make PyTorch {torch.__version__} run code, even with "
            "weights_only=True. Install a later version with: "
            "pip install 'larq-nobn[torch]'"
        )
    return torch


def read_checkpoint(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Returns the tensors in a file that contains, or is, a `state_dict`.

    They are float32, by name, without the prefix of `DataParallel` and the batch
    counters of batch norm.
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
    except (RuntimeError, TypeError, ValueError) as error:  # PyTorch rejects a tensor
        reason = str(error).partition("\n")[0].rstrip(".")
        raise InvalidValue(
            f"{file} contains tensors that are not weights: {reason}. Save a "
            "state_dict of dense tensors of real numbers, on the CPU."
        ) from error


def _arrays(state: Mapping[str, Any], size: int) -> dict[str, np.ndarray]:
    """Returns tensors as arrays, if a file of `size` bytes does not expand too much."""
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
    except Exception as error:  # damaged pickles make PyTorch raise anything
        rejected = re.search(r"GLOBAL (\S+)", str(error))
        said = first_line(error).partition(" In PyTorch")[0]  # drops advice to run it
        reason = f" ({type(error).__name__}: {said.rstrip('.')})"
        what = f" such as {rejected[1]}" if rejected else reason
        raise InvalidValue(
            f"{file} is damaged, or contains other Python objects than tensors{what}, "
            "which are not loaded, since that can run any code. Save only its "
            "state_dict with PyTorch and load that."
        ) from error


def _state_dict(file: Path, content: object, tensor: Any) -> Mapping[str, Any]:
    # Called on the classes, since a file can set attributes of these names.
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
