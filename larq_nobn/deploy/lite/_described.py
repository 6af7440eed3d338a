"""Adds descriptions to a `.tflite` file: TFLite metadata for apps, and a pixel note.

TFLite metadata are tables of Google's public schema, which Android Studio, ML Kit and
MediaPipe read. They say what the input is, how it is normalized, and, in a ZIP archive
after the file, the names of classes.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tensorflow.lite.python import schema_py_generated as schema

from ._file import edited

NOTE, _METADATA = "LARQ_NOBN", "TFLITE_METADATA"
_LABELS = "labels.txt"
# Numbers of the schema: for types in unions, for color spaces, for files of labels.
_FEATURES, _IMAGE, _NORMALIZATION = 1, 2, 1
_RGB, _GRAYSCALE = 1, 2
_TENSOR_AXIS_LABELS = 2
_OLDEST_PARSER = "1.0.0"

# Scale and offset that normalize pixels, one for each channel.
Steps = tuple[Any, Any]


@dataclass(frozen=True)
class Described:
    """What metadata tell apps about an image classifier.

    Attributes:
        name: The name of the network.
        channels: The channels of its images, 1 or 3; None for other inputs.
        mean, std: Numbers that are subtracted from pixels, 0 to 255, and then divide
            them; None if unknown, or if channels differ, which MediaPipe cannot
            express.
        labels: The names of the classes; None if unknown.
    """

    name: str
    channels: int | None
    mean: float | None
    std: float | None
    labels: Sequence[str] | None


def with_note(content: bytes, steps: Steps) -> bytes:
    """Returns the file with a note that it takes pixels, and how it normalizes them."""
    note = {"pixels": [[float(x) for x in numbers] for numbers in steps]}
    return edited(content, lambda model: _add(model, NOTE, json.dumps(note).encode()))


def steps_in(model: Any) -> Steps | None:
    """Returns how an unpacked file normalizes pixels; None if it takes none."""
    for entry in model.metadata or ():
        if (entry.name or b"").decode() == NOTE:
            note = json.loads(bytes(model.buffers[entry.buffer].data))
            scale, offset = note["pixels"]
            return scale, offset
    return None


def with_metadata(content: bytes, described: Described) -> bytes:
    """Returns the file with TFLite metadata, and the names of classes after it."""
    tables = _packed(_model(described))
    content = edited(content, lambda model: _add(model, _METADATA, tables))
    if described.labels is None:
        return content
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as files:
        # ZipInfo has a fixed date, so equal files stay equal.
        files.writestr(zipfile.ZipInfo(_LABELS), "\n".join(described.labels))
    return content + archive.getvalue()


def _add(model: Any, name: str, data: bytes) -> None:
    entry, buffer = schema.MetadataT(), schema.BufferT()
    buffer.data = np.frombuffer(data, np.uint8)
    entry.name, entry.buffer = name, len(model.buffers)
    model.buffers.append(buffer)
    model.metadata = [*(model.metadata or ()), entry]


# A table by field number. Whole numbers take one byte.
_Table = dict[int, Any]


def _model(described: Described) -> _Table:
    image: _Table = {0: "input"}
    if described.channels is not None:
        color = _GRAYSCALE if described.channels == 1 else _RGB
        image = {0: "image", 3: {0: _IMAGE, 1: {0: color}}}
    if described.mean is not None and described.std is not None:
        mean, std = described.mean, described.std
        image[4] = [{0: _NORMALIZATION, 1: {0: [mean], 1: [std]}}]
        image[5] = {0: [(255 - mean) / std], 1: [-mean / std]}
    scores: _Table = {0: "scores", 3: {0: _FEATURES, 1: {}}}
    if described.labels is not None:
        scores[6] = [{0: _LABELS, 2: _TENSOR_AXIS_LABELS}]
    return {0: described.name, 3: [{2: [image], 3: [scores]}], 7: _OLDEST_PARSER}


def _packed(table: _Table) -> bytes:
    """Returns metadata tables as a file of their own."""
    import flatbuffers

    builder = flatbuffers.Builder(0)
    builder.Finish(_put(builder, table), file_identifier=b"M001")
    return bytes(builder.Output())


def _put(builder: Any, value: Any) -> int:
    """Adds a text, a list or a table; returns its place."""
    if isinstance(value, str):
        return int(builder.CreateString(value))
    if isinstance(value, list) and not isinstance(value[0], dict):
        return int(builder.CreateNumpyVector(np.array(value, np.float32)))
    if isinstance(value, list):
        tables = [_put(builder, each) for each in value]
        builder.StartVector(4, len(tables), 4)
        for table in reversed(tables):
            builder.PrependUOffsetTRelative(table)
        return int(builder.EndVector())
    places = {k: _put(builder, v) for k, v in value.items() if not isinstance(v, int)}
    builder.StartObject(max(value, default=-1) + 1)
    for field, inner in value.items():
        if isinstance(inner, int):
            builder.PrependInt8Slot(field, inner, 0)
        else:
            builder.PrependUOffsetTRelativeSlot(field, places[field], 0)
    return int(builder.EndObject())
