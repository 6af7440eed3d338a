"""The search for a better recipe: successive halving on held-out training images.

ReActNet-18 of width 16 on CIFAR-10 by the recipe `nobn`, with crops from black borders
as it had them then, and one thing changed; with batch norm beside it. Trained on 45,000
of the training images and measured on the other 5,000; test images have no part in it.
The best go on to more epochs, named by `--only`. Of every run also the moving averages
of its weights are measured, which have no influence on it. What has its log in
`--output` is not repeated; the same command given twice shares the work between two
processes, of which the last to end writes the whole table.

    python benchmarks/halving.py --epochs 10 --folder runs/halving
"""

from __future__ import annotations

import json
from pathlib import Path

import larq_nobn as nobn
import click
from _averages import MovingAverages
from _drawing import halving
from _held_out import HELD_OUT, split
from _results import RESULTS, command, machine, versions, write, write_log
from _runs import history, reached

IMAGES = 50_000 - HELD_OUT
FASTER = {"learning_rate": 5e-3}
SIGMOID = {"estimator": "sigmoid_sign"}
MEAN = {"balanced": False}
FLOAT32 = {"precision": "float32"}
MIRRORED = {"reflect": True, **FLOAT32}
CLIP_BETA = {"clip_factor": 0.08, "beta_2": 0.999}
# In the order of what was hoped of them; recipe, and what is chosen otherwise.
CANDIDATES = {
    "nobn": ("nobn", {}),
    "alpha_0.2_vita": ("nobn", {"network": {"alpha": 0.2, "variance_rule": "vita"}}),
    "batch_norm": ("plain", {"normalization": "batch_norm", "learning_rate": 3e-3}),
    "latents_30": ("nobn", {"latent_scale": 30.0}),
    "batch_norm_centred": ("batch_norm", {}),
    "shifts_1": ("nobn", {"shift_multiplier": 1.0}),
    "beta_0.999": ("nobn", {"beta_2": 0.999}),
    "clip_0.08": ("nobn", {"clip_factor": 0.08}),
    "batch_norm_clip_0.08": ("batch_norm", {"clip_factor": 0.08}),
    "sigmoid_sign": ("nobn", {"network": SIGMOID}),
    "mean_magnitude": ("nobn", {"network": {"variance_preserving": False}}),
    "rate_0.001": ("nobn", {"learning_rate": 1e-3}),
    "alpha_0.2": ("nobn", {"network": {"alpha": 0.2}}),
    "alpha_1": ("nobn", {"network": {"alpha": 1.0}}),
    "cosine": ("nobn", {"schedule": "cosine"}),
    "clip_0.01": ("nobn", {"clip_factor": 0.01}),
    "rate_0.005": ("nobn", FASTER),
    "rate_0.01": ("nobn", {"learning_rate": 1e-2}),
    "batch_norm_rate_0.005": ("batch_norm", FASTER),
    "rate_0.005_alpha_1": ("nobn", {**FASTER, "network": {"alpha": 1.0}}),
    "rate_0.005_sigmoid": ("nobn", {**FASTER, "network": SIGMOID}),
    "rate_0.005_mean": ("nobn", {**FASTER, "network": MEAN}),
    "rate_0.005_mean_sigmoid": (
        "nobn",
        {**FASTER, "network": MEAN | SIGMOID, **FLOAT32},
    ),
    "float32": ("nobn", FLOAT32),
    "batch_norm_float32": ("batch_norm", FLOAT32),
    "mirrored": ("nobn", MIRRORED),
    "batch_norm_mirrored": ("batch_norm", MIRRORED),
    "batch_norm_latents_mirrored": ("batch_norm", {"latent_scale": 30.0, **MIRRORED}),
    "latents_30_mirrored": ("nobn", {"latent_scale": 30.0, **MIRRORED}),
    "rate_0.005_mirrored": ("nobn", {**FASTER, **MIRRORED}),
    "batch_norm_rate_0.005_mirrored": ("batch_norm", {**FASTER, **MIRRORED}),
    "rate_0.005_shifts_mirrored": (
        "nobn",
        {**FASTER, **MIRRORED, "shift_multiplier": 1.0},
    ),
    "latents_100": ("nobn", {"latent_scale": 100.0}),
    "latents_300": ("nobn", {"latent_scale": 300.0}),
    "smoothing_0.1": ("nobn", {"label_smoothing": 0.1}),
    "warm_up": ("nobn", {"schedule": "cosine", "warmup_epochs": 1}),
    "decay": ("nobn", {"weight_decay": 1e-5}),
    "clip_beta": ("nobn", CLIP_BETA),
    "clip_shifts": ("nobn", {"clip_factor": 0.08, "shift_multiplier": 1.0}),
    "clip_beta_shifts": ("nobn", {**CLIP_BETA, "shift_multiplier": 1.0}),
    "clip_beta_latents": ("nobn", {**CLIP_BETA, "latent_scale": 30.0}),
    "clip_beta_shifts_latents": (
        "nobn",
        {**CLIP_BETA, "shift_multiplier": 1.0, "latent_scale": 30.0},
    ),
}


def measured(folder, output, images, name, epochs, seed):
    """The last accuracy in % of the held-out images, and those of averaged weights.

    None if the run is not there. Without images nothing is trained, and with them not
    what another process trains.
    """
    run = folder / f"{name}-{epochs}-{seed}"
    kept = output / run.name
    recipe, chosen = CANDIDATES[name]
    usual = {"width": 16, "precision": "mixed_bfloat16", "reflect": False}
    chosen = {**usual, **chosen}
    settings = nobn.training.RunSettings.from_recipe(
        recipe, epochs=epochs, seed=seed, **chosen
    )
    averages = MovingAverages(epochs * (IMAGES // settings.batch_size))
    train = images is not None
    found = history(settings, run, kept, train, lambda: images, averages)
    if averages.complete:
        trained = nobn.training.load_run(run)
        write(averages.accuracies(trained, images[1]), kept / "averages.json")
    if found is None:
        return None
    loss = round(found[-1]["loss"], 4)
    last = {"seed": seed, "last": reached(found), "training_loss": loss}
    for file in kept.glob("averages.json"):
        last["averaged"] = json.loads(file.read_text(encoding="utf-8"))
    print(run.name, last, flush=True)
    return last


@click.command()
@click.option("--epochs", default=10, show_default=True)
@click.option("--seeds", default="100", show_default=True, help="Between commas.")
@click.option("--only", default="", help="Candidates between commas; all if empty.")
@click.option("--folder", type=Path, required=True, help="Where the runs go.")
@click.option("--train/--no-train", default=True, help="Or only what is finished.")
@click.option("--output", type=Path, default=RESULTS / "halving", show_default=True)
def main(epochs, seeds, only, folder, train, output):
    images = split() if train else None
    names = only.split(",") if only else list(CANDIDATES)
    for seed in map(int, seeds.split(",")):
        for name in names if train else ():
            measured(folder, output, images, name, epochs, seed)
    found = {name: {} for name in CANDIDATES}
    for run in sorted(output.glob("*-*-*")):
        name, epochs, seed = run.name.rsplit("-", 2)
        last = measured(folder, output, None, name, int(epochs), int(seed))
        if last is not None:
            found[name].setdefault(epochs, []).append(last)
    result = {
        "command": command(),
        "machine": machine(),
        "versions": versions(),
        "held_out": HELD_OUT,
        "runs": found,
    }
    write(result, output / "result.json")
    lines = result["command"], __doc__.splitlines()[0], result["machine"]
    tables = halving.halving(result), halving.averages(result)
    write_log(output, *lines, tables="\n\n".join(tables))


if __name__ == "__main__":
    main()
