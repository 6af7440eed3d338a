"""Networks trained in bfloat16, computing in float32 as their files do.

Of every run in the folder, on all test images: the accuracy as it was trained, that of
the same weights in float32, which `convert` verifies the file against, and the share of
images that both give the same class.

    python benchmarks/half_precision.py --folder runs/evidence/budgets_bfloat16
"""

from __future__ import annotations

from pathlib import Path

import larq_nobn as nobn
import click
import numpy as np
from _drawing import trained
from _results import RESULTS, command, machine, versions, write, write_log
from larq_nobn.deploy.prepare import in_float32


def compared(folder):
    """What the network of a run makes of the test images, in either precision."""
    run = nobn.training.load_run(folder)
    said = run.record["settings"]
    images = nobn.data.load(said["dataset"], "test", 250)
    chosen = []

    def accuracy(model):
        taken = []
        found = nobn.training.evaluate(
            model, images, each=lambda *batch: taken.append(batch[2].argmax(1))
        )
        chosen.append(np.concatenate(taken))
        return round(100 * found["accuracy"], 2)

    return {
        **{name: said[name] for name in ("normalization", "epochs", "seed")},
        said["precision"]: accuracy(run.model),
        "float32": accuracy(in_float32(run.model)),
        "same_class": round(100 * float(np.mean(chosen[0] == chosen[1])), 2),
    }


@click.command()
@click.option("--folder", type=Path, required=True, help="Where the runs are.")
@click.option("--output", type=Path, default=RESULTS / "half_precision")
def main(folder, output):
    rows = {}
    for run in sorted(folder.glob("*/run.json")):
        rows[run.parent.name] = compared(run.parent)
        print(run.parent.name, rows[run.parent.name], flush=True)
    result = {
        "command": command(),
        "machine": machine(),
        "versions": versions(),
        "rows": rows,
    }
    write(result, output / "result.json")
    said = result["command"], __doc__.splitlines()[0], result["machine"]
    write_log(output, *said, tables=trained.half_precision(result))


if __name__ == "__main__":
    main()
