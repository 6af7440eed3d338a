"""What the site is built with: formulas, summary tables, links, notebooks, checks."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import larq_nobn as nobn
import check_site
import cross_links
import formulas
import nbformat
import notebooks
import pytest
import summaries

ROOT = Path(__file__).parents[2]
BEGIN = re.compile(r"\\[(\[]")
LATEX = re.compile(r"\\\((.+?)\\\)|\\\[(.+?)\\\]", re.DOTALL)


def texts() -> Iterator[tuple[str, str]]:
    """Every docstring and every page."""
    for path in sorted((ROOT / "larq_nobn").rglob("*.py")):
        source = path.read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(source)) if BEGIN.search(source) else ():
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                yield path.name, ast.get_docstring(node) or ""
    for path in sorted((ROOT / "docs").rglob("*.md")):
        yield path.name, path.read_text(encoding="utf-8")


def test_every_formula_can_be_written():
    count = 0
    for name, text in texts():
        for match in LATEX.finditer(text):
            count += 1
            block = match[2] is not None
            written = formulas.mathml(match[1] or match[2], block=block)
            assert written.startswith("<math alttext="), name
            assert "\\" not in re.sub(r"<[^>]*>", "", written), name
        # Else Markdown takes it for a part of the paragraph, and it stays LaTeX.
        lines = [line.strip() for line in ["", *text.splitlines(), ""]]
        for before, line, after in zip(lines, lines[1:], lines[2:], strict=False):
            assert not (line.startswith(r"\[") and before), f"{name}: {line}"
            assert not (line.endswith(r"\]") and after), f"{name}: {line}"
    assert count > 250


PAGE = """# Kernels

<!-- summary -->

- `ReCU`: use it with normalization, so that
  weights move.

::: larq_nobn.quantizers.ReCU

## Others

::: larq_nobn.quantizers.RSign
"""


def test_summary_table(monkeypatch: pytest.MonkeyPatch):
    def docstring(name: str) -> str:  # that of the site reads the whole package
        return getattr(nobn.quantizers, name.rpartition(".")[2]).__doc__

    monkeypatch.setattr(summaries, "docstring", docstring)
    actual = summaries.on_page_markdown(PAGE)
    head, rule, recu, rsign = re.findall(r"^\|.*\|$", actual, re.MULTILINE)
    assert head == "|  | what it is, and when to use it | at inference | paper |"
    assert rule == "| --- | --- | --- | --- |"
    assert recu.startswith("| [`ReCU`](#larq_nobn.quantizers.ReCU) | Binary kernel of ")
    assert "*Use it with normalization, so that weights move.*" in recu
    assert recu.endswith("| removed | [2103.12369](https://arxiv.org/abs/2103.12369) |")
    assert "| folded |" in rsign and "2003.03488" in rsign
    assert "- `ReCU`" not in actual
    # Entries below a second heading are one level below it.
    assert "::: larq_nobn.quantizers.ReCU\n\n##" in actual
    assert (
        "::: larq_nobn.quantizers.RSign\n    options:\n      heading_level: 3" in actual
    )


def test_names_in_the_text_lead_to_the_reference(monkeypatch: pytest.MonkeyPatch):
    places = {"ReCU": "reference/quantizers/#larq_nobn.quantizers.ReCU"}
    monkeypatch.setattr(cross_links, "places", places)
    text = "<p><code>ReCU</code> <a><code>ReCU</code></a> <code>train</code></p>"
    link = (
        '<a class="api" href="../../reference/quantizers/#larq_nobn.quantizers.ReCU">'
    )
    actual = cross_links.linked(text, "guides/choosing/")
    assert actual == text.replace(
        "<code>ReCU</code>", f"{link}<code>ReCU</code></a>", 1
    )


def test_commands_in_tables_break_between_words():
    cell = (
        "<td><code>convert a --int8</code> or <code>--io</code>, <code>io</code></td>"
    )
    actual = cross_links.in_words(f"<code>x --y</code>{cell}")
    words = "<span>convert</span> <span>a</span> <span>--int8</span>"
    wanted = f"<td><code>{words}</code> or <code><span>--io</span></code>, "
    assert actual == f"<code>x --y</code>{wanted}<code>io</code></td>"


def test_notebooks_have_no_results():
    for path in (ROOT / "docs" / "notebooks").glob("*"):
        assert path.suffix == ".ipynb"
        first, *rest = nbformat.read(path, as_version=4).cells
        assert first.source.startswith("# ")
        assert {cell.cell_type for cell in rest} == {"markdown", "code"}
        assert not any(cell.get("outputs") for cell in rest)
        assert f"notebooks/{path.stem}.md" in (ROOT / "mkdocs.yml").read_text()


@pytest.mark.parametrize("quote", ["", '"'])
def test_colab_opens_the_notebook_at_the_public_address(quote: str):
    address = f"\nrepository-code: {quote}https://github.com/me/larq_nobn{quote}\n"
    place = "colab.research.google.com/github/me/larq_nobn/blob/main/docs/notebooks"
    button = notebooks.in_colab(f"title: x{address}license: y\n", "surgery")
    assert button == f"[Open in Colab](https://{place}/surgery.ipynb){{ .md-button }} "
    assert notebooks.in_colab("title: https://github.com/me/x\n", "surgery") == ""


def test_links_that_lead_nowhere(tmp_path: Path):
    (tmp_path / "a").mkdir()
    (tmp_path / "index.html").write_text(
        '<h1 id="top">x</h1><a href="a/">ok</a><a href="a/#there">ok</a>'
        '<a href="a/#gone">no</a><a href="b/">no</a><a href="https://x.org/">ok</a>'
    )
    (tmp_path / "a" / "index.html").write_text(
        '<p id="there"><a href="../#top">ok</a><img src="../c.png"></p>'
    )
    assert list(check_site.broken_links(tmp_path)) == [
        "a/index.html: link to ../c.png, which is not there",
        "index.html: no anchor for a/#gone",
        "index.html: link to b/, which is not there",
    ]
