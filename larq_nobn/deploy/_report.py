"""What a conversion did."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from rich.table import Table

from .inspection._audit import Findings
from .verify._lowered import GIVEN


@dataclass(frozen=True, kw_only=True)
class ConversionReport(Findings):
    """Contents of a converted file, and how it compares with the given model.

    Attributes:
        path, size_bytes, lce_bconv2d, float_ops, int8_ops: As in `Audit`.
        runtime: What it was converted for: `"lce"` or `"litert"`.
        binary_layers: Number of binary layers in the model, counted per use and group,
            without those in `merged`. Equals `lce_bconv2d` for LCE.
        binary_macs, float_macs, int8_macs: Multiply-accumulates of binary, float and
            int8 convolutions and fully connected layers, for one example.
        not_prepared: Why the layers of the model cannot be read one by one, so that
            operations alone say what it is; None if they can.
        verify: The optimized model compared with the file; None without verification.
            `segments` is the proof: the number of segments `compared`, of `signs` in
            all examples, the fraction of these `within_rounding` of 0, and in `worst`
            the `layer` or output with the largest `difference`, relative to its channel
            (in quantization steps for an int8 file). End to end, for information:
            `examples`, `exact_share` (fraction equal within tolerance), `explained`
            (how many differ due to rounding), `unexplained` (always 0), `worst_abs`,
            `worst_rel`, `top1_agreement`, and `ties`, the signs that rounding decides.
            `data` describes the examples, `prepared` has the same keys for the given
            model compared with the optimized one, `reference` the form of the given
            model in that comparison.
        in_float: Layers of one or a few bits that are float in the file, on request:
            `layer, kind` (its class), `finding, remedy, macs, bytes` (of its kernels).
        merged: Binary layers that compute the same as others from the same tensors; the
            file contains them once.
        warnings: Comparisons in which rounding decides many signs, with the layers and
            the remedy. Also logged.
    """

    binary_layers: int
    verify: dict[str, Any] | None
    merged: list[str] = field(default_factory=list)
    not_prepared: str | None = None
    warnings: list[str] = field(default_factory=list)

    def table(self) -> Table:
        """Returns the report as a `rich` table."""
        table = super().table()
        if self.not_prepared is not None:
            table.add_row("layers", self.not_prepared)
        if self.merged:
            table.add_row("merged", ", ".join(self.merged))
        if self.verify is not None:
            given = self.verify["prepared"]
            if given["reference"] != GIVEN:
                table.add_row("given", given["reference"])
            table.add_row("given = optimized", _verdict(given))
            table.add_row("optimized = file", _verdict(self.verify))
            table.add_row("verified on", self.verify["data"])
        for warning in self.warnings:
            table.add_row("warning", warning)
        return table

    def summary(self) -> str:
        """Returns the outcome in one line."""
        binary, in_float = self.binary_layers, len(self.in_float)
        layers = f"{binary} of {binary + in_float} binary layers binary"
        if self.runtime == "litert":
            layers = f"all {binary} binary layers are ordinary convolutions of ±1"
        if self.verify is None:
            return layers
        examples, data = self.verify["examples"], self.verify["data"]
        same = round(examples * self.verify["top1_agreement"])
        agreement = f"same class on {same} of {examples} examples"
        if self.int8_ops:
            agreement += " as the model with rounded kernels"
        return f"verified on {data}: {agreement}; {layers}"

    def _binary(self) -> str:
        if self.runtime == "litert":
            layers = f"the {self.binary_layers} binary layers"
            return f"none of one bit: {layers} are ordinary convolutions of ±1"
        return f"{self.lce_bconv2d} of {self.binary_layers}"


def _verdict(part: dict[str, Any]) -> str:
    ends = f"top-1 agreement {part['top1_agreement']:.1%}"
    if "int8" in part:
        maps, steps = (part["int8"][name] for name in ("maps", "worst_steps"))
        return f"{ends}; {maps} maps, each within {steps:.2g} quantization steps"
    return (
        f"{part['exact_share']:.1%} of {part['examples']} equal within tolerance, "
        f"{part['explained']} differ due to rounding, {part['unexplained']} "
        f"unexplained, {ends}, {part['segments']['compared']} segments, "
        f"largest difference {part['worst_abs']:.2g}"
    )
