"""Messages of errors from other libraries, in one line."""

from __future__ import annotations

import re

from ._tables import sentence

# Longest message; Keras may quote a whole configuration.
_LONGEST = 600
_WHERE = "Exception encountered when calling"
_KIND = re.compile(r"\w+(Error|Exception|Value|Type): ")
# The name of an operation in TensorFlow's messages, with a description to be removed;
# notes about its own functions, and the bold letters of Keras 3.
_NODE = re.compile(r" for '\{\{node (.*?)\}\}.*")
_INTERNAL = re.compile(r"\{\{function_node .*?\}\} ?| \[Op:.*|\x1b\[\d*m")


def first_line(error: BaseException) -> str:
    """Returns the first line of an error's message, or of the error inside it."""
    # str() of a KeyError would quote its message.
    own = isinstance(error, KeyError) and isinstance(next(iter(error.args), 0), str)
    text = error.args[0] if own else str(error)
    message = text.rpartition("Exception encountered: ")[2].strip()
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    if message.startswith((_WHERE, "in user code:")):  # the layers, or lines, first
        kinds = [number for number, line in enumerate(lines) if _KIND.match(line)]
        lines = [_KIND.sub("", line) for line in lines[max(kinds, default=1) :]]
        while len(lines) > 1 and lines[0].startswith(_WHERE):
            lines = lines[1:]
    elif message.startswith("Graph execution error"):  # TensorFlow names nodes last
        nodes = [number for number, line in enumerate(lines) if line.startswith("[[")]
        lines = lines[min(nodes, default=1) - 1 :]
    first = next(iter(lines), f"{type(error).__name__} without a message")
    if isinstance(error, KeyError) and " " not in first:  # only the key
        first = f"{first!r} is missing" if own else f"{first} is missing"
    return sentence(_INTERNAL.sub("", _NODE.sub(r" in '\1'", first)), _LONGEST)
