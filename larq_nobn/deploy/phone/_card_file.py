"""Writes and reads the JSON beside a `.tflite` file, and keeps the two together."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..._keras import keras
from .._errors import ConversionError
from ..lite import Runner
from ._card import Card, from_dict, is_card
from ._preprocessing import Preprocessing


def card_path(path: str | os.PathLike) -> Path:
    """Returns where the card of a `.tflite` file is: `model.tflite.json`."""
    return Path(f"{os.fspath(path)}.json")


def check_card(
    model: keras.Model,
    labels: Sequence[str] | None,
    preprocessing: Preprocessing | None,
) -> tuple[str, ...] | None:
    """Returns the labels as a tuple, if all that was given suits a functional model.

    Raises:
        TypeError: If something has the wrong type.
        ConversionError: If it does not fit the model.
    """
    if labels is None and preprocessing is None:
        return None
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise ConversionError(
            f"labels and preprocessing describe one input and one output, and model "
            f"{model.name!r} has {len(model.inputs)} and {len(model.outputs)}. Leave "
            "them out."
        )
    if preprocessing is not None:
        _check_preprocessing(model.inputs[0], preprocessing)
    return None if labels is None else _checked_labels(labels, model.outputs[0].shape)


def _check_preprocessing(given: Any, preprocessing: Preprocessing) -> None:
    if not isinstance(preprocessing, Preprocessing):
        raise TypeError(
            f"preprocessing={preprocessing!r} is no larq_nobn.deploy.Preprocessing. "
            "Make one of mean, std and size."
        )
    if tuple(given.shape[1:]) != preprocessing.image_shape:
        raise ConversionError(
            f"preprocessing makes images of shape {preprocessing.image_shape}, but the "
            f"model takes {tuple(given.shape[1:])}. Pass the model's height and width "
            "as its size, and one mean and std per channel."
        )
    if not given.dtype.is_floating:
        raise ConversionError(
            f"preprocessing makes float32 images, but the model takes "
            f"{given.dtype.name}. Leave it out: the model does that itself."
        )


def _checked_labels(labels: Sequence[str], shape: Sequence[int]) -> tuple[str, ...]:
    if isinstance(labels, (str, bytes)) or not isinstance(labels, Sequence):
        raise TypeError(
            f"labels={labels!r} is no list of names. Pass one name per class."
        )
    for label in labels:
        if not isinstance(label, str) or not label.strip():
            raise TypeError(
                f"labels holds {label!r}, which is no name. Pass one text per class, "
                "in the order of the model's outputs."
            )
    if len(shape) != 2 or len(labels) != shape[-1]:
        raise ConversionError(
            f"labels has {len(labels)} names, but the model's output for one example "
            f"has shape {tuple(shape[1:])}. Pass one name per class, in the order of "
            "the outputs, or leave labels out."
        )
    return tuple(labels)


@contextmanager
def replacing_card(
    path: str | os.PathLike,
    labels: tuple[str, ...] | None,
    preprocessing: Preprocessing | None,
) -> Iterator[Callable[[bytes, Runner], None]]:
    """Replaces the card of `path` around the block in which `path` itself is replaced.

    The block ends with a call of what this yields, with the content of the file and
    what runs it. An older card goes in any case, since it describes an older file; if
    something fails, it is back, and no new one is there.
    """
    target = card_path(path)
    wanted = labels is not None or preprocessing is not None
    if wanted and target.is_dir():
        raise IsADirectoryError(
            f"{os.fspath(target)!r} is a folder, where labels and preprocessing would "
            "be written. Move it, or convert to another name."
        )
    moves: list[Path] = []

    def write(flatbuffer: bytes, runner: Runner) -> None:
        moves.append(Path(tempfile.mkdtemp(dir=target.parent, prefix=".")))
        if wanted:
            card = Card(
                file=Path(path).name,
                sha256=hashlib.sha256(flatbuffer).hexdigest(),
                size_bytes=len(flatbuffer),
                input=runner.input_tensors[0],
                output=runner.output_tensors[0],
                preprocessing=preprocessing,
                labels=labels,
            )
            text = json.dumps(card.to_dict(), indent=2, ensure_ascii=False)
            (moves[0] / "new").write_text(f"{text}\n", encoding="utf-8")
        # The last thing that can be refused comes before the file itself is replaced.
        if target.is_file() and (wanted or _holds_card(target)):
            os.replace(target, moves[0] / "old")

    try:
        yield write
        for folder in moves:
            if (folder / "new").exists():
                os.replace(folder / "new", target)
    except BaseException:
        for folder in moves:
            if (folder / "old").exists():
                os.replace(folder / "old", target)
        raise
    finally:
        for folder in moves:
            shutil.rmtree(folder, ignore_errors=True)


def _holds_card(path: Path) -> bool:
    try:
        return is_card(json.loads(path.read_bytes()))
    except (OSError, ValueError, RecursionError):
        return False


def read_card(path: str | os.PathLike) -> Card:
    """Reads the JSON that `convert` wrote beside a `.tflite` file.

    Arguments:
        path: The `.tflite` file; its JSON is `<path>.json`.

    Returns:
        A `Card`.

    Raises:
        ConversionError: If one of the two cannot be read, the JSON is damaged, or it
            belongs to another file.

    Example:
        ```python
        import larq_nobn as nobn

        model = nobn.models.ReActNet18((8, 8, 1), 10, width=16, blocks=(1, 1))
        info = nobn.data.describe("digits")
        prepare = nobn.deploy.Preprocessing(info.mean, info.std, size=(8, 8))
        nobn.convert(
            model, "model.tflite", labels=info.class_names, preprocessing=prepare
        )
        nobn.deploy.read_card("model.tflite").labels[7]  # "7"
        ```
    """
    beside = card_path(path)
    content = _read(Path(path), "Pass the path of a .tflite file.")
    text = _read(beside, "Convert the model again, with labels or preprocessing.")
    try:
        card = from_dict(json.loads(text))
        if card.labels is not None:
            _checked_labels(card.labels, card.output.shape)
    except ConversionError as error:
        raise ConversionError(f"{os.fspath(beside)!r} {error}") from error
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ConversionError(
            f"{os.fspath(beside)!r} is no intact description of a .tflite file. "
            "Convert the model again, with labels or preprocessing."
        ) from error
    if hashlib.sha256(content).hexdigest() != card.sha256:
        raise ConversionError(
            f"{os.fspath(beside)!r} describes another file than {os.fspath(path)!r}: "
            "their SHA-256 differ. Copy both from the same conversion."
        )
    return card


def _read(path: Path, advice: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConversionError(
            f"{os.fspath(path)!r} cannot be read: {error.strerror}. {advice}"
        ) from error
