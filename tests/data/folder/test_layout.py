"""Which files are images of which class and split, and what is rejected."""

from __future__ import annotations

import hashlib
import unicodedata
from pathlib import Path

import larq_nobn as nobn
import numpy as np
import pytest
from larq_nobn._progress import watched
from larq_nobn.data.folder import _folder

from .conftest import Write, content_of


def parts(root: Path, holdout: float = 0.1) -> dict[str, list[str]]:
    """Paths by split."""
    images = nobn.data.open_dataset(root, holdout=holdout)._images
    actual = {split: images.files(split) for split in nobn.data.SPLITS}
    return {
        split: [Path(file).relative_to(root).as_posix() for file in files]
        for split, files in actual.items()
        if files
    }


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
    actual = parts(root, holdout=0.3)
    for split, paths in actual.items():
        assert paths
        for path in paths:
            digest = hashlib.sha256((root / path).read_bytes()).digest()
            drawn = int.from_bytes(digest[:8], "big") / 2**64
            assert (drawn < 0.3) == (split == "test")
    assert sum(map(len, actual.values())) == 61
    assert content_of(root) == before


# Folders beside each other, and the split that each of them is.
LAYOUTS = [
    {"train": "train", "test": "test"},
    {"TRAINING": "train", "Testing": "test"},
    {"Train set": "train", "dev": "test"},
    {"train": "train", "valid": "validation", "test": "test"},
    {"test": "test"},
    {"train": "train", "val": "test", "labels": None},
]


@pytest.mark.parametrize("layout", LAYOUTS, ids=", ".join)
def test_folders_say_what_is_for_what(
    layout: dict[str, str | None],
    root: Path,
    write: Write,
    caplog: pytest.LogCaptureFixture,
):
    wanted = {}
    for folder, split in layout.items():
        files = [f"{folder}/cat/{folder}.png", f"{folder}/dog/{folder}2.png"]
        if split is None:  # as annotations have
            (root / folder / "train").mkdir(parents=True)
            (root / folder / "train" / "a.txt").write_text("0 0.5 0.5 1 1")
        else:
            wanted[split] = [str(write(name).relative_to(root)) for name in files]
    assert parts(root, holdout=1.0 if "train" not in wanted else 0.1) == wanted
    said = [f"In {root}, val is used as the test split."] * ("val" in layout)
    assert [each for each in caplog.messages if " val " in each] == said
    if "train" in wanted:
        assert nobn.data.open_dataset(root).info.class_names == ("cat", "dog")


def test_a_folder_for_training_alone_is_divided(root: Path, write: Write):
    for number in range(30):
        write(f"train/{'cat' if number % 2 else 'dog'}/{number}.png")
    assert nobn.data.open_dataset(root, holdout=0.5).info.class_names == ("cat", "dog")


# Files that leave open which folders are classes, and what is said.
UNCLEAR = {
    "Training/1 Training/2 Testing/3": "contains Testing, Training, named like a split",
    "train/cat/1 train/dog/2 cat/3 dog/4": "contains train, .* a split, and cat, dog",
    "train/cat/1 train/dog/2 Training/cat/3": "contains both Training and train, which",
}


@pytest.mark.parametrize("files", UNCLEAR)
def test_a_split_is_not_taken_for_a_class(files: str, root: Path, write: Write):
    for file in files.split():
        write(f"{file}.png")
    with pytest.raises(ValueError, match=UNCLEAR[files]):
        nobn.data.open_dataset(root)


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


def classes(write: Write, split: str, count: int, start: int = 0) -> None:
    for number in range(count):
        for name in ("cat", "dog"):
            seed = start + 1000 * (name == "dog") + number
            write(f"{split}{name}/{number:02}.png", seed=seed)


def test_a_folder_beside_test_is_the_validation_split(root: Path, write: Write):
    name = "Validation"
    for place, (split, count) in enumerate((("train", 4), (name, 3), ("test", 2))):
        classes(write, f"{split}/", count, start=100 * place)
    info = nobn.data.open_dataset(root).info
    actual = info.train_examples, info.validation_examples, info.test_examples
    assert actual == (8, 6, 4)
    files = nobn.data.open_dataset(root).files("validation")
    assert files is not None and all(f"/{name}/" in file for file in files)
    with pytest.raises(ValueError, match="contains a validation split, so validation"):
        nobn.data.open_dataset(root, validation=0.1)


def test_the_content_of_a_file_says_what_it_is_for(root: Path, write: Write):
    """Independently of the test images, and whatever files come and go."""
    classes(write, "", 60)
    options = {"holdout": 0.3, "validation": 0.3}
    parts = {
        s: nobn.data.open_dataset(root, **options).files(s) for s in nobn.data.SPLITS
    }
    sizes = {split: len(files or ()) for split, files in parts.items()}
    assert sum(sizes.values()) == 120
    # Binomial, four standard deviations.
    assert abs(sizes["test"] - 36) < 21 and abs(sizes["validation"] - 25.2) < 18
    assert parts["test"] == nobn.data.open_dataset(root, holdout=0.3).files("test")
    for file in (parts["train"] or ())[:5]:
        Path(file).unlink()
    left = nobn.data.open_dataset(root, **options).files("validation")
    assert left == parts["validation"]


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
        "them, or skip them by --skip-unreadable (skip_unreadable=True)."
    )
    assert nobn.data.open_dataset(root, skip_unreadable=True).info == good
    assert "2 of 62 files" in caplog.text and "are skipped" in caplog.text


def test_what_is_known_is_not_read_again(
    root: Path, write: Write, monkeypatch: pytest.MonkeyPatch, cache: Path
):
    for name in "cat/1", "cat/2", "dog/3":
        write(f"{name}.png")
    decoded: list[int] = []
    decode = _folder.decode

    def counted(content: bytes) -> np.ndarray:
        decoded.append(len(content))
        return decode(content)

    def interrupt(text: str, done: int, count: int | None) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(_folder, "decode", counted)
    with pytest.raises(KeyboardInterrupt), watched(interrupt):
        nobn.data.inspect_folder(root)
    assert not cache.exists()
    decoded.clear()
    actual = nobn.data.inspect_folder(root)
    assert len(decoded) == 3 and nobn.data.inspect_folder(root) == actual
    assert len(decoded) == 3
    write("cat/2.png", seed=1, shape=(7, 6, 3))
    changed = nobn.data.inspect_folder(root)
    assert len(decoded) == 6 and changed.sizes != actual.sizes
    (file,) = (cache / "folders").iterdir()
    for damage in ("{ damaged", "[]"):
        file.write_text(damage)
        assert nobn.data.inspect_folder(root) == changed
    assert len(decoded) == 12


def test_a_read_error_is_not_remembered(
    root: Path, write: Write, monkeypatch: pytest.MonkeyPatch
):
    two_classes(write, 4)
    read, failing = Path.read_bytes, {"cat/01.png", "dog/03.png"}

    def read_bytes(path: Path) -> bytes:
        if path.is_relative_to(root) and str(path.relative_to(root)) in failing:
            raise OSError(5, "Input/output error")
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    with pytest.raises(ValueError, match="2 of 8 files .*01.png .input/output error.,"):
        nobn.data.open_dataset(root)
    failing.clear()
    info = nobn.data.open_dataset(root).info
    assert info.train_examples + info.test_examples == 8


# --- refusals


def test_folders_that_are_no_data_set(root: Path, write: Write):
    with pytest.raises(FileNotFoundError, match=f"^There is no folder {root}. Pass on"):
        nobn.data.open_dataset(root)
    (root / "empty").mkdir(parents=True)
    write("x.png")
    with pytest.raises(ValueError, match="contains no folder with images. Put "):
        nobn.data.open_dataset(root)
    for number in range(9):
        write(f"cat/{number}.png")
    with pytest.raises(
        ValueError, match="contains images of cat only, but a classifie"
    ):
        nobn.data.open_dataset(root)
    write("dog/x.png")
    for holdout, split in ((1e-9, "test"), (1 - 1e-9, "train")):
        said = f"has no image for split='{split}'. Add some, or, .* change holdout="
        with pytest.raises(ValueError, match=said):
            nobn.data.open_dataset(root, holdout=holdout)
    like = nobn.data.open_dataset(root, holdout=0.5).info
    all_for_testing = nobn.data.open_dataset(root, holdout=1.0)
    assert len([*all_for_testing.batches("test", 16, like=like)]) == 1
    with pytest.raises(ValueError, match="'train'. Add some, or choose another split"):
        all_for_testing.batches("train", 8, like=like)
