"""What is said about a folder before anything is trained on it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import larq_nobn as nobn
import numpy as np
import pytest
from PIL import Image

from .conftest import Write, content_of


@pytest.fixture
def odd(root: Path, write: Write) -> Path:
    """A folder with everything that can be said."""
    write("train/cat/a.png", shape=(8, 10, 3))
    write("train/cat/b.png", shape=(4, 30))
    write("train/dog/c.png", shape=(20, 6, 3))
    write("test/cat/d.png")
    shutil.copy(root / "train/cat/a.png", root / "train/cat/same.png")
    shutil.copy(root / "train/cat/b.png", root / "test/cat/leak.png")
    shutil.copy(root / "train/dog/c.png", root / "train/cat/twin.png")
    Image.new("RGB", (5, 5)).save(root / "train/dog/x.bmp")
    (root / "train/dog/bad.jpg").write_bytes(b"\xff\xd8\xff")
    (root / "train/bird").mkdir()
    (root / "train/dog/notes.txt").touch()
    return root


def test_everything_is_found(odd: Path):
    before = content_of(odd)
    actual = nobn.data.inspect_folder(odd)
    assert actual.divided
    assert actual.classes == {
        "cat": {"train": 4, "test": 2},
        "dog": {"train": 2, "test": 0},
    }
    assert actual.sizes == ((4, 7, 20), (5, 8, 30))
    assert actual.grey == 2
    assert list(actual.unreadable) == ["train/dog/bad.jpg"]
    assert actual.empty == ("train/bird",)
    assert actual.copies == (("train/cat/a.png", "train/cat/same.png"),)
    assert actual.leaks == (("train/cat/b.png", "test/cat/leak.png"),)
    assert actual.twins == (("train/dog/c.png", "train/cat/twin.png"),)
    assert actual.others == {".txt": 1}
    assert json.loads(json.dumps(actual.to_dict()))["widths"] == [5, 8, 30]
    assert content_of(odd) == before


def test_plot(root: Path, tmp_path: Path):
    names = ("grün", "rot", "кот", "пёс", "犬", "猫")
    colours = {name: (200, 40 * number, 0) for number, name in enumerate(names)}
    for name, colour in colours.items():
        (root / name).mkdir(parents=True)
        for number in range(2):
            picture = Image.new("RGB", (30 + number, 40), colour)
            picture.save(root / name / f"{number}.png")
    nobn.data.inspect_folder(root).draw(tmp_path / "sheet.png")
    sheet = np.asarray(Image.open(tmp_path / "sheet.png"))
    for colour in colours.values():
        assert (sheet == colour).all(-1).sum() == 2 * 72 * 72
    rows = [np.flatnonzero((sheet == c).all(-1).any(1))[0] for c in colours.values()]
    assert rows == sorted(rows)  # by name
    # Boxes in place of letters would make names alike.
    assert len({sheet[row - 18 : row].tobytes() for row in rows}) == len(names)
