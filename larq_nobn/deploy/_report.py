"""What a conversion did."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from rich.table import Table

from .inspection import Findings
from .verify import GIVEN


@dataclass(frozen=True, kw_only=True)
class ConversionReport(Findings):
    """What `convert` wrote, and how it compares with the given model.

    Attributes:
        path: The file.
        size_bytes: Its size.
        lce_bconv2d: Binary convolutions of the file.
        float_ops: Operations left in float: `{"op", "count", "layers"}`.
        binary_macs: Multiply-accumulates of binary convolutions, for one example.
        float_macs: Those of float convolutions and fully connected layers.
        binary_layers: Binary layers of the model, counted per use and group: as many.
            Those in `merged` are not among them.
        not_prepared: Why the model was converted from the trace; None for a prepared
            one. Its `verify` compares the model with its operations, and these with
            the file.
        verify: The prepared Keras model against the file. `segments` is the proof:
            how many were `compared`, `signs` (how many in all examples),
            `within_rounding` (the fraction of these whose pre-activation is within
            rounding of 0), `worst` (the `layer` or output of the largest `difference`,
            relative to its channel; in steps of an int8 file). From end to end, for
            information: `examples, exact_share, explained` (those that differ since
            rounding decides a sign), `unexplained` (0: else nothing is written),
            `worst_abs, worst_rel, top1_agreement`, and `ties`, the signs that rounding
            decides. `data` says what the examples were, `prepared` says the same for
            the given model against the prepared one, and `reference`, as what the given
            model was compared. None without verification.
        in_float: Layers that are binary, or of few bits, in the model, and on request
            float in the file: `layer, kind` (its class), `finding, remedy, macs, bytes`
            (of its kernels).
        repadded: Layers padded with ones in place of the model's zeros, on request.
        warnings: Where rounding decides so many signs that model and file part: which
            comparison, which layers, what to do. Also logged.
        rewritten: Binary layers that are other ones in the file, which make the same:
            `{"layer", "kind", "as"}`.
        merged: Binary layers that compute what others do, of the same tensors: the file
            has them once.
    """

    binary_layers: int
    verify: dict[str, Any] | None
    repadded: list[str] = field(default_factory=list)
    rewritten: list[dict[str, str]] = field(default_factory=list)
    merged: list[str] = field(default_factory=list)
    not_prepared: str | None = None
    warnings: list[str] = field(default_factory=list)

    def table(self) -> Table:
        """Returns the report as a `rich` table."""
        table = super().table()
        if self.not_prepared is not None:
            table.add_row("not optimized", self.not_prepared)
        if self.repadded:
            table.add_row("padded with ones", ", ".join(self.repadded))
        if self.rewritten:
            said = ("{layer} ({kind}) as {as}".format(**row) for row in self.rewritten)
            table.add_row("rewritten", "\n".join(said))
        if self.merged:
            table.add_row("merged", ", ".join(self.merged))
        if self.verify is not None:
            form = "optimized" if self.not_prepared is None else "traced"
            given = self.verify["prepared"]
            if given["reference"] != GIVEN:
                table.add_row("given", given["reference"])
            table.add_row(f"given = {form}", _verdict(given))
            table.add_row(f"{form} = file", _verdict(self.verify))
            table.add_row("verified on", self.verify["data"])
        for warning in self.warnings:
            table.add_row("warning", warning)
        return table

    def _binary(self) -> str:
        return f"{self.lce_bconv2d} of {self.binary_layers}"


def _verdict(part: dict[str, Any]) -> str:
    return (
        f"{part['exact_share']:.1%} of {part['examples']} equal within tolerance, "
        f"{part['explained']} differ due to rounding, "
        f"{part['unexplained']} unexplained, "
        f"top-1 agreement {part['top1_agreement']:.1%}, "
        f"{part['segments']['compared']} segments, "
        f"largest difference {part['worst_abs']:.2g}"
    )
