"""Formulas as MathML, made when the site is built: no script and no network draws them.

pymdownx.arithmatex keeps LaTeX from Markdown and wraps it; what it wrapped is replaced
here. A formula that cannot be written as MathML stops the build. Browsers need a font
with mathematical tables: STIX Two Math, cut down to what the pages use.
"""

from __future__ import annotations

import html
import re
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.exceptions import PluginError

WRAPPED = re.compile(
    r'<(span|div) class="arithmatex">\s*\\([(\[])(.*?)\\[)\]]\s*</\1>', re.DOTALL
)
LEFT = re.compile(r"\\[A-Za-z]*")
WORDS = re.compile(r"\\text\{[^{}]*\}")
# Bars and slashes stand close to what they belong to, and so do functions to a bracket.
CLOSE = re.compile(r"<mo[^>]*>((?:&#x0007C;|&#x0002F;|&#x02016;|[|/‖]))</mo>")
APPLIED = re.compile(r"<mo>(\w{2,})</mo>(?=<mo[^>]*>&#x00028;)")
FONT = "assets/stix-two-math.woff"
# Besides what is written: letters that browsers set in italics, the stretched ones.
ALWAYS = {
    *range(0x20, 0x7F),
    *range(0x1D434, 0x1D468),
    *range(0x1D6E2, 0x1D71C),
    *map(ord, "ℎ√−×·…′‖|¯‾ˆ˜⏞⏟̸"),
}

written: set[int] = set()


def mathml(latex: str, block: bool) -> str:
    """The formula as an element; ValueError if a command of it is not understood."""
    latex = " ".join(latex.split())
    latex = WORDS.sub(lambda words: words[0].replace(r"\_", "_"), latex)
    try:
        found = convert(latex, display="block" if block else "inline")
    except Exception as error:
        raise ValueError(f"{latex!r} is not LaTeX: {error!r}.") from error
    found = found.replace(r">\|<", ">&#x02016;<")  # a tall one
    left = LEFT.findall(found)
    if left:
        raise ValueError(f"{latex!r} has commands without a meaning here: {left}.")
    found = CLOSE.sub(r'<mo lspace="0" rspace="0" stretchy="false">\1</mo>', found)
    found = APPLIED.sub(r'<mo lspace="0.17em" rspace="0">\1</mo>', found)
    spoken = html.escape(latex, quote=True)
    return found.replace("<math ", f'<math alttext="{spoken}" ', 1)


def rendered(page: str) -> str:
    """HTML with every wrapped formula replaced."""

    def replacement(match: re.Match[str]) -> str:
        kind, bracket, latex = match.groups()
        found = mathml(html.unescape(latex), block=bracket == "[")
        written.update(map(ord, html.unescape(re.sub(r"<[^>]*>", "", found))))
        return f'<{kind} class="formula">{found}</{kind}>'

    return WRAPPED.sub(replacement, page)


def on_page_content(html: str, page: Any, **_: Any) -> str:
    try:
        found = rendered(html)
    except ValueError as error:
        raise PluginError(f"{page.file.src_uri}: {error}") from error
    if 'class="arithmatex"' in found:
        raise PluginError(f"{page.file.src_uri}: a formula was not recognized.")
    return found


def on_post_build(config: Any) -> None:
    from fontTools import subset

    options = subset.Options(flavor="woff", layout_features=["*"], notdef_outline=True)
    with as_file(files("ziamath") / "fonts" / "STIXTwoMath-Regular.ttf") as path:
        font = subset.load_font(path, options)
    subsetter = subset.Subsetter(options)
    subsetter.populate(unicodes=ALWAYS | written)
    subsetter.subset(font)
    target = Path(config["site_dir"]) / FONT
    target.parent.mkdir(parents=True, exist_ok=True)
    subset.save_font(font, target, options)
