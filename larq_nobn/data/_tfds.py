"""Opens, downloads and reads data sets of TensorFlow Datasets (TFDS)."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import sys
import urllib.request
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from .._checks import check_choice, check_path
from .._errors import InvalidValue, needing
from .._files import check_folder, files_below
from .._names import DATASETS, TFDS_PREFIX
from .folder._decode import image_of

DataDir = str | os.PathLike[str] | None


def open_builder(name: str, data_dir: DataDir) -> Any:
    """Returns the TFDS builder of a data set, downloaded or not."""
    name = {"imagenet": "imagenet2012"}.get(name, name.removeprefix(TFDS_PREFIX))
    _check_code(name, data_dir)
    with needing(f"{name} needs TensorFlow Datasets", "data"):
        import tensorflow_datasets as tfds
    if sys.stderr is None or not sys.stderr.isatty():
        tfds.disable_progress_bar()  # a log file would contain every step of it
    try:
        with quiet():
            return tfds.builder(name, data_dir=data_dir)
    except (tfds.core.DatasetNotFoundError, ValueError) as problem:
        raise InvalidValue(
            f"TensorFlow Datasets has no set {name!r} "
            f"({str(problem).strip().partition(chr(10))[0]}). Choose one that "
            "tfds.list_builders() names."
        ) from problem


def _check_code(name: str, data_dir: DataDir) -> None:
    """Rejects a name or a folder that makes TFDS run code of others.

    Both may come from the run of a stranger. For names with a colon, TFDS downloads
    and runs Python code; for a downloaded set, it imports the modules of its features.
    """
    # Other characters could name a community set, another version, or a path.
    if not re.fullmatch("[a-z0-9_]*(/[^:]*)?", name):
        raise InvalidValue(
            f"{TFDS_PREFIX}{name} is not a name of TensorFlow Datasets: these are in "
            "lower case, without a colon. Choose one that tfds.list_builders() names, "
            "or open the set in Python and pass its images to train (data=...)."
        )
    if data_dir is None:  # the default folder is the user's own
        return
    place = Path(os.path.expanduser(data_dir), name.partition("/")[0])
    for file in files_below(place) if place.is_dir() else ():
        if file.name == "features.json":
            json.loads(file.read_bytes(), object_hook=partial(_check_feature, file))


def _check_feature(file: Path, part: dict[str, Any]) -> None:
    for key in ("pythonClassName", "python_class_name"):
        name = str(part.get(key, "tensorflow_datasets."))
        if not name.startswith("tensorflow_datasets."):
            raise InvalidValue(
                f"{file} contains {name!r}, which is not a class of TensorFlow "
                "Datasets, and is not imported. Prepare the set again."
            )


def check_prepared(name: str, builder: Any, data_dir: DataDir) -> None:
    """Raises a FileNotFoundError with the command that downloads a missing set."""
    with quiet():
        if builder.is_prepared():
            return
    check_folder(builder.data_dir_root, "a data set")
    source = " --from FOLDER" if name == "imagenet" else ""
    place = "" if data_dir is None else f" --data-dir {os.fspath(data_dir)}"
    raise FileNotFoundError(
        f"{name} is not prepared in {builder.data_dir_root}. Run: "
        f"larq-nobn data {name}{source}{place}"
    )


def prepared_builder(name: str, data_dir: DataDir) -> Any:
    """Returns the builder of a downloaded data set; raises if it is missing."""
    builder = open_builder(name, data_dir)
    check_prepared(name, builder, data_dir)
    return builder


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Mutes messages of TFDS except errors and progress bars."""
    from absl import logging

    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.set_verbosity(verbosity)


# Bytes of length and checksum before the content of a record, and of one after it.
_BEFORE, _AFTER = 12, 4


class Records:
    """The records of files in order; at first, only their lengths are read.

    This takes a minute or two for a million records.
    """

    def __init__(self, files: Iterable[str | os.PathLike[str]]) -> None:
        self._files = [os.fspath(file) for file in files]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            places = list(pool.map(_places_in, self._files))
        self._places = np.concatenate(places)
        self._file_of = np.repeat(np.arange(len(places)), [*map(len, places)])

    def __len__(self) -> int:
        return len(self._places)

    def read(self, index: int) -> bytes:
        start, size = self._places[index].tolist()
        with open(self._files[self._file_of[index]], "rb") as stream:
            stream.seek(start)
            return stream.read(size)


class Examples(Records):
    """Images and labels of a split of a downloaded set, found by their numbers."""

    def __init__(
        self, name: str, builder: Any, split: str, keys: tuple[str, str]
    ) -> None:
        self._name, self._folder, self._keys = name, builder.data_dir, keys
        self._features = builder.info.features
        if (form := builder.info.file_format.value) != "tfrecord":
            raise InvalidValue(
                f"{name} in {self._folder} is stored as {form}. Prepare it as tfrecord."
            )
        super().__init__(builder.info.splits[split].filepaths)

    def example(self, index: int) -> tuple[bytes, int]:
        """Returns the file of an image, and its label; safe in several threads."""
        import tensorflow_datasets as tfds

        (image, label), skip = self._keys, tfds.decode.SkipDecoding()
        read, record = self._features.deserialize_example_np, self.read(index)
        example = read(record, decoders={image: skip})
        return example[image], int(example[label])

    def image(self, index: int, *how: Any) -> tuple[np.ndarray, int]:
        """Returns an image, as `image_of` does, and its label."""
        file, label = self.example(index)
        try:
            return image_of(file, *how), label
        except ValueError as error:
            raise OSError(
                f"An image of {self._name} in {self._folder} cannot be read: {error}. "
                "Delete the folder of the set and prepare it again."
            ) from error


def _places_in(name: str) -> np.ndarray:
    """Returns first byte and number of bytes of each record."""
    end = os.path.getsize(name)
    records, place = [], 0
    with open(name, "rb", buffering=0) as stream:
        while place < end:
            stream.seek(place)
            size = int.from_bytes(stream.read(8), "little")
            records.append((place + _BEFORE, size))
            place += _BEFORE + size + _AFTER
    if place != end:
        raise InvalidValue(
            f"{name} is cut off: its last record ends after the file. Prepare the "
            "data set again."
        )
    return np.array(records, np.int64).reshape(-1, 2)


# A server that sends nothing for so many seconds counts as unreachable.
_TIMEOUT = 20


@dataclass(frozen=True)
class Prepared:
    """The location of a downloaded data set; `str` makes a sentence.

    Arguments:
        name: The data set.
        path: Its folder; None for `digits`, which needs none.
        images: Number of images by split.
        done: True if this call has downloaded it, False if it existed before.
    """

    name: str
    path: Path | None
    images: dict[str, int]
    done: bool

    def __str__(self) -> str:
        if self.path is None:
            return f"{self.name} comes with scikit-learn; there is nothing to prepare."
        counts = ", ".join(f"{count} {split}" for split, count in self.images.items())
        verb = "is now" if self.done else "was already"
        return f"{self.name} {verb} prepared in {self.path} ({counts} images)."


def prepare(
    name: str, source: str | os.PathLike[str] | None = None, data_dir: DataDir = None
) -> Prepared:
    """Downloads a data set, so that `load` and `tfds.load` open it offline.

    TensorFlow Datasets downloads, checks and writes it, unless it exists. Returns a
    `Prepared`, whose `str` says what was done.

    Arguments:
        name: One of `NAMES`, or `"tfds:NAME"`.
        source: A folder with all files that TensorFlow Datasets would download. It is
            required for `imagenet`, which has no free download:
            `ILSVRC2012_img_train.tar` and `ILSVRC2012_img_val.tar`.
        data_dir: The data folder of TensorFlow Datasets; None for its default, which
            the environment variable `TFDS_DATA_DIR` sets.

    Raises:
        ValueError: If `name` is unknown, or a file in `source` is damaged or another.
        FileNotFoundError: If `source` does not exist, or lacks a file.
        FileExistsError: If an incomplete data set is in the way.
        ConnectionError: If the download failed.
        TypeError: If a path has the wrong type.

    Example:
        >>> print(nobn.data.prepare("digits"))
        digits comes with scikit-learn; there is nothing to prepare.
    """
    if not (isinstance(name, str) and name.startswith(TFDS_PREFIX)):
        check_choice("name", name, DATASETS)
    if name == "digits":
        return Prepared(name, None, {}, done=False)
    folder = None
    if source is not None:
        folder = Path(os.path.expanduser(check_path("source", source)))
        if not folder.is_dir():
            raise FileNotFoundError(
                f"{folder} is not a folder. Pass one that contains the files, or none "
                "to download them."
            )
    if data_dir is not None:
        check_path("data_dir", data_dir)
    builder = open_builder(name, data_dir)
    with quiet():
        present = builder.is_prepared()
    if not present:
        if Path(builder.data_dir).exists():
            raise FileExistsError(
                f"{builder.data_dir} exists but contains no complete data set. "
                "Remove it and try again."
            )
        check_folder(builder.data_dir_root, "a data set")
        _download_and_prepare(name, builder, folder)
    images = {split: info.num_examples for split, info in builder.info.splits.items()}
    return Prepared(name, Path(builder.data_dir), images, done=not present)


def _download_and_prepare(name: str, builder: Any, source: Path | None) -> None:
    """Lets TensorFlow Datasets download a data set, or read its files from `source`."""
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.download import download_manager

    files = [info.filename for info in builder.url_infos.values()]
    if name == "imagenet":
        files = ["ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"]
    remedy = (
        f"Put {', '.join(files)} into a folder and run: "
        f"larq-nobn data {name} --from FOLDER"
    )
    if source is None and name == "imagenet":
        raise FileNotFoundError(f"imagenet has no free download. {remedy}")
    if source and (missing := [f for f in files if not (source / f).is_file()]):
        raise FileNotFoundError(f"{source} lacks {', '.join(missing)}. {remedy}")
    config = tfds.download.DownloadConfig(manual_dir=source)
    try:
        if source is None:
            # Fails within seconds; TFDS would try for minutes.
            for url in [*builder.url_infos][:1]:
                urllib.request.urlopen(url, timeout=_TIMEOUT).close()
        with quiet():
            builder.download_and_prepare(download_config=config)
    except download_manager.NonMatchingChecksumError as error:
        raise InvalidValue(
            f"{source or name} contains files that are not those of {name}. Download "
            "them again."
        ) from error
    except (OSError, tfds.download.DownloadError) as error:
        if source is not None:
            raise
        reason = str(error).partition("\n")[0].rstrip(".")
        raise ConnectionError(
            f"{name} could not be downloaded ({reason}). {remedy}"
        ) from error
