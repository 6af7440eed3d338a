"""Folders of images: which of them are for validation."""

from pathlib import Path

import larq_nobn as nobn
import pytest
from larq_nobn.data import SPLITS

from .conftest import Write


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
    found = info.train_examples, info.validation_examples, info.test_examples
    assert found == (8, 6, 4)
    files = nobn.data.open_dataset(root).files("validation")
    assert files is not None and all(f"/{name}/" in file for file in files)
    with pytest.raises(ValueError, match="contains a validation split, so validation"):
        nobn.data.open_dataset(root, validation=0.1)


def test_the_content_of_a_file_says_what_it_is_for(root: Path, write: Write):
    """Independently of the test images, and whatever files come and go."""
    classes(write, "", 60)
    options = {"holdout": 0.3, "validation": 0.3}
    parts = {s: nobn.data.open_dataset(root, **options).files(s) for s in SPLITS}
    sizes = {split: len(files or ()) for split, files in parts.items()}
    assert sum(sizes.values()) == 120
    # Binomial, four standard deviations.
    assert abs(sizes["test"] - 36) < 21 and abs(sizes["validation"] - 25.2) < 18
    assert parts["test"] == nobn.data.open_dataset(root, holdout=0.3).files("test")
    for file in (parts["train"] or ())[:5]:
        Path(file).unlink()
    left = nobn.data.open_dataset(root, **options).files("validation")
    assert left == parts["validation"]
