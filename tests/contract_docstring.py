"""The house form of a docstring, whatever the class is."""

import inspect
import re
import textwrap
from collections.abc import Iterable


def check_docstring(
    cls: type, titles: Iterable[str], arguments: Iterable[str]
) -> tuple[str, dict[str, str]]:
    """Checks what all public classes share.

    The example runs in tests/examples/test_docstrings.py.

    Arguments:
        cls: The class.
        titles: Those of the sections, in order.
        arguments: Patterns of the names that "Arguments" must explain.

    Returns:
        The text before the sections, and the sections by title.
    """
    text = inspect.cleandoc(vars(cls)["__doc__"])
    parts = re.split(r"^([A-Z][A-Za-z ]+):$", text, flags=re.MULTILINE)
    sections = dict(zip(parts[1::2], map(textwrap.dedent, parts[2::2]), strict=True))
    assert list(sections) == list(titles)
    assert all(section.strip() for section in sections.values())
    assert re.match(r"[A-Z][^\n]*\.\n\n", text), "The first line is one sentence."
    assert r"\[" in parts[0], "A formula stands before the sections."
    for name in arguments:
        assert re.search(rf"^{name}: .", sections["Arguments"], re.MULTILINE), name
    if "References" in sections:
        assert re.search(r"arXiv:\s?\d{4}\.\d{4,5}", sections["References"])
    assert len(re.findall(r"^```python$", sections["Example"], re.MULTILINE)) == 1
    return parts[0], sections
