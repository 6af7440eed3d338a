"""Guides: their figures show the numbers in results/, their code and commands run."""

from __future__ import annotations

import re
from pathlib import Path

import larq_nobn as nobn
import figures
import printed
import pytest
from cli.command_lines import assert_understood, blocks, lines_of

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
GUIDES = [
    *sorted(path for path in (DOCS / "guides").glob("*.md") if path.stem != "index"),
    *(DOCS / name for name in ("index.md", "interop.md", "fine_tuning.md")),
]
FIGURE = re.compile(r"!\[([^\]]+)\]\((?:\.\./)?images/(\w+)(-dark)?\.svg#only-(\w+)\)")


def test_every_figure_shows_its_numbers():
    for name, (_, *files) in figures.FIGURES.items():
        for dark in (False, True):
            drawn = figures.path(name, dark).read_text(encoding="utf-8")
            assert f"numbers: {figures.numbers(files)}" in drawn, name
            assert len(drawn) < 200_000


def test_every_figure_is_on_a_guide_for_light_and_dark_pages():
    used: dict[str, set[str]] = {}
    for path in GUIDES:
        for about, name, dark, scheme in FIGURE.findall(path.read_text("utf-8")):
            assert len(about) > 20
            assert scheme == ("dark" if dark else "light")
            used.setdefault(name, set()).add(scheme)
    assert used == dict.fromkeys(figures.FIGURES, {"light", "dark"})


IMPORTS = re.compile(r"^(?:import|from) (larq_nobn|larq|tensorflow|tf_keras)\b", re.M)


def test_the_package_is_imported_first():
    """It selects the Keras that Larq needs; tests have imported it long before."""
    for name, text in PAGES.items():
        imported = IMPORTS.findall(blocks(text, "python"))
        assert imported[:1] in ([], ["larq_nobn"]), name


PAGES = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for path in [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
}


@pytest.mark.parametrize(
    "page", [name for name, text in PAGES.items() if lines_of(text)]
)
def test_commands_are_understood(page, tmp_path, monkeypatch):
    (tmp_path / "photos").mkdir()
    for words in lines_of(PAGES[page]):
        assert_understood(words, monkeypatch, tmp_path)


# Steps of a training, scales, channels and pixels, and images.
SMALLER = {
    r"range\(6\)": "range(1)",
    r"scales=2": "scales=1",
    r"\b(32|width=16)\b": lambda actual: (
        actual[0].replace("32", "8").replace("16", "8")
    ),
    r"(batch_size=\d+)": r"\1, limit=64",
    r"\b16\b": "8",
    r'kernel_initializer="zeros", ': "",  # else branches are 0 after the first step
}
WITH_CODE = [
    name
    for name in PAGES
    if name in ("docs/training.md", "docs/fine_tuning.md")
    or name.startswith("docs/gui")
    if "import larq_nobn" in blocks(PAGES[name], "python")
]


@pytest.mark.slow
@pytest.mark.convert
@pytest.mark.parametrize("page", WITH_CODE)
def test_python_runs_as_printed(page, tmp_path, monkeypatch):
    """Trainings are cut to a step; a run stands for those of the command line."""
    monkeypatch.chdir(tmp_path)
    run = type("Run", (), {"history": [{"test_accuracy": 0.5}]})
    monkeypatch.setattr(nobn.training, "train", lambda *_, **__: run)
    printed.run(blocks(PAGES[page], "python"), SMALLER, monkeypatch)
