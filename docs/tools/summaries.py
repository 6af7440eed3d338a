"""A table at the top of each reference page: name, line, outcome at inference, paper.

It stands where a page says `<!-- summary -->`, and is made from the docstrings of what
the page lists. Advice on the page, in lines such as "- `ReCU`: use it with ...", moves
into the table. Entries below a heading are one level below it.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import griffe
from mkdocs.exceptions import PluginError

ROOT = Path(__file__).resolve().parents[2]
MARK = "<!-- summary -->"
ENTRY = re.compile(r"^::: (larq_nobn(?:\.\w+)+)$", re.MULTILINE)
ADVICE = re.compile(
    r"^- ((?:`\w+`(?:, )?)+): (use [^\n]*(?:\n  [^\n]*)*)\n", re.MULTILINE
)
OUTCOME = re.compile(r"At\s+inference:\s+\*\*(\w+)\*\*")
PAPER = re.compile(r"arXiv:\s?(\d{4}\.\d{4,5})")


@cache
def package() -> griffe.Module:
    found = griffe.load("larq_nobn", search_paths=[str(ROOT)], resolve_aliases=True)
    assert isinstance(found, griffe.Module)
    return found


def docstring(name: str) -> str:
    found = package()[name.removeprefix("larq_nobn.")].docstring
    if found is None:
        raise PluginError(f"{name} is in the reference and has no docstring.")
    return found.value


def row(name: str, advice: str) -> list[str]:
    """The cells of one entry."""
    text = docstring(name)
    first, *_ = text.strip().split("\n\n")
    line = " ".join(first.split())
    outcome = OUTCOME.search(text)
    papers = dict.fromkeys(PAPER.findall(text.partition("References:")[2]))
    return [
        f"[`{name.rpartition('.')[2]}`](#{name})",
        f"{line} *{advice[0].upper()}{advice[1:]}*" if advice else line,
        outcome[1] if outcome else "",
        ", ".join(f"[{paper}](https://arxiv.org/abs/{paper})" for paper in papers),
    ]


def table(names: list[str], advice: dict[str, str]) -> str:
    """Markdown, without the columns that nothing stands in."""
    rows = [row(name, advice.get(name.rpartition(".")[2], "")) for name in names]
    head = ["", "what it is, and when to use it", "at inference", "paper"]
    used = [i for i in range(4) if i < 2 or any(cells[i] for cells in rows)]
    lines = [head, ["---"] * 4, *rows]
    return "\n".join(
        "| " + " | ".join(cells[i].replace("|", "\\|") for i in used) + " |"
        for cells in lines
    )


def summarized(text: str) -> str:
    """The page with its table, and without the advice that has moved there."""
    if MARK not in text:
        return text
    advice = {}
    for names, sentence in ADVICE.findall(text):
        for name in re.findall(r"`(\w+)`", names):
            advice[name] = " ".join(sentence.split())
    entries = ENTRY.findall(text)
    known = {name.rpartition(".")[2] for name in entries}
    unknown = set(advice) - known
    if unknown:
        raise PluginError(f"There is advice on {unknown}, which the page lacks.")
    return ADVICE.sub("", text).replace(MARK, table(entries, advice))


def nested(text: str) -> str:
    """The page with the entries below its second headings one level below these."""
    begin, heading, rest = text.partition("\n## ")
    # An entry may have options of its own, which follow.
    own = ENTRY.pattern.removesuffix("$") + r"(?:\n    options:(?=\n)|$)"
    deeper = "::: \\1\n    options:\n      heading_level: 3"
    rest = re.sub(own, deeper, rest, flags=re.MULTILINE)
    return begin + heading + rest.replace("\n::: ", "\n\n::: ")


def on_page_markdown(markdown: str, **_: Any) -> str:
    return nested(summarized(markdown))
