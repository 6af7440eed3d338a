"""Looks at the built site as a reader does, and fails where a reader would stumble.

Every page is opened in a headless Chromium at the width of a phone: raw LaTeX, errors
of scripts, images that are missing or have no description, anything fetched from
another server, and pages wider than the screen are faults. So are links and anchors
that lead nowhere, names that are private to the package, tables wider than a phone in
landscape, and code blocks that scroll sideways, or are covered by the button that
copies them, at the width of a desktop.

    python docs/tools/check_site.py site
    python docs/tools/check_site.py site --screenshots shots --pages index.html
"""

from __future__ import annotations

import argparse
import sys
import threading
from collections.abc import Iterator
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from posixpath import dirname, join, normpath
from urllib.parse import unquote, urlsplit

from browser import Browser, BrowserError

PHONE, LANDSCAPE, DESKTOP = 390, 800, 1280
# Text that a reader sees, outside of code.
SEEN = r"""(() => {
  const skipped = "pre, code, script, style, noscript, template, annotation";
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const found = [];
  while (walker.nextNode())
    if (!walker.currentNode.parentElement.closest(skipped))
      found.push(walker.currentNode.data);
  return found;
})()"""
FAULTS = (
    r"""((seen) => ({
  "raw LaTeX": seen.filter(t => /\\[()[\]]|\\[A-Za-z]{2,}|\$\$/.test(t)),
  "private name": seen.filter(t => /\bBases:|\blarq_nobn(\.\w+)*\._/.test(t)),
  "missing image": [...document.images]
    .filter(i => !(i.complete && i.naturalWidth)).map(i => i.src),
  "image without a description": [...document.images]
    .filter(i => !i.alt).map(i => i.src),
  "empty formula": [...document.querySelectorAll("math")]
    .filter(m => m.getClientRects().length && m.getBoundingClientRect().width < 2)
    .map(m => m.getAttribute("alttext")),
  "wider than a phone": [document.documentElement.scrollWidth]
    .filter(width => width > window.innerWidth),
}))("""
    + SEEN
    + ")"
)
# The first words of what is wider than the box that scrolls it, and both widths.
WIDER = r"""[...document.querySelectorAll("%s")]
  .filter(each => each.offsetParent)
  .map(each => [each, each.closest("%s")])
  .filter(([each, box]) => each.scrollWidth > box.clientWidth + 1)
  .map(([each, box]) => `${each.scrollWidth} of ${box.clientWidth} px: `
    + each.innerText.trim().replace(/\s+/g, " ").slice(0, 80))"""
COVERED = r"""[...document.querySelectorAll(".md-content pre")]
  .filter(each => each.offsetParent && each.querySelector(".md-code__nav"))
  .filter(each => {
    const button = each.querySelector(".md-code__nav").getBoundingClientRect();
    const range = document.createRange();
    range.selectNodeContents(each.querySelector("code"));
    return [...range.getClientRects()].some(line =>
      line.right > button.left && line.left < button.right
      && line.bottom > button.top && line.top < button.bottom);
  })
  .map(each => each.innerText.trim().slice(0, 80))"""
TABLE = (".md-content table", ".md-typeset__scrollwrap, .doc-contents, article")
WIDTHS = {
    "table wider than a phone in landscape": (LANDSCAPE, WIDER % TABLE),
    "table wider than its page": (DESKTOP, WIDER % TABLE),
    "code scrolls sideways": (DESKTOP, WIDER % (".md-content pre > code", "code")),
    "button covers code": (DESKTOP, COVERED),
}


class Links(HTMLParser):
    """Of one page, where its links and images lead, and the anchors that it has."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.anchors.update(filter(None, (given.get("id"), given.get("name"))))
        name = {"a": "href", "link": "href", "img": "src", "script": "src"}.get(tag)
        if name and given.get(name):
            self.targets.append(str(given[name]))


def broken_links(site: Path) -> Iterator[str]:
    """A line for each link that leads nowhere."""
    pages = {
        path.relative_to(site).as_posix(): Links(path.read_text(encoding="utf-8"))
        for path in sorted(site.rglob("*.html"))
        if path.name != "404.html"  # which is shown at any address
    }
    for page, links in pages.items():
        for target in dict.fromkeys(links.targets):
            parts = urlsplit(target)
            if parts.scheme or parts.netloc:
                continue
            place = page
            if parts.path:
                place = normpath(join(dirname(page), unquote(parts.path)))
                if parts.path.endswith("/") or (site / place).is_dir():
                    place = normpath(join(place, "index.html"))
            if not (site / place).is_file():
                yield f"{page}: link to {target}, which is not there"
            elif parts.fragment and place in pages:
                anchor = unquote(parts.fragment)
                if anchor not in pages[place].anchors and anchor != "__top":
                    yield f"{page}: no anchor for {target}"


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def served(site: Path) -> ThreadingHTTPServer:
    handler = partial(Quiet, directory=str(site))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def faults(browser: Browser, host: str, page: str) -> Iterator[str]:
    """What is wrong with a page that was opened in the browser."""
    browser.look(PHONE)
    browser.open(f"{host}/{page}")
    for kind, found in browser.run(FAULTS).items():
        yield from (f"{page}: {kind}: {str(each).strip()[:120]}" for each in found)
    for kind, (width, script) in WIDTHS.items():
        browser.look(width)
        found = browser.run(script)
        yield from (f"{page}: {kind}: {each}" for each in found)
    yield from (f"{page}: {error}" for error in browser.errors)
    for address in browser.requested:
        if not address.startswith((host, "data:", "blob:")):
            yield f"{page}: fetched from elsewhere: {address}"


def photograph(browser: Browser, host: str, page: str, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    name = page.removesuffix("index.html").strip("/").replace("/", "-") or "start"
    for width in (PHONE, DESKTOP):
        for dark in (False, True):
            browser.run("localStorage.clear()")  # contains the colours chosen before
            browser.look(width, dark)
            browser.open(f"{host}/{page}")
            look = f"{width}-{'dark' if dark else 'light'}"
            browser.screenshot(folder / f"{name}-{look}.png")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("site", type=Path, help="The folder of the built site.")
    parser.add_argument("--pages", nargs="*", help="Only these; all by default.")
    parser.add_argument("--screenshots", type=Path, help="Where images of them go.")
    given = parser.parse_args()
    pages = given.pages or sorted(
        path.relative_to(given.site).as_posix() for path in given.site.rglob("*.html")
    )
    if not pages:
        print(f"{given.site} contains no pages. Build them first: make docs")
        return 2
    found = list(broken_links(given.site))
    server = served(given.site)
    host = f"http://127.0.0.1:{server.server_port}"
    try:
        with Browser() as browser:
            for page in pages:
                found += faults(browser, host, page)
                if given.screenshots:
                    photograph(browser, host, page, given.screenshots)
    except BrowserError as error:
        print(error)
        return 2
    finally:
        server.shutdown()
    print(*found, f"{len(pages)} pages, {len(found)} faults", sep="\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
