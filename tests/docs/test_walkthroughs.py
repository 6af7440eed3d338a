"""The walkthroughs name files, and functions in them, that are there."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "docs" / name for name in ("walkthroughs.md", "architecture.md")]
STEP = re.compile(r"^\| `([\w/]+\.py)` \| `(\w+)` \| .+ \|$", re.MULTILINE)


def test_every_step_is_a_function_of_its_file():
    steps = STEP.findall(PAGES[0].read_text(encoding="utf-8"))
    assert len(steps) > 30
    for file, function in steps:
        source = (ROOT / "larq_nobn" / file).read_text(encoding="utf-8")
        nodes = ast.walk(ast.parse(source))
        assert function in {getattr(node, "name", None) for node in nodes}, file


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_are_there(page):
    text = page.read_text(encoding="utf-8")
    names = set(re.findall(r"`((?:[\w.]+/)*\w*\.py|(?:\w+/)+)`", text))
    tops = ("larq_nobn", "docs", "tests", "benchmarks", "results")
    actual = [x for top in tops for x in (ROOT / top, *(ROOT / top).rglob("*"))]
    paths = [f"/{x.relative_to(ROOT).as_posix()}" for x in actual]
    for name in names:
        ending = f"/{name.rstrip('/')}"
        assert any(path.endswith(ending) for path in paths), name
