"""Every command and every line of Python in the README works as printed."""

import re
import subprocess
import sys
from pathlib import Path

import larq_nobn as nobn
import click
import pytest
from larq_nobn.cli import main

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def commands():
    text = "\n".join(blocks("bash")).replace("\\\n", " ")
    return [line.split("#")[0].split() for line in text.splitlines()]


LARQ_NOBN = [words[1:] for words in commands() if words[:1] == ["larq-nobn"]]
MAKE = [words[1] for words in commands() if words[:1] == ["make"]]


@pytest.mark.slow
@pytest.mark.convert
def test_python_runs_as_printed(tmp_path):
    script = tmp_path / "example.py"
    script.write_text("\n".join(blocks("python")))
    given = nobn.models.ReActNet18((8, 8, 1), 10, "batch_norm", 8, blocks=(1, 1))
    nobn.training.save_model(given, tmp_path / "with_batch_norm.keras")
    done = subprocess.run(
        [sys.executable, script], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "binary convolutions" in done.stdout
    assert "folded into 'stem_conv'" in done.stdout
    assert (tmp_path / "digits.tflite").stat().st_size > 10_000


@pytest.mark.parametrize("words", LARQ_NOBN, ids=" ".join)
def test_command_line_is_understood(words, monkeypatch):
    """Parses the arguments as the command would, without running it."""
    name, *arguments = words
    command = main.commands[name]
    for parameter in command.params:
        if isinstance(parameter.type, click.Path):
            # The files of earlier lines are not there.
            monkeypatch.setattr(parameter.type, "exists", False)
    context = command.make_context(name, list(arguments))
    assert context.params


def test_every_command_is_shown():
    assert {words[0] for words in LARQ_NOBN} == set(main.commands)


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text()
    assert {"demo", "test"} <= set(MAKE)
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in MAKE)
    assert "make test" in (ROOT / ".ci" / "run").read_text()


def test_links_lead_to_files():
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", README)
    assert targets
    assert [target for target in targets if not (ROOT / target).exists()] == []
