"""Writes a program as two files of C: its source and its header."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import Any

from ..._errors import InvalidValue
from .._errors import ConversionError
from ..lite._compiled import FORMAT, PREFIX
from ..lite._converter import IoSpec
from ..operations._kinds import Value
from ..operations._moves import sizes_of
from ..trace._operation_names import layer_name
from ._calls import Calls, number, type_of
from ._memory import Block, plan

_KERNELS = Path(__file__).with_name("kernels.c")
_PART = re.compile(r"^/\* ----", re.MULTILINE)
_MADE = re.compile(
    r"^static [\w ]+[ *](\w+)\(|^#define (\w+)|^} (\w+);|^GATHER\((\w+)", re.M
)
_WORD = re.compile(r"[A-Za-z_]\w*")
# Compilers use about fifty bytes of memory for each byte of constants.
_MOST = 2**26
# Words of C and C++, and the headers that a file includes.
_TAKEN = re.compile(
    "asm|auto|bool|break|case|catch|char|class|const|continue|default|delete|do|"
    "double|else|enum|explicit|export|extern|false|float|for|friend|goto|if|"
    "inline|int|long|math|mutable|namespace|new|operator|private|protected|public|"
    "register|restrict|return|short|signed|sizeof|static|stdint|string|struct|"
    "switch|template|this|throw|true|try|typedef|typeid|typename|union|unsigned|"
    "using|virtual|void|volatile|while"
)
_SOURCE = """{head}
{kernels}
{constants}
{declared}{labels}
#define AT(type, word) ((type *)memory + (word))
{run} {{
{body}  (void)memory;
}}

/* For audit and Runner of larq_nobn:
{info} */
"""
_HEADER = """{head}
#ifndef {name}_H
#define {name}_H

#include <stdint.h>

{sizes}
{declared}
#endif
"""
_DECLARED = """#ifdef __cplusplus
extern "C" {{
#endif
{}
#ifdef __cplusplus
}}
#endif
"""


def parts_of(used: str) -> str:
    """Returns the parts of kernels.c that some C code uses, in their order."""
    head, *parts = _PART.split(_KERNELS.read_text())
    words, kept = {*_WORD.findall(used)}, list[str]()
    for part in reversed(parts):
        comment, _, code = part.partition("*/")
        if {x for found in _MADE.findall(code) for x in found} & words:
            words |= {*_WORD.findall(code)}
            kept.append(f"/*{part}" if comment.strip() else code.lstrip())
    return "\n".join([head.partition("*/")[2].strip() + "\n", *reversed(kept)])


class CFile:
    """The two C files of a network.

    Arguments:
        calls: The calls that compute the network.
        io: The network's inputs and outputs.
        prefix: The start of all its names.
        labels: The names of the classes, or none.

    Attributes:
        about: Lines for the head of the file about the network.
        places: The words of memory at which values, and scratch space of calls, start.
        info: What `audit` and `Runner` read at the end of the source, as JSON.
    """

    def __init__(
        self, calls: Calls, io: IoSpec, prefix: str, labels: Sequence[str] = ()
    ) -> None:
        self.calls, self._prefix, self._labels = calls, prefix, labels
        self.about = ["a network"]
        size = sum(x.nbytes for _, x in calls.constants.values())
        if size > _MOST:
            raise ConversionError(
                f"Constants take {size / 1e6:,.0f} MB, and compilers need far more "
                f"memory for C of over {_MOST >> 20} MB. Use a smaller model, or "
                "another runtime, whose files have no text."
            )
        inputs = _arguments("input", [spec.name for spec in io.inputs])
        outputs = _arguments("output", io.outputs)
        self._arguments = dict(zip(calls.inputs, inputs, strict=True))
        self._arguments |= dict(zip(calls.outputs, outputs, strict=True))
        self.places, words = self._places()
        arguments = [f"const {type_of(x)} *{self._arguments[x]}" for x in calls.inputs]
        arguments += [f"float *{x}" for x in outputs]
        self._run = f"void {prefix}_run({', '.join([*arguments, 'void *memory'])})"
        names, kinds = [spec.name for spec in io.inputs], map(type_of, calls.inputs)
        starts = zip(names, calls.inputs, kinds, strict=True)
        ends = zip(io.outputs, calls.program.outputs, strict=True)
        self.info: dict[str, Any] = {
            "format": FORMAT,
            "prefix": prefix,
            "constant_bytes": size,
            "memory_bytes": 4 * words,
            "inputs": [_info(*end) for end in starts],
            "outputs": [_info(*end, "float") for end in ends],
            "operations": self._rows(),
        }
        if calls.pixels is not None:
            self.info["pixels"] = [[float(x) for x in n] for n in calls.pixels]

    def _places(self) -> tuple[dict[Any, int], int]:
        """Returns where values start in the memory, and the size of the memory.

        The output of a call overwrites an input that no later call reads, if the call
        allows that.
        """
        calls, blocks, block_of = self.calls, list[Block](), dict[Any, int]()
        last = {x: i for i, call in enumerate(calls.calls) for x in call.reads}
        for i, call in enumerate(calls.calls):
            size, y = calls.words(call.y), call.y
            if call.scratch:
                block_of[call] = len(blocks)
                blocks.append(Block(call.scratch, i, i))
            if y in self._arguments:
                continue
            block_of[y] = len(blocks)
            for x in call.reads if call.in_place else ():
                if x in block_of and last[x] == i and calls.words(x) == size:
                    block_of[y] = block_of[x]
            if block_of[y] == len(blocks):
                blocks.append(Block(size, i, i))
            own = blocks[block_of[y]]
            blocks[block_of[y]] = own._replace(last=last.get(y, i))
        starts, words = plan(blocks)
        return {x: starts[block] for x, block in block_of.items()}, words

    def _pointer(self, of: Any, bits: bool) -> str:
        """Returns C that points to a value; '' for constants, which lines name."""
        if of in self.places:
            return f"AT({'uint32_t' if bits else 'float'}, {self.places[of]})"
        return self._arguments.get(of, "")

    @property
    def source(self) -> str:
        """The file itself."""
        calls, body, heading = self.calls, "", ""
        for call in calls.calls:
            layer = re.sub(r"[^\w/ .-]", "_", layer_name(call.node.name))
            body += f"  /* {layer} */\n" * (layer != heading)
            heading = layer
            reads = [self._pointer(x, x in calls.packed) for x in call.reads]
            y = self._pointer(call.y, call.y in calls.packed)
            scratch = self._pointer(call, call.binary)
            made = (x.format(*reads, y=y, scratch=scratch) for x in call.lines)
            body += "".join(f"  {line}\n" for line in made)
        own = "".join(f"{x}({n}, {of})\n" for (x, of), n in calls.functions.items())
        names = ",\n  ".join(map(_quoted, self._labels))
        labels = f"{self._names_of_labels} = {{\n  {names}}};\n" if names else ""
        return _SOURCE.format(
            head=self._head,
            kernels=f"{parts_of(body + own)}\n{own}",
            constants="".join(_constant(*x) for x in calls.constants.items()),
            declared=self._declared,
            labels=labels,
            run=self._run,
            body=body,
            info=json.dumps(self.info).replace("/", "\\/"),  # no end of a comment
        )

    @property
    def header(self) -> str:
        """The file that callers include."""
        name, sizes = self._prefix.upper(), {"MEMORY_BYTES": self.info["memory_bytes"]}
        for value in self.calls.inputs:
            start, shape = self._arguments[value].upper(), sizes_of(value)
            sizes[f"{start}_SIZE"] = prod(shape)
            if len(shape) == 4:
                axes = ("HEIGHT", "WIDTH", "CHANNELS")
                sizes |= {
                    f"{start}_{x}": n for x, n in zip(axes, shape[1:], strict=True)
                }
        for value in self.calls.outputs:
            sizes[f"{self._arguments[value].upper()}S"] = prod(sizes_of(value))
        defined = "".join(f"#define {name}_{k} {v}\n" for k, v in sizes.items())
        return _HEADER.format(
            head=self._head, name=name, sizes=defined, declared=self._declared
        )

    @property
    def _names_of_labels(self) -> str:
        return f"const char *const {self._prefix}_labels[{len(self._labels)}]"

    @property
    def _declared(self) -> str:
        labels = f"\nextern {self._names_of_labels};" if self._labels else ""
        return _DECLARED.format(f"{self._run};{labels}")

    @property
    def _head(self) -> str:
        prefix, work = self._prefix, dict.fromkeys((True, False), 0)
        for call in self.calls.calls:
            work[call.binary] += call.macs
        lines = [
            f"{prefix}.c: {self.about[0]}, in C99 that is C++, too.",
            "",
            *self.about[1:],
            f"Size: {self.info['constant_bytes']:,} bytes of constants, and "
            f"{self.info['memory_bytes']:,} bytes of memory for feature maps.",
            f"Work: {work[True]:,} binary and {work[False]:,} real multiplications "
            "a run.",
            f"Compile: cc -O3 -march=native -c {prefix}.c, and link with -lm.",
            f"Use: {self._run};",
            f"    memory has {prefix.upper()}_MEMORY_BYTES bytes, aligned as a float,",
            "    better by 64.",
        ]
        plain = (re.sub(r"\*/|/\*", "_", line) for line in lines)
        return "/* " + "\n   ".join(plain).replace("\n   \n", "\n\n") + " */\n"

    def _rows(self) -> list[dict[str, Any]]:
        """Returns a row for `audit` per call; constants count where first read."""
        calls, makers, rows = self.calls, dict[Value, int](), list[dict[str, Any]]()
        counted = set[str]()
        for index, call in enumerate(calls.calls):
            new = {*call.constants} - counted
            counted |= new
            kind = "binary" if call.binary else "float"
            row = {
                "index": index,
                "op": call.function,
                "kind": "shape" if call.function == "copy" else kind,
                "layer": layer_name(call.node.name) or "output",
                "output_shape": list(sizes_of(call.y)),
                "output_type": "bits" if call.y in calls.packed else "float32",
                "macs": call.macs,
                "weight_bytes": sum(calls.constants[x][1].nbytes for x in new),
                "activation_bytes": 4 * calls.words(call.y),
                "reads": sorted({makers[x] for x in call.reads if x in makers}),
            }
            rows.append(row)
            makers[call.y] = index
        return rows


def check_prefix(path: str) -> str:
    """Returns the prefix of all names of a C file: the name of the file."""
    prefix = Path(path).stem
    if not PREFIX.fullmatch(prefix) or _TAKEN.fullmatch(prefix):
        raise InvalidValue(
            f"path={path!r} is not a name for a C file, whose functions start with it. "
            "Choose letters, digits and underscores, a letter first, and no word of C: "
            "model.c."
        )
    return prefix


def _constant(name: str, value: tuple[str, Any]) -> str:
    """Returns C of a constant, eight numbers a line."""
    kind, array = value
    form = {"float": number, "uint32_t": lambda x: f"0x{x:x}u"}.get(kind, str)
    numbers = [*map(form, array)]
    sized = f"{name}[{len(numbers)}]"
    if kind in ("window", "walk"):
        sized = name
    if kind == "walk":
        rows = (numbers[i : i + 6] for i in range(0, len(numbers), 6))
        numbers = [f"{{{', '.join(row)}}}" for row in rows]
    lines = (", ".join(numbers[i : i + 8]) for i in range(0, len(numbers), 8))
    body = ",\n  ".join(lines)
    return f"static const {kind} {sized} = {{{body}}};\n"


def _arguments(what: str, names: Sequence[str]) -> list[str]:
    """Returns distinct C names for arguments."""
    if len(names) == 1:
        return [what]
    made = list[str]()
    for name in names:
        plain = f"{what}_{re.sub(r'[^A-Za-z0-9]', '_', name)}"
        made.append(plain if plain not in made else f"{plain}_{len(made)}")
    return made


def _info(name: str, value: Value, kind: str) -> dict[str, Any]:
    dtype = "float32" if kind == "float" else kind.removesuffix("_t")
    return {"name": name, "shape": list(sizes_of(value)), "dtype": dtype}


def _quoted(text: str) -> str:
    """Returns a string literal of C, in which octal numbers replace non-ASCII bytes."""
    plain = (
        chr(x) if 32 <= x < 127 and chr(x) not in '"\\?' else f"\\{x:03o}"
        for x in text.encode()
    )
    return f'"{"".join(plain)}"'
