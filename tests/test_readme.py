"""Every command and every line of Python on the first pages works as printed."""

import re
from pathlib import Path

import larq_nobn as nobn
import printed
import pytest
from cli.command_lines import lines_of
from larq_nobn.cli import main

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = (ROOT / "docs" / "command_line.md").read_text(encoding="utf-8")
FIRST = (ROOT / "docs" / "quickstart.md").read_text(encoding="utf-8")


def blocks(language, page=README):
    return re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL)


def commands(page=README):
    text = "\n".join(blocks("bash", page)).replace("\\\n", " ")
    return [line.split("#")[0].split() for line in text.splitlines()]


MAKE = [words[1] for words in commands() if words[:1] == ["make"]]


def test_the_first_page_is_short():
    lines = README.splitlines()
    assert len(lines) <= 110
    assert len(blocks("bash")[0].splitlines()) == 2
    assert len(blocks("python")[0].split("\n")) <= 15
    assert README.count("<!-- evidence: overview -->") == 1


@pytest.mark.slow
@pytest.mark.convert
def test_python_runs_as_printed(tmp_path, monkeypatch, capsys):
    """`test_package.py` knows that nothing has to come before."""
    monkeypatch.chdir(tmp_path)
    given = nobn.models.ReActNet18((8, 8, 1), 10, "batch_norm", 8, blocks=(1,))
    nobn.training.save_model(given, tmp_path / "with_batch_norm.keras")
    smaller = {r"width=32, blocks=\(2, 2\)": "width=8, blocks=(1,)"}
    printed.run("\n".join(blocks("python")), smaller, monkeypatch)
    said = capsys.readouterr().out
    assert "binary convolutions" in said
    assert "folded into 'stem_conv'" in said
    assert (tmp_path / "digits.tflite").stat().st_size > 1_000


def test_every_command_is_shown():
    shown = [lines_of(page) for page in (README, FIRST, COMMANDS)]
    assert {words[0] for page in shown for words in page} == set(main.commands)


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text()
    assert {"demo", "test"} <= set(MAKE)
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in MAKE)
    assert "make test" in (ROOT / ".ci" / "run").read_text()


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_links_lead_to_files(name):
    page = (ROOT / name).read_text(encoding="utf-8")
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", page)
    assert targets
    assert [target for target in targets if not (ROOT / target).exists()] == []
