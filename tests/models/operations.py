"""Which operations the file of every network has, as a table beside this module.

Whoever changes them on purpose writes the table again, and looks at the difference:

    cd tests && python -m models.operations
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import larq_nobn as nobn
from larq_nobn._keras import keras
from models.networks import CONVERTING, Network, scattered

_FILE = Path(__file__).with_suffix(".json")
# Neither computed in float nor moved: bits, and maps under another shape.
_FREE = (
    *("LceQuantize", "LceDequantize", "LceBconv2d", "LceBMaxPool2d"),
    *("RESHAPE", "SQUEEZE", "EXPAND_DIMS", "SHAPE"),
)


def key(network: Network, normalization: str) -> str:
    """The name of a row."""
    return f"{network.builder.__name__} {normalization}"


def table() -> dict[str, dict[str, int]]:
    """How often every operation occurs, by network and normalization."""
    return json.loads(_FILE.read_text())


def in_float(row: dict[str, int]) -> dict[str, int]:
    """What of a row of the table makes a pass over real-valued maps."""
    return {op: count for op, count in row.items() if op not in _FREE}


def row(network: Network, normalization: str, **changes: Any) -> dict[str, int]:
    """Converts a network and counts; `changes` are arguments of its builder."""
    keras.utils.set_random_seed(1)
    model = scattered(network(normalization, classes=10, **changes))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.tflite"
        nobn.convert(model, path, verify=False)
        return operations(path)


def operations(path: Path) -> dict[str, int]:
    """How often every operation occurs in a file, by name."""
    return dict(sorted(nobn.audit(path).ops.items()))


def write() -> None:
    """Converts all networks and writes the table, one row a line."""
    rows = [
        f"{json.dumps(key(*pair))}: {json.dumps(row(*pair))}" for pair in CONVERTING
    ]
    _FILE.write_text("{\n" + ",\n".join(rows) + "\n}\n")


if __name__ == "__main__":
    write()
