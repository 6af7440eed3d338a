"""Time and memory of a training step."""

from __future__ import annotations

from .markdown import table

SLASH = " / "


def train_step(result):
    return "\n\n".join(
        f"{size[0].upper()}{size[1:]}; of a `nobn` step {said(measured['shares'])}:\n\n"
        f"{of_size(measured)}"
        for size, measured in result["sizes"].items()
    )


def said(shares):
    return ", ".join(f"{name} {share:.1%}" for name, share in shares.items())


def of_size(measured):
    marks = [
        [name, SLASH.join(f"{q:.0f}" for q in quartiles), *4 * ["-"]]
        for name, quartiles in measured["marks"].items()
    ]
    return table(
        ["variant", "ms", "time", "traced MB", "peak MB", "memory"],
        [
            [
                name,
                SLASH.join(f"{q:.0f}" for q in row["ms_quartiles"]),
                f"{row['time_ratio']:.2f}",
                f"{row['traced_mb']:.0f}",
                f"{row['peak_mb']:.0f}",
                f"{row['memory_ratio']:.2f}",
            ]
            for name, row in measured["rows"].items()
        ]
        + marks,
    )


def train_step_short(result):
    sizes, large = result["sizes"], result["memory"]

    def ratios(variant, key, measured=None):
        rows = [f"{of['rows'][variant][key]:.2f}" for of in sizes.values()]
        return [*rows, *(measured or ["-"] * len(large))]

    shares = [
        [f"{name}, fraction of a `nobn` step"]
        + [f"{of['shares'][name]:.1%}" for of in sizes.values()]
        + ["-"] * len(large)
        for name in ("clipping", "balanced filters")
    ]
    peaks = [f"{rows['nobn']['memory_ratio']:.2f}" for rows in large.values()]
    return table(
        ["", *sizes, *large],
        [
            ["`nobn`, time", *ratios("nobn", "time_ratio")],
            [
                "`nobn` in `mixed_bfloat16`, time",
                *ratios("nobn bfloat16", "time_ratio"),
            ],
            ["`nobn`, peak memory", *ratios("nobn", "memory_ratio", peaks)],
            *shares,
        ],
    )


MARKS = {
    "a `nobn` step / its convolutions alone": ("nobn", "convolutions alone"),
    "the same in `mixed_bfloat16`": ("nobn bfloat16", "convolutions alone, bfloat16"),
    "the published code / a `nobn` step": ("published code", "nobn"),
    "the published code / one in `mixed_bfloat16`": ("published code", "nobn bfloat16"),
}


def marks(result):
    """Ratios of medians to what is not ours to make faster, and to other code."""
    sizes = result["sizes"]

    def ratio(of, pair):
        rows = {name: row["ms_quartiles"] for name, row in of["rows"].items()}
        upper, lower = ((rows | of["marks"]).get(name) for name in pair)
        return "-" if None in (upper, lower) else f"{upper[1] / lower[1]:.2f}"

    return table(
        ["", *sizes],
        [
            [said, *(ratio(of, pair) for of in sizes.values())]
            for said, pair in MARKS.items()
        ],
    )
