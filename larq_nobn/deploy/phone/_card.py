"""The JSON beside a `.tflite` file: what an app has to know to use it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from .._errors import ConversionError
from ..lite import TensorInfo
from ._preprocessing import Preprocessing

FORMAT = "larq_nobn card"
VERSION = 1


@dataclass(frozen=True)
class Card:
    """What `convert` writes beside a `.tflite` file for the app that uses it.

    Attributes:
        file: Name of the `.tflite` file, without its folder.
        sha256: The SHA-256 of its content, as hexadecimal digits.
        size_bytes: Its size.
        input: What goes in.
        output: What comes out.
        preprocessing: What makes an input of a picture; None where nobody said.
        labels: The names of the classes, in the order of the output; None likewise.
    """

    file: str
    sha256: str
    size_bytes: int
    input: TensorInfo
    output: TensorInfo
    preprocessing: Preprocessing | None
    labels: tuple[str, ...] | None

    def to_dict(self) -> dict[str, Any]:
        """Returns what the JSON holds."""
        found = {
            "format": FORMAT,
            "version": VERSION,
            "file": {
                "name": self.file,
                "sha256": self.sha256,
                "size_bytes": self.size_bytes,
            },
            "input": asdict(self.input),
            "output": asdict(self.output),
            "preprocessing": None,
            "labels": self.labels,
        }
        if self.preprocessing is not None:
            steps = asdict(self.preprocessing)
            height, width = steps.pop("size")
            found["preprocessing"] = {"height": height, "width": width, **steps}
        return found


def is_card(found: Any) -> bool:
    """Whether the content of a JSON says that it is a card."""
    return isinstance(found, Mapping) and found.get("format") == FORMAT


def from_dict(found: Any) -> Card:
    """Returns the card that `to_dict` gave.

    Raises:
        ConversionError: If a later version wrote it.
        ValueError: If it is something else; so do TypeError, KeyError, AttributeError.
    """
    if not is_card(found):
        raise ValueError("no card")
    if found["version"] != VERSION:
        raise ConversionError(
            f"has version {found['version']!r}, and this larq_nobn reads {VERSION}. "
            "Convert the model again, or install the larq_nobn that wrote it."
        )
    file, steps, labels = found["file"], found["preprocessing"], found["labels"]
    if steps is not None:
        size = steps["height"], steps["width"]
        rest = {k: v for k, v in steps.items() if k not in ("height", "width")}
        steps = Preprocessing(size=size, **rest)
    if labels is not None:
        labels = tuple(_typed(label, str) for label in _typed(labels, list))
    return Card(
        file=_typed(file["name"], str),
        sha256=_typed(file["sha256"], str),
        size_bytes=_typed(file["size_bytes"], int),
        input=_tensor(found["input"]),
        output=_tensor(found["output"]),
        preprocessing=steps,
        labels=labels,
    )


def _tensor(found: Any) -> TensorInfo:
    scale, zero_point = found["scale"], found["zero_point"]
    dtype = np.dtype(_typed(found["dtype"], str))
    if scale is not None:
        np.iinfo(dtype)
        scale, zero_point = float(scale), _typed(zero_point, int)
    return TensorInfo(
        name=_typed(found["name"], str),
        shape=tuple(_typed(side, int) for side in _typed(found["shape"], list)),
        dtype=dtype.name,
        scale=scale,
        zero_point=zero_point,
    )


def _typed(value: Any, wanted: type) -> Any:
    if not isinstance(value, wanted):
        raise TypeError(f"{value!r} is no {wanted.__name__}")
    return value
