"""The two files of a program in C."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any

from ..._errors import InvalidValue
from .._errors import ConversionError
from ..lite._compiled import FORMAT, PREFIX
from ..lite._converter import IoSpec
from ..operations._kinds import Value
from ..operations._moves import sizes_of
from ..trace._names import layer_name
from ._calls import Call, Calls, number, type_of
from ._plan import Block, plan

_AT = "#define AT(type, word) ((type *)memory + (word))\n"
_KERNELS = Path(__file__).with_name("kernels.c")
_PART = re.compile(r"^/\* ----", re.MULTILINE)
_MADE = re.compile(
    r"^static [\w ]+[ *](\w+)\(|^#define (\w+)|^} (\w+);|^GATHER\((\w+)", re.M
)
_WORD = re.compile(r"[A-Za-z_]\w*")
# A compiler takes some fifty bytes for each byte of constants.
_MOST = 2**26


def parts_of(used: str) -> str:
    """Returns the parts of kernels.c that some C uses, in their order."""
    head, *parts = _PART.split(_KERNELS.read_text())
    words, kept = {*_WORD.findall(used)}, dict[int, str]()
    for place in reversed(range(len(parts))):
        code = parts[place].partition("*/")[2]
        if {x for found in _MADE.findall(code) for x in found} & words:
            words |= {*_WORD.findall(code)}
            comment = parts[place] if parts[place].partition("*/")[0].strip() else code
            kept[place] = f"/*{comment}" if comment is not code else code.lstrip()
    includes = head.partition("*/")[2].strip()
    return "\n".join([f"{includes}\n", *(kept[i] for i in sorted(kept))])


class Layout:
    """Where the values of calls are: in arguments, or at a place of the memory.

    Arguments:
        calls: The calls.
        inputs, outputs: The names of the arguments.

    Attributes:
        bytes: The size of the memory.
    """

    def __init__(self, calls: Calls, inputs: Sequence[str], outputs: Sequence[str]):
        self._words = calls.words
        self._bits = calls.packed
        self._given = dict(zip(calls.inputs, inputs, strict=True))
        self._given |= dict(zip(calls.outputs, outputs, strict=True))
        last = {x: i for i, call in enumerate(calls.calls) for x in call.reads}
        blocks, block_of = list[Block](), dict[Any, int]()
        for i, call in enumerate(calls.calls):
            size, y = calls.words(call.y), call.y
            ending = [
                block_of[x]
                for x in call.reads
                if call.in_place
                and x in block_of
                and last[x] == i
                and calls.words(x) == size
            ]
            if call.scratch:
                block_of[call] = len(blocks)
                blocks.append(Block(call.scratch, i, i))
            if y in self._given:
                continue
            end = last.get(y, i)
            if ending:
                block_of[y] = ending[0]
                blocks[ending[0]] = blocks[ending[0]]._replace(last=end)
            else:
                block_of[y] = len(blocks)
                blocks.append(Block(size, i, end))
        self.blocks = blocks
        starts, words = plan(blocks)
        self.bytes = 4 * words
        self._starts = {x: starts[block] for x, block in block_of.items()}

    def of(self, value: Value) -> str:
        """Returns C that points to a value."""
        if value not in self._starts:  # of a constant, the line has the name
            return self._given.get(value, "")
        kind = "uint32_t" if value in self._bits else "float"
        return f"AT({kind}, {self._starts[value]})"

    def lines(self, call: Call) -> list[str]:
        """Returns the C of a call."""
        kind = "uint32_t" if call.binary else "float"
        scratch = f"AT({kind}, {self._starts[call]})" if call.scratch else ""
        reads, y = [self.of(x) for x in call.reads], self.of(call.y)
        return [line.format(*reads, y=y, scratch=scratch) for line in call.lines]


def constants(calls: Calls) -> str:
    """Returns the C of the constants."""
    texts = []
    for name, (kind, array) in calls.constants.items():
        numbers = [number(x) if kind == "float" else f"{x}" for x in array]
        if kind == "uint32_t":
            numbers = [f"0x{x:x}u" for x in array]
        if kind == "walk":
            rows = (numbers[i : i + 6] for i in range(0, len(numbers), 6))
            numbers = [f"{{{', '.join(row)}}}" for row in rows]
        lines = [", ".join(numbers[i : i + 8]) for i in range(0, len(numbers), 8)]
        sized = name if kind in ("window", "walk") else f"{name}[{len(array)}]"
        body = ",\n  ".join(lines)
        texts.append(f"static const {kind} {sized} = {{{body}}};\n")
    return "".join(texts)


class CFile:
    """A network as C.

    Arguments:
        calls: What it computes.
        io: What it takes and gives.
        prefix: What all its names start with.
        labels: The names of the classes, or none.

    Attributes:
        about: What the head of the file says of the network, in lines.
        info: What `audit` and `Runner` read at the end of the source.
    """

    def __init__(
        self,
        calls: Calls,
        io: IoSpec,
        prefix: str,
        labels: Sequence[str] = (),
    ) -> None:
        self.calls, self._prefix, self._labels = calls, prefix, labels
        self.about = ["a network"]
        self.constant_bytes = sum(x.nbytes for _, x in calls.constants.values())
        if self.constant_bytes > _MOST:
            raise ConversionError(
                f"Constants take {self.constant_bytes / 1e6:,.0f} MB, and compilers "
                f"need far more memory for C of over {_MOST >> 20} MB. Use a smaller "
                "model, or another runtime, whose files have no text."
            )
        inputs = _arguments("input", [spec.name for spec in io.inputs])
        outputs = _arguments("output", io.outputs)
        self.layout = Layout(calls, inputs, outputs)
        kinds = map(type_of, calls.inputs)
        given = [f"const {k} *{x}" for k, x in zip(kinds, inputs, strict=True)]
        given += [f"float *{x}" for x in outputs]
        self._run = f"void {prefix}_run({', '.join([*given, 'void *memory'])})"
        ends = [*zip(io.inputs, calls.inputs, strict=True)]
        self.info: dict[str, Any] = {
            "format": FORMAT,
            "prefix": prefix,
            "constant_bytes": self.constant_bytes,
            "memory_bytes": self.layout.bytes,
            "inputs": [_info(spec.name, x) for spec, x in ends],
            "outputs": [
                _info(*end) for end in zip(io.outputs, calls.outputs, strict=True)
            ],
            "operations": [self._row(i, call) for i, call in enumerate(calls.calls)],
        }
        if calls.pixels is not None:
            self.info["pixels"] = [[float(x) for x in n] for n in calls.pixels]
        self._inputs, self._outputs = inputs, outputs

    @property
    def source(self) -> str:
        """The file itself."""
        body = "".join(f"  {line}\n" for line in self.body(self.layout))
        own = "\n".join(self.calls.functions.values())
        info = json.dumps(self.info).replace("/", "\\/")  # no end of a comment
        return (
            f"{self._head}\n{parts_of(body + own)}\n{own}\n\n{constants(self.calls)}\n"
            f"{_in_c(self._declared)}{self._named()}\n"
            f"{_AT}{self._run} {{\n{body}  (void)memory;\n}}\n\n"
            f"/* For audit and Runner of larq_nobn:\n{info} */\n"
        )

    def body(
        self, layout: Layout, after: Mapping[Call, str] | None = None
    ) -> list[str]:
        """Returns the C of all calls, and of what is done after some."""
        lines, said = list[str](), ""
        for call in self.calls.calls:
            layer = re.sub(r"[^\w/ .-]", "_", layer_name(call.node.name))
            if layer != said:
                lines.append(f"/* {layer} */")
            said = layer
            lines += layout.lines(call)
            lines += [after[call]] if after and call in after else []
        return lines

    @property
    def header(self) -> str:
        """The file that callers include."""
        sizes = {"MEMORY_BYTES": self.layout.bytes}
        for side, names, rows in (
            ("INPUT", self._inputs, self.info["inputs"]),
            ("OUTPUT", self._outputs, self.info["outputs"]),
        ):
            for name, row in zip(names, rows, strict=True):
                start, shape = name.upper(), row["shape"]
                if side == "INPUT":
                    sizes[f"{start}_SIZE"] = prod(shape)
                    axes = ("HEIGHT", "WIDTH", "CHANNELS")
                    if len(shape) == 4:
                        pairs = zip(axes, shape[1:], strict=True)
                        sizes |= {f"{start}_{axis}": n for axis, n in pairs}
                else:
                    sizes[f"{start}S"] = prod(shape)
        prefix = self._prefix.upper()
        defined = "".join(f"#define {prefix}_{k} {v}\n" for k, v in sizes.items())
        return (
            f"{self._head}\n#ifndef {prefix}_H\n#define {prefix}_H\n\n"
            f"#include <stdint.h>\n\n{defined}\n{_in_c(self._declared)}\n#endif\n"
        )

    @property
    def _declared(self) -> str:
        count = (
            f"extern const char *const {self._prefix}_labels[{len(self._labels)}];\n"
        )
        return f"{self._run};\n{count * bool(self._labels)}"

    def _named(self) -> str:
        if not self._labels:
            return ""
        names = ",\n  ".join(map(_quoted, self._labels))
        return (
            f"const char *const {self._prefix}_labels[{len(self._labels)}] = {{\n"
            f"  {names}}};\n"
        )

    @property
    def _head(self) -> str:
        rows, prefix = self.info["operations"], self._prefix
        binary, real = (
            sum(row["macs"] for row in rows if (row["kind"] == "binary") == kind)
            for kind in (True, False)
        )
        lines = [
            f"{prefix}.c: {self.about[0]}, in C99 that is C++, too.",
            "",
            *self.about[1:],
            f"Size: {self.constant_bytes:,} bytes of constants, and "
            f"{self.layout.bytes:,} bytes of memory for feature maps.",
            f"Work: {binary:,} binary and {real:,} real multiplications a run.",
            f"Compile: cc -O3 -march=native -c {prefix}.c, and link with -lm.",
            f"Use: {self._run};",
            f"    where memory has {prefix.upper()}_MEMORY_BYTES bytes, aligned as for "
            "a float, better by 64.",
        ]
        plain = (re.sub(r"\*/|/\*", "_", line) for line in lines)
        return "/* " + "\n   ".join(plain).rstrip() + " */\n"

    def _row(self, index: int, call: Call) -> dict[str, Any]:
        constants = (self.calls.constants[name][1] for name in call.constants)
        makers = {x.y: i for i, x in enumerate(self.calls.calls)}
        kind = "binary" if call.binary else "float"
        return {
            "index": index,
            "op": call.function,
            "kind": "shape" if call.function == "copy" else kind,
            "layer": layer_name(call.node.name) or "output",
            "output_shape": list(sizes_of(call.y)),
            "output_type": "bits" if call.y in self.calls.packed else "float32",
            "macs": call.macs,
            "weight_bytes": sum(array.nbytes for array in constants),
            "activation_bytes": 4 * self.calls.words(call.y),
            "reads": sorted({makers[x] for x in call.reads if x in makers}),
        }


def check_prefix(path: str) -> str:
    """Returns what all names of a C file start with: the name of the file."""
    prefix = Path(path).stem
    if not PREFIX.fullmatch(prefix):
        raise InvalidValue(
            f"path={path!r} is not a name for a C file, whose functions start with it. "
            "Choose letters, digits and underscores, and a letter first: model.c."
        )
    return prefix


def _arguments(what: str, names: Sequence[str]) -> list[str]:
    """The names of arguments, of which C knows none yet."""
    if len(names) == 1:
        return [what]
    made = list[str]()
    for name in names:
        plain = f"{what}_{re.sub(r'[^A-Za-z0-9]', '_', name)}"
        made.append(plain if plain not in made else f"{plain}_{len(made)}")
    return made


def _info(name: str, value: Value) -> dict[str, Any]:
    kind = type_of(value).removesuffix("_t")
    return {
        "name": name,
        "shape": list(sizes_of(value)),
        "dtype": "float32" if kind == "float" else kind,
    }


def _in_c(declared: str) -> str:
    start, end = "#ifdef __cplusplus\n", "#endif\n"
    return f'{start}extern "C" {{\n{end}{declared}{start}}}\n{end}'


def _quoted(text: str) -> str:
    """A string of C, whose other characters than ASCII are octal."""
    plain = (
        chr(x) if 32 <= x < 127 and chr(x) not in '"\\?' else f"\\{x:03o}"
        for x in text.encode()
    )
    return f'"{"".join(plain)}"'
