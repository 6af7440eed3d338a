"""Reads and writes the JSON beside a file, with what an app needs to use it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..._checks import check_integer, check_kind, check_list, check_number, check_path
from ..._errors import InvalidType, InvalidValue
from ..._files import parse_json, replacing
from ..._keras import keras
from ..._names import METADATA_FORMAT
from ...data import DatasetInfo
from ...data._area import scaled
from .._errors import ConversionError
from ..lite._compiled import is_c, read_info
from ..lite._converter import PixelInfo, Runner, TensorInfo, c_tensors
from ..lite._file import read, read_file

VERSION = 1
# The number of examples that `convert` verifies on, equally many of every class.
VERIFIED_IMAGES = 256


@dataclass(frozen=True)
class Preprocessing:
    r"""Turns an image of any size into the normalized one a network was trained on.

    \[ y = \frac{x / 255 - \mathrm{mean}}{\mathrm{std}} \]

    where x is the area mean of the bytes that a pixel of the small image covers in the
    center crop of the given one. The crop is the largest one of the same
    proportions, or `crop` of it. A network of one channel gets the brightness,
    (299 R + 587 G + 114 B) / 1000. Area means are quotients of whole numbers, and the
    rest is one multiplication and one subtraction in float32, as in training. So an app
    that does the same gets bitwise identical numbers, and so does an evaluation by
    `larq_nobn.data.load`.

    Arguments:
        mean: Mean of each channel in [0, 1]: red, green and blue, or gray alone.
        std: Standard deviation of each channel, above 0.
        size: Height and width of the image.
        crop: Fraction of the center crop to use, per side, in (0, 1].

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If it is out of range.

    Example:
        ```python
        import numpy as np
        import larq_nobn as nobn

        info = nobn.data.open_dataset("cifar10").info
        prepare = nobn.deploy.Preprocessing(info.mean, info.std, size=(32, 32))
        prepare(np.zeros((480, 640, 3), np.uint8)).shape  # (1, 32, 32, 3)
        ```
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    size: tuple[int, int]
    crop: float = 1.0

    def __post_init__(self) -> None:
        for name, interval, advice in (
            ("mean", "[0, 1]", "It is that of values / 255."),
            ("std", "(0, inf)", "Leave out constant channels."),
        ):
            values = check_list(name, getattr(self, name))
            numbers = tuple(check_number(name, x, interval, advice) for x in values)
            object.__setattr__(self, name, numbers)
        if len(self.mean) not in (1, 3) or len(self.std) != len(self.mean):
            raise InvalidValue(
                f"mean={self.mean} and std={self.std} differ in length, or are not "
                "of 1 or 3 channels. Give one number per channel in each."
            )
        crop = check_number("crop", self.crop, "(0, 1]", "1.0 takes the whole middle.")
        if not isinstance(self.size, (tuple, list)) or len(self.size) != 2:
            raise InvalidType(
                f"size={self.size!r} is not a pair. Give height and width, such as "
                "(32, 32)."
            )
        advice = "It is the network's height and width."
        size = tuple(check_integer("size", side, 1, advice) for side in self.size)
        object.__setattr__(self, "crop", crop)
        object.__setattr__(self, "size", size)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of the network's input."""
        return (*self.size, len(self.mean))

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Returns a float32 batch (N, height, width, channels).

        Arguments:
            images: Bytes, (N, height, width, channels), or one image without N.
                Three channels become one if the network takes gray images, and one
                becomes three equal ones if it takes colors.

        Raises:
            TypeError: If the images are not bytes.
            ValueError: If they have another shape, or no pixels.
        """
        images, channels = np.asarray(images), len(self.mean)
        if images.dtype != np.uint8:
            raise InvalidType(
                f"images of type {images.dtype} are not bytes. Pass uint8 values from "
                "0 to 255, as decoders of JPEG and PNG give them."
            )
        batch = images[np.newaxis] if images.ndim == 3 else images
        found = batch.shape[-1] if batch.ndim == 4 and all(batch.shape[1:]) else 0
        if found != channels and {found, channels} != {1, 3}:
            raise InvalidValue(
                f"images of shape {images.shape} have {found} channels, but the "
                f"network takes {channels}. Pass (height, width, channels) or (N, "
                "height, width, channels)."
            )
        x = scaled(batch, self.size, channels, self.crop)
        std = np.array(self.std, np.float32)
        return x * (1 / (255 * std)) - np.array(self.mean, np.float32) / std


def preprocessing_of(info: DatasetInfo) -> Preprocessing:
    """Returns the preprocessing of evaluations on a data set, for an app."""
    return Preprocessing(info.mean, info.std, info.image_shape[:2], info.crop)


@dataclass(frozen=True, kw_only=True)
class Card:
    """The metadata that `convert` writes beside a `.tflite` file, for an app.

    Attributes:
        file: Name of the `.tflite` file, without its folder.
        sha256: The SHA-256 of its content, as hexadecimal digits.
        size_bytes: Its size in bytes.
        runtime: The runtime that it needs, as in `convert`.
        input: The input. If it takes pixels, 0 to 255, it has `steps`: scale and
            offset of each channel, with which the file normalizes them.
        output: The output.
        scores: The kind of output: `"probabilities"` of a model that ends in a softmax,
            else `"logits"`, to which an app applies a softmax.
        preprocessing: How an image becomes the input; None if unknown.
        labels: The names of the classes, in the order of the output; None if unknown.
        dataset: Name of the data set that the model was trained on; of an image folder
                without its path; None if unknown.
        holdout: Test fraction of an image folder without a test folder; else None.
    """

    file: str
    sha256: str
    size_bytes: int
    runtime: str
    input: TensorInfo
    output: TensorInfo
    scores: str = "logits"
    preprocessing: Preprocessing | None
    labels: tuple[str, ...] | None
    dataset: str | None = None
    holdout: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Returns the content of the JSON."""
        fields = asdict(self)
        file = {"name": fields.pop("file")}
        file |= {name: fields.pop(name) for name in ("sha256", "size_bytes")}
        if (steps := fields["preprocessing"]) is not None:
            height, width = steps.pop("size")
            fields["preprocessing"] = {"height": height, "width": width, **steps}
        start = {"format": METADATA_FORMAT, "version": VERSION, "file": file}
        return {**start, **fields}


def _from_dict(content: Any) -> Card:
    """Returns the card whose `to_dict` is given."""
    if content["format"] != METADATA_FORMAT:
        raise InvalidValue("it contains no metadata")
    if (version := content["version"]) != VERSION:
        raise ConversionError(
            f"has version {version!r}, and this larq_nobn reads {VERSION}. "
            "Convert the model again, or install the larq_nobn that wrote it."
        )
    file, steps, labels = content["file"], content["preprocessing"], content["labels"]
    if steps is not None:
        size = steps["height"], steps["width"]
        steps = Preprocessing(steps["mean"], steps["std"], size, steps["crop"])
    return Card(
        file=file["name"],
        sha256=file["sha256"],
        size_bytes=file["size_bytes"],
        runtime=content["runtime"],
        input=_tensor(content["input"]),
        output=_tensor(content["output"]),
        scores=content.get("scores", "logits"),
        preprocessing=steps,
        labels=None if labels is None else tuple(labels),
        dataset=content["dataset"],
        holdout=content.get("holdout"),
    )


def _tensor(row: dict[str, Any]) -> TensorInfo:
    shape, dtype = tuple(map(int, row["shape"])), np.dtype(row["dtype"]).name
    info = TensorInfo(row["name"], shape, dtype, row["scale"], row["zero_point"])
    return PixelInfo(**vars(info), steps=row["steps"]) if "steps" in row else info


def metadata_path(path: str | os.PathLike) -> Path:
    """Returns the path of a file's metadata: `model.tflite.json`."""
    return Path(f"{check_path('path', path)}.json")


def check_metadata(
    model: keras.Model,
    labels: Sequence[str] | None,
    preprocessing: Preprocessing | None,
) -> tuple[str, ...] | None:
    """Returns the labels as a tuple; raises if the metadata do not suit the model."""
    if labels is None and preprocessing is None:
        return None
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise ConversionError(
            f"labels and preprocessing describe one input and one output, and model "
            f"{model.name!r} has {len(model.inputs)} and {len(model.outputs)}. Leave "
            "them out."
        )
    tensor = model.inputs[0]
    if preprocessing is not None:
        check_kind("preprocessing", preprocessing, Preprocessing, "a Preprocessing")
        if tuple(tensor.shape[1:]) != preprocessing.image_shape:
            raise ConversionError(
                f"preprocessing makes images of shape {preprocessing.image_shape}, but "
                f"the model takes {tuple(tensor.shape[1:])}. Pass the model's height "
                "and width as its size, and one mean and std per channel."
            )
        if not tensor.dtype.is_floating:
            raise ConversionError(
                f"preprocessing makes float32 images, but the model takes "
                f"{tensor.dtype.name}. Leave it out: the model does that itself."
            )
    return None if labels is None else _checked_labels(labels, model.outputs[0].shape)


def _checked_labels(labels: Sequence[str], shape: Sequence[int]) -> tuple[str, ...]:
    listed = isinstance(labels, Sequence) and not isinstance(labels, (str, bytes))
    if not listed or not all(isinstance(x, str) and x.strip() for x in labels):
        raise InvalidType(
            f"labels={labels!r} is not a list of names. Pass one name per class, in "
            "the order of the model's outputs."
        )
    if len(shape) != 2 or len(labels) != shape[-1]:
        raise ConversionError(
            f"labels has {len(labels)} names, but the model's output for one example "
            f"has shape {tuple(shape[1:])}. Pass one name per class, in the order of "
            "the outputs, or leave labels out."
        )
    return tuple(labels)


def write_metadata(
    path: str | os.PathLike,
    flatbuffer: bytes,
    runner: Runner | None,
    labels: tuple[str, ...] | None,
    preprocessing: Preprocessing | None,
    dataset: str | None = None,
    holdout: float | None = None,
) -> None:
    """Writes the metadata of a file that will be at `path`.

    If the file does not get there, `read_card` notices that the SHA-256 is that of
    another file.
    """
    if is_c(flatbuffer):
        info = read_info(flatbuffer, os.fspath(path))
        softmax = info["operations"][-1]["op"] == "softmax"
        runtime, (inputs, outputs) = "c", c_tensors(info)
    else:
        graph = read(flatbuffer, os.fspath(path))[0]
        maker = graph.producer(graph.outputs[0])
        while maker is not None and maker.op in ("QUANTIZE", "DEQUANTIZE", "RESHAPE"):
            maker = graph.before(maker)
        softmax = maker is not None and maker.op == "SOFTMAX"
        assert runner is not None
        runtime = runner.runtime
        inputs, outputs = runner.input_tensors, runner.output_tensors
    metadata = Card(
        file=Path(path).name,
        sha256=hashlib.sha256(flatbuffer).hexdigest(),
        size_bytes=len(flatbuffer),
        runtime=runtime,
        input=inputs[0],
        output=outputs[0],
        holdout=holdout,
        scores="probabilities" if softmax else "logits",
        preprocessing=preprocessing,
        labels=labels,
        dataset=dataset,
    )
    text = json.dumps(metadata.to_dict(), indent=2, ensure_ascii=False)
    with replacing(metadata_path(path)) as temporary:
        # JSON escapes bytes of the name that are not text.
        temporary.write_bytes(f"{text}\n".encode(errors="backslashreplace"))


def remove_metadata(path: str | os.PathLike) -> None:
    """Removes the metadata of an earlier conversion, but no other JSON."""
    target = metadata_path(path)
    with suppress(OSError, ValueError, RecursionError, TypeError, LookupError):
        if json.loads(target.read_bytes())["format"] == METADATA_FORMAT:
            target.unlink()


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
        info = nobn.data.open_dataset("digits").info
        prepare = nobn.deploy.Preprocessing(info.mean, info.std, size=(8, 8))
        nobn.convert(
            model, "model.tflite", labels=info.class_names, preprocessing=prepare
        )
        nobn.deploy.read_card("model.tflite").labels[7]  # "7"
        ```
    """
    beside = metadata_path(path)
    content = read_file(path)
    text = read_file(
        beside,
        "Copy it with the file, or convert again with a data set, or name that "
        "(--dataset).",
    )
    try:
        metadata = _from_dict(parse_json(text))
    except ConversionError as error:
        raise ConversionError(f"{os.fspath(beside)!r} {error}") from error
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise ConversionError(
            f"{os.fspath(beside)!r} is not an intact description of a .tflite file: "
            f"{str(error).rstrip('.')}. Convert the model again, with a data set."
        ) from error
    if metadata.labels is not None:
        try:
            _checked_labels(metadata.labels, metadata.output.shape)
        except (ConversionError, InvalidType) as error:
            raise ConversionError(f"{os.fspath(beside)!r}: {error}") from error
    if hashlib.sha256(content).hexdigest() != metadata.sha256:
        raise ConversionError(
            f"{os.fspath(beside)!r} describes another file than {os.fspath(path)!r}: "
            "their SHA-256 differ. Copy both from the same conversion."
        )
    return metadata
