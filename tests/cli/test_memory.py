"""--memory: what needs more ends with one sentence."""

from __future__ import annotations

from pathlib import Path

import fresh
import pytest
from cli.answers import one_sentence
from cli.conftest import Invoke
from larq_nobn.cli import _arguments
from loading import hostile


@pytest.mark.parametrize(
    ("word", "size"),
    [("4GiB", 4 * 2**30), ("2.5gb", 2_500_000_000), ("3000MB", 3 * 10**9)],
)
def test_sizes(word: str, size: int):
    assert _arguments._bytes(word) == size


def test_words_that_are_no_sizes(invoke: Invoke):
    for word in ("4", "4G", "GB", "1.99GB"):
        said = one_sentence(invoke("audit", __file__, f"--memory={word}"))
        assert f"{word!r} is not a size of 2GB or more, such as 8GB or 8GiB" in said


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5")
def test_a_model_of_ten_billion_units(tmp_path: Path):
    change = hostile.of_dense(units=10**10)
    file = tmp_path / "large.keras"
    hostile.changed(hostile.saved(tmp_path)[".keras"], file, change)
    command = "from larq_nobn.cli import main; main()"
    done = fresh.run(command, ["summary", file, "--memory", "4GB"])
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("Error: There is not enough memory. Choose ")
    assert done.stderr.count("\n") == 1
