"""What a conversion did: as numbers, as a table, as a picture."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

from rich.table import Table

from ._errors import ConversionError


@dataclass(frozen=True)
class ConversionReport:
    """What `convert` wrote, and how it compares with the given model.

    Attributes:
        path: The file.
        size_bytes: Its size.
        binary_layers: Binary convolutions of the model, counted per use.
        lce_bconv2d: Binary convolutions of the file: as many.
        float_ops: Operations left in float: `{"op", "count", "layers"}`.
        binary_macs: Multiply-accumulates of binary convolutions, for one example.
        float_macs: Those of float convolutions and fully connected layers.
        verify: The prepared Keras model against the file: `examples, exact_share,
            explained, unexplained, worst_abs, worst_rel, top1_agreement`; `data` says
            what the examples were, `prepared` holds the same numbers for the given
            model against the prepared one. None without verification.
    """

    path: str
    size_bytes: int
    binary_layers: int
    lce_bconv2d: int
    float_ops: list[dict[str, Any]]
    binary_macs: int
    float_macs: int
    verify: dict[str, Any] | None

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields as plain JSON types."""
        return asdict(self)

    def to_json(self, path: str | os.PathLike | None = None) -> str:
        """Returns the report as JSON, and writes it to `path` if given."""
        text = json.dumps(self.to_dict(), indent=2)
        if path is not None:
            with replacing(path) as temporary:
                temporary.write_text(text + "\n")
        return text

    def table(self) -> Table:
        """Returns the report as a `rich` table."""
        binary = f"{self.lce_bconv2d} of {self.binary_layers}"
        table = content_table(self, ("binary convolutions", binary))
        if self.verify is not None:
            for title, part in (
                ("Keras against prepared", self.verify["prepared"]),
                ("prepared against file", self.verify),
            ):
                table.add_row(title, _verdict(part))
            table.add_row("verified on", self.verify["data"])
        return table

    def plot(self, path: str | os.PathLike) -> None:
        """Draws the float operations and the share of binary work as a PNG file."""
        draw(self, path)


def content_table(content: Any, *rows: tuple[str, str]) -> Table:
    """Returns the table of what an `Audit` or a `ConversionReport` found in a file."""
    table = Table(title=content.path, title_justify="left", show_header=False)
    table.add_row("size", f"{content.size_bytes / 1e3:,.1f} kB")
    for row in rows:
        table.add_row(*row)
    for title, macs in (("binary", content.binary_macs), ("float", content.float_macs)):
        table.add_row(f"{title} MACs", f"{macs / 1e6:,.2f} M")
    for op in content.float_ops:
        layers = ", ".join(dict.fromkeys(op["layers"]))
        table.add_row(f"float {op['op']}", f"{op['count']}: {layers}")
    return table


def _verdict(part: dict[str, Any]) -> str:
    return (
        f"{part['exact_share']:.1%} of {part['examples']} equal within tolerance, "
        f"{part['explained']} explained by rounding, "
        f"{part['unexplained']} unexplained, "
        f"top-1 agreement {part['top1_agreement']:.1%}, "
        f"largest difference {part['worst_abs']:.2g}"
    )


def draw(content: Any, path: str | os.PathLike) -> None:
    """Draws what an `Audit` or a `ConversionReport` found in a file.

    Raises:
        ConversionError: If matplotlib is missing or `path` cannot be written.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ConversionError(
            "matplotlib is not installed, and pictures need it. "
            "Run: pip install larq-nobn[plots]"
        ) from error
    figure = Figure(figsize=(8, 1.8 + 0.3 * len(content.float_ops)), layout="tight")
    work, left = figure.subplots(1, 2, width_ratios=(1, 2))
    macs = {"binary": content.binary_macs / 1e6, "float": content.float_macs / 1e6}
    bars = work.bar(list(macs), list(macs.values()), color=("tab:blue", "tab:orange"))
    work.bar_label(bars, fmt="%.2f")
    work.margins(y=0.15)
    work.set_title("million MACs")
    names = [op["op"] for op in content.float_ops][::-1]
    counts = [op["count"] for op in content.float_ops][::-1]
    left.bar_label(left.barh(names, counts, color="tab:orange"), padding=2)
    left.margins(x=0.1)
    left.set_title(f"float operations beside {content.lce_bconv2d} binary convolutions")
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)


@contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """Yields a temporary file beside `path` that takes its place if all goes well.

    Raises:
        ConversionError: If the file cannot be written. Whatever goes wrong, `path` is
            what it was before.
    """
    target = Path(path)
    try:
        with NamedTemporaryFile(dir=target.parent, prefix=".", delete=False) as file:
            temporary = Path(file.name)
    except OSError as error:
        raise _unwritable(path, error) from error
    try:
        yield temporary
        # Temporary files are private; this one shall be as readable as any other.
        temporary.chmod(0o666 & ~_umask())
        os.replace(temporary, target)
    except OSError as error:
        raise _unwritable(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _unwritable(path: str | os.PathLike, error: OSError) -> ConversionError:
    return ConversionError(
        f"{os.fspath(path)!r} cannot be written: {error.strerror}. Pass a path in an "
        "existing folder with room for the file and permission to write."
    )
