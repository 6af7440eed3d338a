"""Pre-activations of trained ReActNets, by stage.

Of each run, on 512 training images without augmentation, means over the binary
convolutions of a stage: the fraction of pre-activations in [-1, 1], where gradients
pass; the standard deviation of a channel (median over channels); and the fraction of
constant channels, those of which more than 95 % have one sign.

    python benchmarks/signs.py runs/nobn-w64-30+30-1 runs/batch_norm-w64-30+30-1
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import larq_nobn as nobn
import click
import numpy as np
from _drawing import steps
from _results import RESULTS, leave
from _signs import before_signs

IMAGES = 512


def by_stage(run):
    """Means over the binary convolutions of each stage of a finished run."""
    found = nobn.training.load_run(run)
    settings = found.record["settings"]
    batches = nobn.data.load(
        settings["dataset"],
        "train",
        batch_size=IMAGES,
        augment=False,
        validation=settings["validation"],
    )
    images = next(batches.as_numpy_iterator())[0]
    stages = defaultdict(list)
    for name, row in before_signs(found.model, images).items():
        stages[name.split("_")[0]].append(row)
    return {
        stage: {
            part: round(float(np.mean([row[part] for row in rows])), 4)
            for part in ("window", "deviation", "stuck")
        }
        for stage, rows in stages.items()
    }


@click.command()
@click.argument("runs", nargs=-1, required=True, type=Path)
def main(runs):
    rows = {run.name: by_stage(run) for run in runs}
    leave(RESULTS / "signs", __doc__, steps.signs, rows=rows)


if __name__ == "__main__":
    main()
