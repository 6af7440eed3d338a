"""Which files are images of which class and split, and what is rejected."""

from __future__ import annotations

import hashlib
import io
import struct
import unicodedata
from pathlib import Path
from typing import Any

import larq_nobn as nobn
import numpy as np
import pytest
from larq_nobn._files import cache_folder
from larq_nobn._progress import watched
from larq_nobn.data.folder import _folder
from larq_nobn.data.folder._folder import open_folder

from .conftest import Write, content_of, png


def parts(root: Path, holdout: float = 0.1, skip: bool = False) -> dict[str, list[str]]:
    """Paths by split."""
    found = open_folder(root, holdout, skip)
    return {s: [p.entry.path for p in part] for s, part in found.parts.items() if part}


def two_classes(write: Write, count: int = 30) -> None:
    for name in ("cat", "dog"):
        for number in range(count):
            write(f"{name}/{number:02}.png", seed=hash_of(name) + number)


def hash_of(name: str) -> int:
    return int.from_bytes(hashlib.md5(name.encode()).digest()[:4], "big")


# --- splits


def test_the_content_decides_what_is_held_out(root: Path, write: Write):
    two_classes(write)
    write("cat/again.png", seed=hash_of("dog") + 3)  # equal files of two classes
    before = content_of(root)
    found = parts(root, holdout=0.3)
    for split, paths in found.items():
        assert paths
        for path in paths:
            digest = hashlib.sha256((root / path).read_bytes()).digest()
            drawn = int.from_bytes(digest[:8], "big") / 2**64
            assert (drawn < 0.3) == (split == "test")
    assert sum(map(len, found.values())) == 61
    assert content_of(root) == before


@pytest.mark.parametrize(
    "train, test",
    [
        ("train", "test"),
        ("training", "testing"),
        ("TRAINING", "VALID"),
        ("Train-Set", "Valset"),
        ("Train set", "dev"),
    ],
)
def test_folders_say_what_is_for_testing(
    root: Path, write: Write, train: str, test: str
):
    for place in (f"{train}/cat/a", f"{train}/dog/b", f"{test}/cat/c", f"{test}/dog/d"):
        write(f"{place}.png")
    splits = parts(root)
    assert splits["train"] == [f"{train}/cat/a.png", f"{train}/dog/b.png"]
    assert splits["test"] == [f"{test}/cat/c.png", f"{test}/dog/d.png"]
    assert nobn.data.open_dataset(root).info.class_names == ("cat", "dog")


def test_which_folders_are_used_is_said(
    root: Path, write: Write, caplog: pytest.LogCaptureFixture
):
    for place in ("train/cat/a", "train/dog/b", "valid/cat/c", "valid/dog/d"):
        write(f"{place}.png")
    assert parts(root)["test"] == ["valid/cat/c.png", "valid/dog/d.png"]
    assert caplog.messages == [f"Of {root}, valid is used as the test split."]
    caplog.clear()
    for place in ("Testing/cat/c", "Testing/dog/d"):
        write(f"{place}.png", seed=7)
    found = parts(root)
    assert found["test"] == ["Testing/cat/c.png", "Testing/dog/d.png"]
    assert found["validation"] == ["valid/cat/c.png", "valid/dog/d.png"]
    assert len(found["train"]) == 2
    assert caplog.messages == []
    assert nobn.data.inspect_folder(root).remarks == ()


def test_a_split_for_testing_alone(root: Path, write: Write):
    for place in ("test/cat/a", "test/dog/b"):
        write(f"{place}.png")
    assert len(parts(root, holdout=1.0)["test"]) == 2  # as another network is tested
    # No holdout is advised, since folders divide the images.
    with pytest.raises(ValueError, match=r"None of .* for training. Add some\.$"):
        parts(root)


@pytest.mark.parametrize(
    "places, names",
    [
        (["Training", "Testing"], "Testing, Training"),
        (["cat", "dog", "Dev"], "Dev"),
        (["cat", "train", "val"], "train, val"),
        (["train/cat", "train/dog", "test/cat", "test/validation"], "validation"),
    ],
)
def test_a_split_is_not_taken_for_a_class(
    root: Path, write: Write, places: list[str], names: str
):
    for place in places:
        for number in range(3):
            write(f"{place}/{number}.png")
    with pytest.raises(ValueError) as caught:
        nobn.data.open_dataset(root)
    inside = root / "test" if "/" in places[0] else root
    assert str(caught.value) == (
        f"{inside} contains images in {names}, named like a split and not like a "
        "class. Put a folder for each class into a split, as in train/cats/1.jpg, and "
        "rename a class that is called like a split."
    )


@pytest.mark.parametrize("splits", [["train", "val"], ["Training"]])
def test_splits_beside_classes_are_asked_about(
    root: Path, write: Write, splits: list[str]
):
    for place in (*splits, "."):
        for name in ("cat", "dog"):
            write(f"{place}/{name}/a.png")
    with pytest.raises(ValueError) as caught:
        nobn.data.open_dataset(root)
    assert str(caught.value) == (
        f"{root} contains {', '.join(sorted(splits))} with folders of classes in them, "
        "as splits have, beside images in cat, dog. Move these into the splits, as in "
        "train/cats/1.jpg, or elsewhere; rename a class that is called like a split."
    )


def test_folders_without_images_beside_splits_are_left_alone(root: Path, write: Write):
    for place in ("train/cat/a", "train/dog/b", "val/cat/c", "val/dog/d"):
        write(f"{place}.png")
    (root / "labels" / "train").mkdir(parents=True)
    (root / "labels" / "train" / "a.txt").write_text("0 0.5 0.5 1 1")
    assert len(parts(root)["train"]) == 2


@pytest.mark.parametrize("names", [("train", "Training"), ("val", "dev")])
def test_two_names_of_one_split(root: Path, write: Write, names: tuple[str, str]):
    for place in {*names, "train"}:
        for name in ("cat", "dog"):
            write(f"{place}/{name}/a.png")
    split = "train" if "train" in names else "validation"
    one, two = sorted(names)
    with pytest.raises(ValueError) as caught:
        nobn.data.open_dataset(root)
    assert str(caught.value) == (
        f"{root} contains both {one} and {two}, which are names of the {split} split. "
        "Keep one of them."
    )


def test_splits_within_classes(root: Path, write: Write):
    for name in ("cat", "dog"):
        for split in ("train", "test"):
            write(f"{name}/{split}/a.png")
    with pytest.raises(ValueError) as caught:
        nobn.data.open_dataset(root)
    assert str(caught.value) == (
        f"{root / 'cat'} contains test, train, which are names of splits. Choose this "
        "folder as the data set, or, if it is a class, put the splits above it, as in "
        "train/cat/1.jpg."
    )


def test_of_two_folders_for_testing_that_with_classes_counts(root: Path, write: Write):
    for place in ("train/cat/a", "train/dog/b", "val/cat/c", "test/e"):
        write(f"{place}.png")
    assert parts(root)["test"] == ["val/cat/c.png"]
    write("test/dog/f.png")
    assert parts(root)["test"] == ["test/dog/f.png"]


def test_a_folder_for_training_alone_is_divided(root: Path, write: Write):
    for number in range(30):
        write(f"train/{'cat' if number % 2 else 'dog'}/{number}.png")
    assert nobn.data.open_dataset(root, holdout=0.5).info.class_names == ("cat", "dog")


def test_a_class_can_be_called_train(root: Path, write: Write):
    for number in range(20):
        write(f"train/{number}.png", seed=number)
        write(f"bus/{number}.png", seed=100 + number)
        write(f"car/old/{number}.png", seed=200 + number)
    assert nobn.data.open_dataset(root).info.class_names == ("bus", "car", "train")


def test_a_class_that_one_split_lacks(
    root: Path, write: Write, caplog: pytest.LogCaptureFixture
):
    for place in ("train/b/1", "train/c/2", "test/a/3", "test/c/4"):
        write(f"{place}.png")
    info = nobn.data.open_dataset(root).info
    assert info.class_names == ("a", "b", "c")
    (_, train), (_, test) = (
        next(iter(nobn.data.load(root, split, 2, shuffle=False)))
        for split in ("train", "test")
    )
    assert (train.numpy().tolist(), test.numpy().tolist()) == ([1, 2], [0, 2])
    assert "train images in" in caplog.text and "lack 1 of 3 classes: a" in caplog.text
    assert "lack 1 of 3 classes: b" in caplog.text


# --- names


def test_names_of_any_kind(root: Path, write: Write):
    names = ["grüne Äpfel", "日本 語", "a  b", "ω", "CAPITAL", "1"]
    for number, name in enumerate(names):
        write(f"train/{name}/bild Nr. {number} ü.PNG")
        # As other systems write the same letters.
        write(f"test/{unicodedata.normalize('NFD', name)}/x.png", seed=number)
    info = nobn.data.open_dataset(root).info
    assert info.class_names == tuple(sorted(names))
    _, labels = next(iter(nobn.data.load(root, "test", 6)))
    assert sorted(labels.numpy()) == list(range(6))


def test_what_is_no_image_is_left_out(root: Path, write: Write):
    two_classes(write)
    before = nobn.data.open_dataset(root).info
    for name in (".hidden/x.png", "cat/.x.png", "__MACOSX/cat/x.png"):
        write(name)
    for name in ("cat/notes.txt", "dog/Thumbs.db", "README.md", "cat/video.mp4"):
        (root / name).write_text("no image")
    assert nobn.data.open_dataset(root).info == before
    write("cat/deep/deeper/x.JPG")  # a PNG, whatever its name
    assert nobn.data.open_dataset(root).info.train_examples == before.train_examples + 1


def test_links(root: Path, write: Write, tmp_path: Path):
    two_classes(write)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "bird.png").write_bytes(png(1))
    (root / "bird").symlink_to(elsewhere)
    (root / "cat" / "linked.png").symlink_to(elsewhere / "bird.png")
    (root / "dog" / "round").symlink_to(root / "dog")
    found = open_folder(root, 0.1, False)
    paths = [each.entry.path for part in found.parts.values() for each in part]
    assert len(paths) == 62
    assert {"bird/bird.png", "cat/linked.png"} <= set(paths)
    (root / "cat" / "broken.png").symlink_to(tmp_path / "nowhere")
    with pytest.raises(
        ValueError, match="broken.png .no such file or directory.. Repair"
    ):
        nobn.data.open_dataset(root)


def test_more_classes_than_a_byte_counts(root: Path):
    header = b"BM" + struct.pack("<IHHI", 70, 0, 0, 54)
    header += struct.pack("<IiiHHIIiiII", 40, 2, 2, 1, 24, 0, 16, 0, 0, 0, 0)
    for number in range(300):
        for split in ("train", "test"):
            folder = root / split / f"class {number}"
            folder.mkdir(parents=True)
            colour = struct.pack("<H", number) + bytes([split == "test"])
            (folder / "x.bmp").write_bytes(header + (2 * colour + b"\0\0") * 2)
    info = nobn.data.open_dataset(root).info
    assert (info.classes, info.train_examples, info.test_examples) == (300,) * 3
    images, labels = next(iter(nobn.data.load(root, "test", 300)))
    pixels = (images.numpy() * info.std + info.mean)[:, 0, 0] * 255
    blue, green, red = (pixels[:, 2 - n].round().astype(int) for n in range(3))
    names = [f"class {number}" for number in blue + 256 * green]
    assert names == [info.class_names[label] for label in labels]
    assert (red == 1).all()


# --- files that cannot be read


def test_unreadable_files_are_counted_and_named(
    root: Path, write: Write, caplog: pytest.LogCaptureFixture
):
    two_classes(write)
    good = nobn.data.open_dataset(root).info
    (root / "cat" / "empty.png").touch()
    (root / "dog" / "text.jpg").write_text("no image")
    with pytest.raises(ValueError) as caught:
        nobn.data.open_dataset(root)
    assert str(caught.value) == (
        f"2 of 62 files in {root} cannot be read: cat/empty.png (it is empty), "
        "dog/text.jpg (it is not a JPEG, PNG, WebP, BMP or GIF). Repair or remove "
        "them, or leave them out by --skip-unreadable (skip_unreadable=True)."
    )
    assert nobn.data.open_dataset(root, skip_unreadable=True).info == good
    assert "2 of 62 files" in caplog.text and "are left out" in caplog.text
    for number in range(9):
        (root / "cat" / f"more{number}.gif").touch()
    with pytest.raises(ValueError, match=r"^11 of 71 .*\), and 6 more\. Repair"):
        nobn.data.load(root, "train", 2)


def test_files_without_permission(
    root: Path, write: Write, monkeypatch: pytest.MonkeyPatch
):
    two_classes(write, 2)
    opened = io.open

    def refused(path: Path, *more: Any) -> Any:  # for root, nothing is forbidden
        if Path(path).name == "01.png":
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, *more)

    monkeypatch.setattr(io, "open", refused)
    with pytest.raises(ValueError, match=r"cat/01.png \(permission denied\), dog/01"):
        nobn.data.open_dataset(root)
    monkeypatch.undo()


def test_what_is_known_is_not_read_again(
    root: Path, write: Write, monkeypatch: pytest.MonkeyPatch, cache: Path
):
    two_classes(write)
    seen: list[int] = []
    decoded: list[int] = []
    decode = _folder.decode

    def counted(content: bytes) -> np.ndarray:
        decoded.append(len(content))
        return decode(content)

    def interrupt(text: str, done: int, count: int | None) -> None:
        seen.append(done)
        if done == 20:
            raise KeyboardInterrupt

    monkeypatch.setattr(_folder, "decode", counted)
    with pytest.raises(KeyboardInterrupt), watched(interrupt):
        nobn.data.inspect_folder(root)
    assert seen == list(range(1, 21))
    decoded.clear()
    found = nobn.data.inspect_folder(root)
    assert len(decoded) == 40
    assert sum(sum(split.values()) for split in found.classes.values()) == 60
    decoded.clear()
    write("cat/05.png", seed=1, shape=(7, 6, 3))
    nobn.data.inspect_folder(root)
    assert len(decoded) == 1
    (file,) = (cache / "folders").iterdir()
    file.write_text("{ damaged")
    nobn.data.inspect_folder(root)
    assert len(decoded) == 61


def test_without_a_place_for_what_is_known(
    root: Path, write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    two_classes(write)
    (tmp_path / "file").touch()
    monkeypatch.setenv("LARQ_NOBN_CACHE", str(tmp_path / "file"))
    assert nobn.data.open_dataset(root).info.classes == 2


def test_without_a_home_folder(
    root: Path, write: Write, monkeypatch: pytest.MonkeyPatch
):
    """As of a user whom the system does not know, or who is called wrongly."""
    two_classes(write)
    monkeypatch.delenv("LARQ_NOBN_CACHE")
    for name in ("XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", lambda _: {}["nobody"])
    assert nobn.data.open_dataset(root).info.classes == 2
    with pytest.raises(OSError, match="no home folder, and so no cache. Choose a f"):
        cache_folder()
    with pytest.raises(FileNotFoundError, match="There is no folder .*~nobody_here/im"):
        nobn.data.open_dataset("~nobody_here/images")
    with pytest.raises(FileNotFoundError, match="There is no folder .*~nobody_here/im"):
        nobn.data.inspect_folder("~nobody_here/images")


# --- refusals


def test_folders_that_are_no_data_set(
    root: Path, write: Write, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    with pytest.raises(
        FileNotFoundError, match=f"^There is no folder {root}. Pass one"
    ):
        nobn.data.open_dataset(root)
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError, match="file is a file. Pass a folder that"):
        nobn.data.open_dataset(tmp_path / "file")
    root.mkdir()
    (root / "empty").mkdir()
    with pytest.raises(ValueError, match="contains no folder with images in it. Put "):
        nobn.data.open_dataset(root)
    write("x.png")
    with pytest.raises(ValueError, match="contains no folder with images in it. Put "):
        nobn.data.open_dataset(root)
    for number in range(9):
        write(f"cat/{number}.png")
    with pytest.raises(
        ValueError, match=r"contains images of 1 class \(cat\), but a cla"
    ):
        nobn.data.open_dataset(root)
    for name in ("cat/grey/x.png", "cat/white/x.png"):
        write(name)
    with pytest.raises(ValueError, match=r"if grey, white in it are .* choose .*cat\."):
        nobn.data.open_dataset(root)
    write("dog/x.png")
    with pytest.raises(
        ValueError, match="is for testing. Add some, or raise the holdo"
    ):
        nobn.data.open_dataset(root, holdout=1e-9)
    with pytest.raises(
        ValueError, match="is for training. Add some, or lower the hold"
    ):
        nobn.data.open_dataset(root, holdout=1 - 1e-9)
    nobn.data.open_dataset(root, holdout=0.5)
    for split in ("train", "test"):
        with pytest.raises(ValueError, match="is for training, of which mean and std"):
            nobn.data.load(root, split, 8, holdout=1.0)
    all_for_testing = nobn.data.open_dataset(root, holdout=1.0)
    like = nobn.data.open_dataset(root, holdout=0.5).info
    assert len([*all_for_testing.batches("test", 16, like=like)]) == 1
    with pytest.raises(ValueError, match="'train'. Add some, or choose another split"):
        all_for_testing.batches("train", 8, like=like)
    assert (
        "contains no image of empty, which is left out of the classes." in caplog.text
    )
