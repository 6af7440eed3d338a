"""What errors of other libraries say, in one line."""

from __future__ import annotations

import re

from ._tables import sentence

# Keras may quote a whole configuration.
_LONGEST = 600
_WHERE = "Exception encountered when calling"
_KIND = re.compile(r"\w+(Error|Exception|Value|Type): ")
# How TensorFlow names an operation, and then writes down all of it; and what it says of
# its own functions.
_NODE = re.compile(r" for '\{\{node (.*?)\}\}.*")
_INTERNAL = re.compile(r"\{\{function_node .*?\}\} ?| \[Op:.*")


def first_line(error: BaseException) -> str:
    """What an error says first, or its kind; of errors around another one the inner."""
    # Of a KeyError, str() is how Python would write its message down.
    own = isinstance(error, KeyError) and isinstance(next(iter(error.args), 0), str)
    text = error.args[0] if own else str(error)
    said = text.rpartition("Exception encountered: ")[2].strip()
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    if said.startswith(_WHERE):  # Keras says where first, and may do so several times
        kinds = [number for number, line in enumerate(lines) if _KIND.match(line)]
        lines = [_KIND.sub("", line) for line in lines[max(kinds, default=1) :]]
        while len(lines) > 1 and lines[0].startswith(_WHERE):
            lines = lines[1:]
    elif said.startswith("Graph execution error"):  # TensorFlow, and names nodes last
        nodes = [number for number, line in enumerate(lines) if line.startswith("[[")]
        lines = lines[min(nodes, default=1) - 1 :]
    message = next(iter(lines), f"{type(error).__name__} without a message")
    if isinstance(error, KeyError) and " " not in message:  # no more than the key
        message = f"{message!r} is missing" if own else f"{message} is missing"
    return sentence(_INTERNAL.sub("", _NODE.sub(r" in '\1'", message)), _LONGEST)
