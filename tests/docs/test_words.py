"""What a reader of Larq or Keras would have to decode stands on no page."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [
    *("README.md", "CONTRIBUTING.md", "SECURITY.md"),
    *(str(path.relative_to(ROOT)) for path in sorted(ROOT.glob("docs/**/*.md"))),
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
}
# What is quoted from elsewhere, or is a name.
ALLOWED = {"docs/guides/own_pictures.md": {r"\bpictures?\b(?!/|\.jpg)"}}


def prose(page: str) -> str:
    """A page without code, targets of links and comments."""
    text = re.sub(r"^```.*?^```", "", page, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"<!--.*?-->|`[^`\n]*`", "", text, flags=re.DOTALL)
    return re.sub(r"\]\([^)]*\)", "]", text)


def found(text: str, allowed: set[str]) -> list[str]:
    return [
        f"{match[0]!r} (write: {instead})"
        for pattern, instead in BANNED.items()
        if pattern not in allowed
        for match in re.finditer(pattern, text, re.IGNORECASE)
    ]


@pytest.mark.parametrize("page", PAGES)
def test_pages(page: str):
    text = prose((ROOT / page).read_text(encoding="utf-8"))
    assert found(text, ALLOWED.get(page, set())) == []


def test_prose_is_what_is_read():
    page = "a `behind` b\n```bash\nlarq-nobn anew\n```\n[text](behind.md) twin"
    assert found(prose(page), set()) == ["'twin' (write: batch-norm counterpart)"]
