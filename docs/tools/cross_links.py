"""Names of the package lead to the reference; commands in tables keep words whole."""

from __future__ import annotations

import re
from typing import Any

from mkdocs.utils import get_relative_url

ENTRY = re.compile(r"^::: (larq_nobn(?:\.\w+)+)$", re.MULTILINE)
# Headings, links and blocks of code stay as they are.
KEPT = re.compile(r"(<a\b.*?</a>|<pre\b.*?</pre>|<h[1-6]\b.*?</h[1-6]>)", re.DOTALL)
CODE = re.compile(r"<code>([A-Za-z_][\w.]*)(\(\))?</code>")

CELL = re.compile(r"(<td\b.*?</td>)", re.DOTALL)
COMMAND = re.compile(r"<code>([^<]*(?: |--)[^<]*)</code>")

places: dict[str, str] = {}


def spellings(name: str) -> set[str]:
    """How the text may write `larq_nobn.quantizers.ReCU`."""
    _, *path = name.split(".")
    short = ".".join(path)
    found = {name, f"nobn.{short}"}
    if len(path) > 1:
        found.add(short)
    # A bare `train` or `data` is as often an argument or a command.
    if re.search(r"[A-Z_]", path[-1]) or path[-1] in ("calibrate", "convert"):
        found.add(path[-1])
    return found


def entries(text: str) -> list[str]:
    return ENTRY.findall(text)


def on_files(files: Any, **_: Any) -> Any:
    places.clear()
    for file in files.documentation_pages():
        if file.src_uri.startswith("reference/"):
            for name in entries(file.content_string):
                for spelling in spellings(name):
                    places[spelling] = f"{file.url}#{name}"
    return files


def linked(html: str, url: str) -> str:
    """HTML of the page at `url` with its names linked."""

    def replacement(match: re.Match[str]) -> str:
        place = places.get(match[1])
        if place is None:
            return match[0]
        return f'<a class="api" href="{get_relative_url(place, url)}">{match[0]}</a>'

    parts = KEPT.split(html)
    parts[::2] = [CODE.sub(replacement, part) for part in parts[::2]]
    return "".join(parts)


def in_words(html: str) -> str:
    """HTML with a span, which the style keeps whole, for each word of a command."""

    def spans(match: re.Match[str]) -> str:
        words = (f"<span>{word}</span>" for word in match[1].split(" "))
        return f"<code>{' '.join(words)}</code>"

    parts = CELL.split(html)
    parts[1::2] = [COMMAND.sub(spans, part) for part in parts[1::2]]
    return "".join(parts)


def on_page_content(html: str, page: Any, **_: Any) -> str:
    return in_words(linked(html, page.url))
