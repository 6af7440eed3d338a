"""How long a training step takes, and how much memory, under each normalization.

ReActNet-18 on 32x32 images as `larq-nobn train` builds it, all in one process, step by
step in turn, so that whatever else the machine does hits all alike; ratios of medians.
Peak memory is that of a process of its own each, from before the first step to the end
of the third, and with it what is there once the step is traced. In turn with the steps
run two marks: the network's convolutions alone, forward and both ways back; and, given
a clone of github.com/VITA-Group/BNN_NoBN with PyTorch in its `.venv`, the published
code.

    python benchmarks/train_step.py --published runs/BNN_NoBN
    python benchmarks/train_step.py --rounds 5 --output runs/look      # a quick look
"""

from __future__ import annotations

import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import larq_nobn as nobn
import click
import numpy as np
import tensorflow as tf
from _drawing import cost
from _marks import PUBLISHED_WIDTH, Published, convolutions_alone
from _results import leave, output, quartiles

SIZES = {"width 16, batch 128": (16, 128), "width 64, batch 32": (64, 32)}
# Of this only the memory is measured: a step takes long.
LARGE = "width 64, batch 128"
UNCLIPPED = {"clip_factor": 0.0}
UNBALANCED = {"network": {"balanced": False}}
# name: normalization, recipe, precision, and what is changed of the recipe
VARIANTS = {
    "batch_norm": ("batch_norm", "batch_norm", "float32", {}),
    "none": ("none", "none", "float32", {}),
    "nobn": ("nobn", "nobn", "float32", {}),
    "nobn without clipping": ("nobn", "nobn", "float32", UNCLIPPED),
    "nobn without balanced filters": ("nobn", "nobn", "float32", UNBALANCED),
    "nobn, recipe plain": ("nobn", "plain", "float32", {}),
    "batch_norm, recipe plain": ("batch_norm", "plain", "float32", {}),
    "batch_norm bfloat16": ("batch_norm", "batch_norm", "mixed_bfloat16", {}),
    "nobn bfloat16": ("nobn", "nobn", "mixed_bfloat16", {}),
}
UNBALANCED_BFLOAT16 = "nobn bfloat16 without balanced filters"
VARIANTS[UNBALANCED_BFLOAT16] = ("nobn", "nobn", "mixed_bfloat16", UNBALANCED)
# The fraction of a step: of the first variant, what the second one leaves out.
SHARES = {
    "clipping": ("nobn", "nobn without clipping"),
    "balanced filters": ("nobn", "nobn without balanced filters"),
    "balanced filters, bfloat16": ("nobn bfloat16", UNBALANCED_BFLOAT16),
}


# The marks: whose convolutions run alone, and what the published code does beside.
ALONE = {"convolutions alone": "nobn", "convolutions alone, bfloat16": "nobn bfloat16"}
PUBLISHED = "published code"


def started(width, batch, normalization, recipe, precision, changes):
    """A network and what trains it, as `larq-nobn train` starts."""
    chosen = {"normalization": normalization, "precision": precision, "width": width}
    # Where the weights start changes no time, and would need the data set.
    chosen |= {"batch_size": batch, "calibrate": False, **changes}
    settings = nobn.training.RunSettings.from_recipe(recipe, **chosen)
    images = np.zeros((max(10, batch), 32, 32, 3), np.uint8)
    part = images, np.arange(len(images)) % 10
    trainer = nobn.training.Trainer(settings, (part, part), output="unused")
    return trainer.build(), trainer.model


def make_step(width, batch, *variant):
    """A compiled training step on one random batch."""
    _, trainee = started(width, batch, *variant)
    images = tf.random.stateless_normal((batch, 32, 32, 3), (0, 1))
    labels = tf.range(batch) % 10
    step = trainee.make_train_function()
    batches = iter(tf.data.Dataset.from_tensors((images, labels)).repeat())

    def run():
        return step(batches)["loss"].numpy()

    run.trace = partial(step.get_concrete_function, batches)
    return run


def make_marks(width, batch, published):
    marks = {}
    for name, variant in ALONE.items():
        network, _ = started(width, batch, *VARIANTS[variant])
        marks[name] = convolutions_alone(network, batch, VARIANTS[variant][2])
    if published is not None and width == PUBLISHED_WIDTH:
        marks[PUBLISHED] = Published(published, batch)
    return marks


def resident(field):
    """VmRSS or VmHWM of this process, in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith(field))
    return int(line.split()[1]) / 1024


def measure_memory(width, batch, *variant):
    step = make_step(width, batch, *variant)
    before = resident("VmRSS")
    step.trace()
    traced = resident("VmRSS") - before
    for _ in range(3):
        step()
    return {"peak_mb": resident("VmHWM") - before, "traced_mb": traced}


def memory_of(*step):
    """In a fresh process: allocators keep what an earlier variant needed."""
    with ProcessPoolExecutor(1, get_context("spawn")) as process:
        measured = process.submit(measure_memory, *step).result()
    return {what: round(megabytes, 1) for what, megabytes in measured.items()}


def with_ratios(rows):
    base = rows["batch_norm"]["peak_mb"]
    for row in rows.values():
        row["memory_ratio"] = round(row["peak_mb"] / base, 3)
    return rows


def alternate(steps, rounds):
    """Seconds of every timed step of each, all taking turns after two untimed ones."""
    for step in steps.values():
        step()
        step()
    seconds = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            seconds[name].append(time.perf_counter() - start)
    return seconds


@click.command()
@click.option("--rounds", default=40, show_default=True, help="Timed steps of each.")
@click.option("--published", type=Path, help="The clone; left out: without it.")
@output("train_step")
def main(rounds, published, output):
    sizes = {size: measure(*of, rounds, published) for size, of in SIZES.items()}
    names = ("batch_norm", "none", "nobn")
    large = with_ratios({n: memory_of(64, 128, *VARIANTS[n]) for n in names})
    measured = {"rounds": rounds, "sizes": sizes, "memory": {LARGE: large}}
    leave(output, __doc__, cost.train_step, seed=0, **measured)


def measure(width, batch, rounds, published):
    """Times, memory, shares and marks at one size."""
    steps = {name: make_step(width, batch, *v) for name, v in VARIANTS.items()}
    marks = make_marks(width, batch, published)
    seconds = alternate(steps | marks, rounds)
    outside = marks.get(PUBLISHED)
    if outside is not None:
        outside.close()
    median = {name: statistics.median(s) for name, s in seconds.items()}
    rows = {
        name: {
            "ms_quartiles": quartiles(seconds[name]),
            "time_ratio": round(median[name] / median["batch_norm"], 3),
            **memory_of(width, batch, *VARIANTS[name]),
        }
        for name in VARIANTS
    }
    # Paired, round by round: the shares are small beside the machine's noise.
    shares = {
        name: statistics.median(
            1 - without / whole
            for whole, without in zip(*map(seconds.get, pair), strict=True)
        )
        for name, pair in SHARES.items()
    }
    return {
        "rows": with_ratios(rows),
        "shares": {name: round(share, 3) for name, share in shares.items()},
        "marks": {name: quartiles(seconds[name]) for name in marks},
        "published": outside and outside.versions,
    }


if __name__ == "__main__":
    main()
