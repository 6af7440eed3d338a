"""How each method trains best, chosen on held-out training images."""

from __future__ import annotations

import statistics

from .markdown import table


def tuning(result):
    """A row for each method and form, a column for each rate; best in bold."""
    measured = result["accuracies"]
    rates = sorted({each["learning_rate"] for of in measured.values() for each in of})
    return table(
        ["", "", *(f"{rate:g}" for rate in rates)],
        [
            [f"`{name}`", form, *(said(found, form, rate) for rate in rates)]
            for name, found in measured.items()
            for form in dict.fromkeys(each["form"] for each in found)
        ],
    )


def said(found, form, rate):
    fitting = [e for e in found if (e["form"], e["learning_rate"]) == (form, rate)]
    if not fitting:
        return "-"
    (candidate,) = fitting
    return mean_of(candidate["reached"], bold=candidate is chosen(found))


def mean_of(reached, *, bold=False):
    """Mean over seeds, and each of them if there are several."""
    mean = f"{statistics.mean(reached):.1f}"
    mean = f"**{mean}**" if bold else mean
    single = ", ".join(f"{each:.1f}" for each in reached)
    return f"{mean} ({single})" if len(reached) > 1 else mean


def chosen(found):
    """The candidate of the highest mean, of those that were trained most often."""
    most = max(len(each["reached"]) for each in found)
    often = [each for each in found if len(each["reached"]) == most]
    return max(often, key=lambda each: statistics.mean(each["reached"]))


def init_and_placement(result):
    """A row for each method: as chosen, and with each change; a dash was not run."""
    columns = ("chosen", "latents", "branches", "both")
    return table(
        ["", "as chosen", "larger latents", "norms in branches only", "both"],
        [
            [f"`{name}`", *(mean_of(row[c]) if c in row else "-" for c in columns)]
            for name, row in result["rows"].items()
        ],
    )


def first_signs(result):
    """A row for each normalization: its signs as built, and calibrated."""
    forms = ("fresh", "calibrated")
    return table(
        ["", "as built", "stuck", "calibrated", "stuck"],
        [
            [f"`{name}`", *(cell for form in forms for cell in one_sided(row, form))]
            for name, row in result["rows"].items()
        ],
    )


def one_sided(row, form):
    if form not in row:
        return ["-", "-"]
    return [f"{row[form]['mean']:.2f}", f"{row[form]['stuck']:.0%}"]
