"""Binary weights with a posterior, and heads whose class vectors are symmetric."""

from __future__ import annotations

import statistics

from .markdown import spread, table

MEASURES = ("test accuracy, %", "calibration error, %")


def posterior(result):
    return table(
        ["data", "network", "trained by", "predicts", "accuracy", "calibration error"],
        [
            [data, form, kernel, which, *map(spread, zip(*of, strict=True))]
            for data, forms in result["rows"].items()
            for form, rows in forms.items()
            for (kernel, which), of in _by_kernel(rows)
        ],
    )


def posterior_panels(result):
    """For `pictures.dots`: a row per network, a colour per way to train and predict."""
    panels = {measure: {} for measure in MEASURES}
    for data, forms in result["rows"].items():
        for form, rows in forms.items():
            for (kernel, which), of in _by_kernel(rows):
                pairs = zip(MEASURES, zip(*of, strict=True), strict=True)
                for measure, values in pairs:
                    middle = min(values), statistics.mean(values), max(values)
                    series = panels[measure].setdefault(f"{kernel}, {which}", {})
                    series[f"{data}, {form}"] = middle
    return panels


def _by_kernel(rows):
    for kernel, predictions in rows.items():
        for which, of in predictions.items():
            yield (kernel, which), of


def heads(result):
    return table(
        [
            *("data", "head", "accuracy"),
            *("std over the last epochs", "std over seeds"),
            *("alignment", "of the worst class"),
        ],
        [
            [
                *name.split("-"),
                spread(each["accuracy"]),
                f"{statistics.mean(each['epoch_std']):.2f}",
                f"{statistics.pstdev(each['accuracy']):.2f}",
                f"{statistics.mean(each['alignment']):.2f}",
                f"{statistics.mean(each['alignment_min']):.2f}",
            ]
            for name, each in _columns(result).items()
        ],
    )


def _columns(result):
    return {
        name: {key: [run[key] for run in runs] for key in runs[0]}
        for name, runs in result["rows"].items()
    }
