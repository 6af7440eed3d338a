"""Reads the description of C files, compiles them, and runs them."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..._errors import InvalidValue
from ..._files import check_shape, parse_json
from .._errors import ConversionError

FORMAT = "larq_nobn.c.1"
PREFIX = re.compile(r"[A-Za-z][A-Za-z0-9_]*", re.ASCII)
_ENDS = [{"name": str, "shape": [int], "dtype": str}]
_INFO = {
    "format": str,
    "prefix": str,
    "constant_bytes": int,
    "memory_bytes": int,
    "inputs": _ENDS,
    "outputs": _ENDS,
    "operations": [
        {"index": int, "op": str, "kind": str, "layer": str, "output_shape": [int]}
        | {"output_type": str, "macs": int, "weight_bytes": int, "reads": [int]}
        | {"activation_bytes": int}
    ],
}
_FLAGS = ("-std=c99", "-O3", "-w", "-shared", "-fPIC")


def is_c(content: bytes) -> bool:
    """Whether a file is C: it starts with a comment."""
    return content.startswith(b"/*")


def read_info(content: bytes, path: str) -> dict[str, Any]:
    """Returns the description at the end of a C file of this package."""
    start = content.rfind(b"\n{")
    try:
        info = parse_json(content[start + 1 : content.rfind(b"}") + 1])
        check_shape(info, _INFO)
        if info["format"] != FORMAT or not PREFIX.fullmatch(info["prefix"]):
            raise InvalidValue("it has another format")
    except ValueError as error:
        raise ConversionError(
            f"{path!r} is not a C file that convert wrote: {error}. Convert the model "
            "again."
        ) from error
    return info


def compiler() -> list[str]:
    """Returns the command of the compiler: `CC`, else the first that is installed."""
    named = os.environ.get("CC", "").split()
    found = named or [x for x in ("cc", "gcc", "clang") if shutil.which(x)][:1]
    if not found or not shutil.which(found[0]):
        raise ConversionError(
            f"No C compiler ({found[0] if found else 'cc, gcc or clang'}) was found, "
            "and C files are verified and run by one. Install one, name one in the "
            "environment variable CC, or convert with verify=False."
        )
    return found


def compiled(text: str) -> ctypes.CDLL:
    """Compiles C for this processor, and opens its functions."""
    command, reason = compiler(), ""
    with tempfile.TemporaryDirectory() as folder:
        source, library = Path(folder, "network.c"), Path(folder, "network.so")
        source.write_text(text)
        ends = ("-o", library, source, "-lm")
        for tuned in (("-march=native",), ()):  # not every compiler has this flag
            call = [*command, *_FLAGS, *tuned, *ends]
            done = subprocess.run(call, capture_output=True, text=True)
            if done.returncode == 0:
                return ctypes.CDLL(str(library))
            lines = [*done.stderr.splitlines(), f"exit code {done.returncode}"]
            reason = next((x for x in lines if "error" in x), lines[0]).strip()
    raise ConversionError(
        f"The compiler {command[0]!r} failed: {reason}. Name another one by the "
        "variable CC."
    )


def pointer(array: np.ndarray) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)


def pointers(arrays: Sequence[np.ndarray | None]) -> Any:
    """Returns a C array of pointers to arrays, which the caller has to keep alive."""
    places = (None if array is None else array.ctypes.data for array in arrays)
    return (ctypes.c_void_p * max(len(arrays), 1))(*places)


def memory(size: int) -> np.ndarray:
    """Returns memory that is aligned to a cache line."""
    whole = np.zeros(size + 64, np.uint8)
    start = -whole.ctypes.data % 64
    return whole[start : start + size]


def runs(
    library: ctypes.CDLL, info: dict[str, Any]
) -> Callable[[Sequence[np.ndarray]], list]:
    """Returns a function that runs a batch in a compiled file with this description."""
    function, own = getattr(library, f"{info['prefix']}_run"), threading.local()
    function.restype = None

    def predict(arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        inputs = [
            np.ascontiguousarray(array, row["dtype"])
            for array, row in zip(arrays, info["inputs"], strict=True)
        ]
        made = [np.empty(row["shape"], np.float32) for row in info["outputs"]]
        if not hasattr(own, "memory"):
            own.memory = memory(info["memory_bytes"])
        function(*map(pointer, (*inputs, *made, own.memory)))
        return made

    return predict
