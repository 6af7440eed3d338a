"""Draws the tables and the numbers on the pages from the JSON files in results/.

What lies on a page between a marker and its end is replaced:

    <!-- evidence: budgets -->
    ...
    <!-- /evidence -->

and so is a single number in a sentence, with both markers in its line. A line may not
start with such a marker, which in Markdown would end the paragraph. The names are those
of `_drawing.TABLES`. Nothing is measured, and TensorFlow is not needed.

    python benchmarks/evidence.py             # or: make evidence
    python benchmarks/evidence.py --check     # fails where a page is not up to date
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import click
from _drawing import TABLES

ROOT = Path(__file__).resolve().parents[1]
PAGES = tuple(
    page.relative_to(ROOT).as_posix()
    for pattern in ("README.md", "docs/**/*.md", "results/*/README.md")
    for page in sorted(ROOT.glob(pattern))
)
BLOCK = re.compile(r"<!-- evidence: (\w+) -->(.*?)<!-- /evidence -->", re.DOTALL)


def drawn(name, results):
    """What the results say for one block."""
    if name not in TABLES:
        raise ValueError(
            f"A page asks for {name!r}, which is not a table. Choose from "
            f"{', '.join(TABLES)}."
        )
    files, draw = TABLES[name]
    found = [results / file for file in files.split(",")]
    return draw(*(json.loads(each.read_text(encoding="utf-8")) for each in found))


def redrawn(page, results):
    """The page with every block drawn again, and the names of those that changed."""
    stale = []

    def replacement(block):
        name, old = block.groups()
        text = drawn(name, results)
        new = f"\n\n{text}\n\n" if old.startswith("\n") else text
        if new != old:
            stale.append(name)
        return f"<!-- evidence: {name} -->{new}<!-- /evidence -->"

    return BLOCK.sub(replacement, page), stale


@click.command()
@click.option("--check", is_flag=True, help="Change nothing; fail if something would.")
def main(check):
    found = []
    for name in PAGES:
        page = ROOT / name
        text, stale = redrawn(page.read_text(encoding="utf-8"), ROOT / "results")
        found += [f"{name}: {block}" for block in stale]
        if stale and not check:
            page.write_text(text, encoding="utf-8")
    if found:
        print("Not up to date:" if check else "Updated:", *found, sep="\n  ")
    sys.exit(1 if check and found else 0)


if __name__ == "__main__":
    main()
