"""The search for a better recipe, on held-out training images."""

from __future__ import annotations

import statistics

from .markdown import table

MIRRORED = "crops from mirrored borders, in float32"
NAMES = {
    "nobn": "the recipe `nobn`",
    "batch_norm": "`batch_norm` as built, at learning rate 0.003",
    "batch_norm_centred": "the recipe `batch_norm`, of centred kernels",
    "batch_norm_clip_0.08": "that with clipping at 0.08",
    "batch_norm_rate_0.005": "that with learning rate 0.005",
    "batch_norm_float32": "the recipe `batch_norm`, in float32",
    "batch_norm_mirrored": f"the recipe `batch_norm`; {MIRRORED}",
    "batch_norm_rate_0.005_mirrored": (
        f"the recipe `batch_norm` at learning rate 0.005; {MIRRORED}"
    ),
    "batch_norm_latents_mirrored": (
        f"the recipe `batch_norm` with latents 30 times as large; {MIRRORED}"
    ),
    "alpha_0.2_vita": "α 0.2 and the published bookkeeping of variances",
    "alpha_0.2": "α 0.2",
    "alpha_1": "α 1",
    "latents_30": "latent kernels 30 times as large at the start",
    "latents_100": "latent kernels 100 times as large at the start",
    "latents_300": "latent kernels 300 times as large at the start",
    "shifts_1": "shifts and gains at the learning rate of the others",
    "beta_0.999": "β₂ 0.999",
    "clip_0.08": "clipping at 0.08",
    "clip_0.01": "clipping at 0.01",
    "sigmoid_sign": "the sigmoid estimator",
    "mean_magnitude": "kernels scaled by their mean magnitude",
    "rate_0.001": "learning rate 0.001",
    "rate_0.005": "learning rate 0.005",
    "rate_0.005_alpha_1": "that; α 1",
    "rate_0.005_sigmoid": "that; the sigmoid estimator",
    "rate_0.005_mean": "that; signs around the mean of a filter, not its median",
    "rate_0.005_mean_sigmoid": "that; means and the sigmoid estimator, in float32",
    "float32": "in float32",
    "mirrored": MIRRORED,
    "latents_30_mirrored": f"latents 30 times as large; {MIRRORED}",
    "rate_0.005_mirrored": f"learning rate 0.005; {MIRRORED}",
    "rate_0.005_shifts_mirrored": "that; shifts and gains as the others",
    "rate_0.01": "learning rate 0.01",
    "cosine": "a cosine in place of the linear decay",
    "warm_up": "a cosine behind one epoch of warm-up",
    "smoothing_0.1": "labels smoothed by 0.1",
    "decay": "decay of the latent kernels by 0.00001",
    "clip_beta": "clipping at 0.08 and β₂ 0.999",
    "clip_shifts": "clipping at 0.08; shifts and gains as the others",
    "clip_beta_shifts": "clipping at 0.08, β₂ 0.999; shifts and gains as the others",
    "clip_beta_latents": "clipping at 0.08, β₂ 0.999; latents 30 times as large",
    "clip_beta_shifts_latents": "all four",
}


BESIDE = ("against `nobn`", "training loss")
AVERAGES = ("trained", "0.99", "0.998")


def halving(result):
    """A row for each candidate; for each budget accuracy, difference, training loss."""
    found = result["runs"]
    budgets = sorted({epochs for of in found.values() for epochs in of}, key=int)
    return table(
        ["", *(cell for n in budgets for cell in (f"{n} epochs", *BESIDE))],
        [
            [NAMES[name], *(cell for n in budgets for cell in said(found, name, n))]
            for name in NAMES
            if found.get(name)
        ],
    )


def said(found, name, epochs):
    """Accuracies; the difference to the recipe of the same seeds; the last loss."""
    given = found[name].get(epochs, [])
    runs = lasts(given)
    if not runs:
        return "-", "", ""
    single = ", ".join(f"{each:.1f}" for each in runs.values())
    mean = f"{statistics.mean(runs.values()):.1f}"
    measure = lasts(found["nobn"].get(epochs, []))
    common = [runs[seed] - measure[seed] for seed in runs if seed in measure]
    change = f"{statistics.mean(common):+.1f}" if common and name != "nobn" else ""
    loss = f"{statistics.mean(run['training_loss'] for run in given):.3f}"
    return (f"{mean} ({single})" if len(runs) > 1 else mean), change, loss


def lasts(runs):
    return {run["seed"]: run["last"] for run in runs}


def averages(result):
    """A row for each run whose averages were measured, a column for each decay."""
    rows = [
        (name, epochs, run["averaged"])
        for name, of in result["runs"].items()
        for epochs, runs in of.items()
        for run in runs
        if "averaged" in run
    ]
    return table(
        ["", "epochs", *AVERAGES],
        [
            [NAMES[name], epochs, *(f"{found[each]:.1f}" for each in AVERAGES)]
            for name, epochs, found in rows
        ],
    )
