"""Looks at the built site as a reader does, and fails where a reader would stumble.

Every page is opened in a headless Chromium at the width of a phone: raw LaTeX, errors
of scripts, images that are missing or have no description, anything fetched from
another server, and pages wider than the screen are faults. So are links and anchors
that lead nowhere, names that are private to the package, tables wider than a phone in
landscape, and code blocks that scroll sideways, or are covered by the button that
copies them, at the width of a desktop.

    python docs/tools/check_site.py site
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from posixpath import dirname, join, normpath
from queue import Empty, Queue
from urllib.parse import unquote, urlsplit

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
    *("--no-first-run", "--disable-background-networking", "--hide-scrollbars"),
    "--window-size=1400,1000",
)
SECONDS = 60  # for one page, on a busy machine
CHECK = "/check.html"  # which the site does not have
# The first script of every page, which hears what goes wrong.
LISTENING = b"""<script>
  window.wrong = [];
  const place = t => t && (t.src || t.href) ? `not loaded: ${t.src || t.href}` : "";
  addEventListener("error", e => wrong.push(e.message || place(e.target)), true);
  addEventListener("unhandledrejection", e => wrong.push(`${e.reason}`));
  console.error = (...said) => wrong.push(`console: ${said.join(" ")}`);
</script>"""
# What opens the pages in a frame, one after the other, and sends what it finds.
CHECKING = r"""<body><script>
const [PHONE, LANDSCAPE, DESKTOP] = [390, 800, 1280];
const frame = document.body.appendChild(document.createElement("iframe"));
frame.style = "border: 0; height: 900px";

// Text that a reader sees, outside of code.
function seen(page) {
  const skipped = "pre, code, script, style, noscript, template, annotation";
  const walker = page.createTreeWalker(page.body, NodeFilter.SHOW_TEXT);
  const found = [];
  while (walker.nextNode())
    if (!walker.currentNode.parentElement.closest(skipped))
      found.push(walker.currentNode.data);
  return found;
}

function faults(page, view) {
  const texts = seen(page), images = [...page.images];
  const loaded = view.performance.getEntriesByType("resource");
  return {
    "raw LaTeX": texts.filter(t => /\\[()[\]]|\\[A-Za-z]{2,}|\$\$/.test(t)),
    "private name": texts.filter(t => /\bBases:|\blarq_nobn(\.\w+)*\._/.test(t)),
    "missing image": images.filter(i => !i.complete || !i.naturalWidth).map(i => i.src),
    "image without a description": images.filter(i => !i.alt).map(i => i.src),
    "empty formula": [...page.querySelectorAll("math")]
      .filter(m => m.getClientRects().length && m.getBoundingClientRect().width < 2)
      .map(m => m.getAttribute("alttext")),
    "wider than a phone": [page.documentElement.scrollWidth]
      .filter(width => width > view.innerWidth),
    "not loaded": loaded.filter(e => e.responseStatus >= 400).map(e => e.name),
    "fetched from elsewhere": loaded.map(e => e.name)
      .filter(name => !name.startsWith(location.origin)),
  };
}

// The first words of what is wider than the box that scrolls it, and both widths.
const wider = (what, box) => page => [...page.querySelectorAll(what)]
  .filter(each => each.offsetParent)
  .map(each => [each, each.closest(box)])
  .filter(([each, around]) => each.scrollWidth > around.clientWidth + 1)
  .map(([each, around]) => `${each.scrollWidth} of ${around.clientWidth} px: `
    + each.innerText.trim().replace(/\s+/g, " ").slice(0, 80));

const covered = page => [...page.querySelectorAll(".md-content pre")]
  .filter(each => each.offsetParent && each.querySelector(".md-code__nav"))
  .filter(each => {
    const button = each.querySelector(".md-code__nav").getBoundingClientRect();
    const range = page.createRange();
    range.selectNodeContents(each.querySelector("code"));
    return [...range.getClientRects()].some(line =>
      line.right > button.left && line.left < button.right
      && line.bottom > button.top && line.top < button.bottom);
  })
  .map(each => each.innerText.trim().slice(0, 80));

const table = wider(".md-content table",
  ".md-typeset__scrollwrap, .doc-contents, article");
const WIDTHS = {
  "table wider than a phone in landscape": [LANDSCAPE, table],
  "table wider than its page": [DESKTOP, table],
  "code scrolls sideways": [DESKTOP, wider(".md-content pre > code", "code")],
  "button covers code": [DESKTOP, covered],
};

async function checked(path) {
  frame.style.width = `${PHONE}px`;
  await new Promise(done => { frame.onload = done; frame.src = `/${path}`; });
  const view = frame.contentWindow, page = view.document;
  const drawn = () => new Promise(done => view.requestAnimationFrame(done));
  await page.fonts.ready;
  await drawn();
  const found = faults(page, view);
  for (const [kind, [width, look]] of Object.entries(WIDTHS)) {
    frame.style.width = `${width}px`;
    await drawn();
    found[kind] = look(page);
  }
  found["error"] = view.wrong;
  return found;
}

(async () => {
  for (const path of PAGES) {
    const found = await checked(path).catch(error => ({"error": [`${error}`]}));
    await fetch("/", {method: "POST", body: JSON.stringify([path, found])});
  }
})();
</script></body>"""


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


class Handler(SimpleHTTPRequestHandler):
    """Serves a site whose pages listen to their errors, and hears what is found."""

    def __init__(self, *args, pages: list[str], found: Queue, **kwargs) -> None:
        self.pages, self.found = pages, found
        super().__init__(*args, **kwargs)

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        if path == CHECK:
            pages = f"<script>const PAGES = {json.dumps(self.pages)};</script>"
            return self._page(pages.encode() + CHECKING.encode())
        if path.endswith(".html"):
            content = Path(self.translate_path(path)).read_bytes()
            return self._page(content.replace(b"<head>", b"<head>" + LISTENING, 1))
        return super().do_GET()

    def _page(self, content: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        self.found.put(json.loads(self.rfile.read(length)))
        self._page(b"")

    def log_message(self, *_: object) -> None:
        pass


def faults(site: Path, pages: list[str]) -> Iterator[str]:
    """What is wrong with pages that are opened in a browser."""
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        sys.exit(
            "No Chromium was found, in which the built pages are looked at. Install "
            "it, as in `apt-get install chromium`."
        )
    found: Queue = Queue()
    handler = partial(Handler, directory=str(site), pages=pages, found=found)
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}{CHECK}"
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        words = [program, *FLAGS, f"--user-data-dir={profile}", address]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        browser = subprocess.Popen(words, **quiet)
        try:
            for expected in pages:
                page, kinds = found.get(timeout=SECONDS)
                assert page == expected
                for kind, each in kinds.items():
                    yield from (f"{page}: {kind}: {str(x).strip()[:120]}" for x in each)
        except Empty:
            sys.exit(f"Chromium has ended, or does not answer, at {expected}.")
        finally:
            browser.terminate()
            browser.wait()
            server.shutdown()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("site", type=Path, help="The folder of the built site.")
    parser.add_argument("--pages", nargs="*", help="Only these; all by default.")
    given = parser.parse_args()
    pages = given.pages or sorted(
        path.relative_to(given.site).as_posix() for path in given.site.rglob("*.html")
    )
    if not pages:
        print(f"{given.site} contains no pages. Build them first: make docs")
        return 2
    found = [*broken_links(given.site), *faults(given.site, pages)]
    print(*found, f"{len(pages)} pages, {len(found)} faults", sep="\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
