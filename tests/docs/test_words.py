"""No page, docstring, message or name contains a private word.

A reader of Larq or Keras should not have to decode a sentence.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = ("docs", "results", "examples/android")
PAGES = [
    *("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"),
    *(
        str(path.relative_to(ROOT))
        for folder in FOLDERS
        for path in sorted(ROOT.glob(f"{folder}/**/*.md"))
    ),
]

# A pattern, and what is written instead.
BANNED = {
    r"\banew\b": "from scratch, again",
    r"\bbegun\b": "started",
    r"\bculprits?\b": "cause",
    r"\bbehind\b": "after",
    r"\bin front of\b": "before",
    r"\btwins?\b": "batch-norm counterpart",
    r"\bpictures?\b(?!/|\.jpg)": "image",
    r"\bphotographs?\b(?!/)": "image",
    r"\brectifiers?\b": "activation",
    r"\bgoes on\b|\bgo on\b|\bwent on\b": "resumes, continues",
    r"\blook(?:s|ed)? over\b": "inspect",
    r"\bwhole or not at all\b": "atomically",
    r"\bto the same bits\b|\bto the bit\b": "bitwise identical",
    r"\bfor the phone\b": "TFLite model",
    r"\binference fate\b": "At inference",
    r"\blatents\b": "latent weights",
    r"\bwhat (?:the )?signs? (?:meet|see)s?\b": "pre-activations",
    r"\bshifts and gains\b": "thresholds, biases and gains",
    r"\bmirrored borders\b|\bblack borders\b": "reflection padding, zero padding",
    r"\bwhat becomes? of\b|\bwhat became of\b": "how it was replaced",
    r"\bfresh (?:network|weights)\b": "new network",
    r"\bbit for bit\b": "bitwise identical",
    r"\bbursts?\b": "class-correlated batches",
    r"\bholds\b(?! (?:out|back|for)|[,.;:])": "contains",
    r"\brefus(?:es|ed|e|ing)\b": "rejects",
    r"(?<!\\)\bbegins?\b|\bbegan\b": "starts",
    r"(?<!standard )(?<!absolute )\bdeviations?\b(?! from)": "standard deviation",
    r"\bshares? of (?!(?:the )?replicas)": "fraction",
    r"\btold apart\b": "distinguished",
    r"\bheed(?:s|ed)?\b": "obey, handle",
    r"\bmend(?:s|ed)?\b": "repair",
    r"\bon the phone\b": "on device",
    r"\bconverted as it computes\b": "converted",
    r"\bcannot be told\b": "unknown",
}
# Public names, and those of folders.
ALLOWED = {
    "larq_nobn/data/folder/_overview.py": {r"\btwins?\b"},
    "results/README.md": {r"\bphotographs?\b(?!/)"},
}


PACKAGE = sorted(path.relative_to(ROOT) for path in ROOT.glob("larq_nobn/**/*.py"))
SCRIPTS = sorted(
    path.relative_to(ROOT)
    for folder in ("benchmarks", "docs", "examples")
    for path in ROOT.glob(f"{folder}/**/*.py")
)
# Parts of names.
BANNED_IN_NAMES = {
    *("anew", "begun", "begins", "begin", "behind", "culprit", "twin", "twins"),
    *("picture", "pictures", "photograph", "photographs", "rectifier", "latents"),
    *("bake", "baked", "tap", "fate", "fates", "holds", "refuse", "refuses"),
    *("refused", "passage", "want", "wants", "card", "cards", "drift", "sheet"),
    *("beginning", "burst", "bursts", "harm", "trainee", "mend", "mended", "mends"),
}
# Public names and those of Keras.
ALLOWED_NAMES = {
    *("Card", "read_card", "twins", "sheet"),
    *("on_epoch_begin", "on_test_begin", "on_train_batch_begin", "on_train_begin"),
}


def prose(page: str) -> str:
    """A page without code, targets of links, comments and tags."""
    text = re.sub(r"^ *```.*?^ *```", "", page, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"<!--.*?-->|`[^`\n]*`|</?[a-z].*?>", "", text, flags=re.DOTALL)
    return re.sub(r"\]\([^)]*\)", "]", text)


ANY = re.compile("|".join(BANNED), re.IGNORECASE)


def words_in(text: str, allowed: set[str]) -> list[str]:
    text = " ".join(text.split())
    if not ANY.search(text):  # which takes less time
        return []
    return [
        f"{match[0]!r} (write: {instead})"
        for pattern, instead in BANNED.items()
        if pattern not in allowed
        for match in re.finditer(pattern, text, re.IGNORECASE)
    ]


def test_pages():
    for page in PAGES:
        text = prose((ROOT / page).read_text(encoding="utf-8"))
        assert words_in(text, ALLOWED.get(page, set())) == [], page


def texts(source: str, nodes: Sequence[ast.AST]) -> Iterator[str]:
    """The docstrings, comments and messages of a module, fields of f-strings left out.

    A lower-case constant without a space is a key or a name, which stays as it is.
    """
    yield from re.findall(r"(?:^|\s)#.*$", source, re.MULTILINE)
    joined = [x.values for x in nodes if isinstance(x, ast.JoinedStr)]
    inside = {id(part) for parts in joined for part in parts}
    alone = [[x] for x in nodes if isinstance(x, ast.Constant) and id(x) not in inside]
    for parts in (*joined, *alone):
        values = [
            part.value if isinstance(part, ast.Constant) else "…" for part in parts
        ]
        text = prose("".join(value for value in values if isinstance(value, str)))
        text = re.sub(r"\\\(.*?\\\)|--[a-z-]+", "", text)
        if " " in text.strip() or re.fullmatch("[A-Z][a-z]+", text):
            yield text


def names(nodes: Sequence[ast.AST]) -> Iterator[str]:
    """Names that a module defines, and those of its arguments and attributes."""
    for node in nodes:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            yield node.name
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr


def private(actual: Iterator[str]) -> set[str]:
    parts = {name: re.findall(r"[a-z]+", name.lower()) for name in actual}
    return {name for name, words in parts.items() if BANNED_IN_NAMES & set(words)}


def test_docstrings_comments_messages_and_names():
    for module in (*PACKAGE, *SCRIPTS):
        source = (ROOT / module).read_text(encoding="utf-8")
        nodes = [*ast.walk(ast.parse(source))]
        allowed = ALLOWED.get(str(module), set())
        assert words_in(" § ".join(texts(source, nodes)), allowed) == [], module
        if module in PACKAGE:
            assert private(names(nodes)) <= ALLOWED_NAMES, module
    assert private(path.stem for path in PACKAGE) == set()


def test_what_is_read_of_a_module():
    source = '''
"""Looks behind `behind`."""
x = {"behind": f"{behind} anew"}  # of twins
def picture(sheet): self.latents = sheet
'''
    nodes = [*ast.walk(ast.parse(source))]
    read = words_in(" § ".join(texts(source, nodes)), set())
    assert sorted(word.split("'")[1] for word in read) == ["anew", "behind", "twins"]
    assert private(names(nodes)) == {"picture", "sheet", "latents"}
