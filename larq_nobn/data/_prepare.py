"""Putting a data set where `tfds.load` finds it."""

from __future__ import annotations

import os
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .._checks import check_choice, check_path
from .._errors import InvalidValue
from .._files import check_folder
from .._names import DATASETS, TFDS_PREFIX
from ._tfds import DataDir, is_prepared, open_builder, quiet

# Seconds without a single byte before a server counts as unreachable.
_TIMEOUT = 20
_IMAGENET_FILES = ["ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"]


@dataclass(frozen=True)
class Prepared:
    """The location and source of a downloaded data set; `str` makes a sentence.

    Arguments:
        name: The data set.
        path: Its folder; None for `digits`, which needs none.
        images: Images by split, as written.
        done: True if this call prepared it, False if it was there before.
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

    What is there already is left alone. TensorFlow Datasets downloads, checks and
    writes it.

    Arguments:
        name: One of `NAMES`, or `"tfds:NAME"`.
        source: A folder with all files that TensorFlow Datasets would download; for
            `imagenet`, which has no free download, `ILSVRC2012_img_train.tar` and
            `ILSVRC2012_img_val.tar`.
        data_dir: The data folder of TensorFlow Datasets; None for its default, which
            the environment variable `TFDS_DATA_DIR` sets.

    Returns:
        A `Prepared`, whose `str` says what was done.

    Raises:
        ValueError: If `name` is unknown, or the source is damaged or another file.
        FileNotFoundError: If there is nothing at `source`.
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
    given = None
    if source is not None:
        given = Path(os.path.expanduser(check_path("source", source)))
        if not given.is_dir():
            raise FileNotFoundError(
                f"{given} is not a folder. Pass one that contains the files, or none "
                "to download them."
            )
    if data_dir is not None:
        check_path("data_dir", data_dir)
    builder = open_builder(name, data_dir)
    present = is_prepared(builder)
    if not present:
        if Path(builder.data_dir).exists():
            raise FileExistsError(
                f"{builder.data_dir} is there but contains no complete data set. "
                "Remove it and try again."
            )
        check_folder(builder.data_dir_root, "a data set")
        _download_and_prepare(name, builder, given)
    images = {split: info.num_examples for split, info in builder.info.splits.items()}
    return Prepared(name, Path(builder.data_dir), images, done=not present)


def _download_and_prepare(name: str, builder: Any, source: Path | None) -> None:
    """Prepares a data set the way TensorFlow Datasets does, which checks its files.

    `source` is a folder with all that it would download; None to download.
    """
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.download.download_manager import (
        NonMatchingChecksumError,
    )

    files = [info.filename for info in builder.url_infos.values()]
    if name == "imagenet":
        files = _IMAGENET_FILES
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
            # TFDS would try for minutes before it gives up.
            for url in [*builder.url_infos][:1]:
                urllib.request.urlopen(url, timeout=_TIMEOUT).close()
        with quiet():
            builder.download_and_prepare(download_config=config)
    except (OSError, tfds.download.DownloadError, NonMatchingChecksumError) as problem:
        reason = str(problem).partition("\n")[0].rstrip(".")
        if source is None:
            raise ConnectionError(
                f"{name} could not be downloaded ({reason}). {remedy}"
            ) from problem
        if not isinstance(problem, NonMatchingChecksumError):
            raise
        raise InvalidValue(
            f"{source} contains other files than those of {name} ({reason}). Download "
            "them again."
        ) from problem
