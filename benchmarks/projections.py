"""Real-valued 1x1 projections against binary ones, in the file of LCE.

A ReActNet-18 is converted with both kinds of kernel in its shortcuts, and the file's
constants are read: what type the 1x1 convolutions have, and how many bytes.

    python benchmarks/projections.py
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import larq_nobn as nobn
import click
import numpy as np
import tensorflow as tf
from _drawing import projections as drawing
from _levers import Levers
from _results import RESULTS, leave
from larq_nobn.deploy.lite._file import read, read_file

KINDS = {"binary": Levers(), "real-valued": Levers(real_projections=True)}
SHAPE = (32, 32, 3)


WIDTHS = (16, 64)
NORMALIZATIONS = ("nobn", "batch_norm")


def measured(normalization, width, levers, path):
    tf.keras.utils.set_random_seed(0)
    model = nobn.models.ReActNet18(SHAPE, 10, normalization, width)
    model = levers.changed(model, normalization)
    images = np.random.default_rng(0).normal(size=(4, *SHAPE)).astype(np.float32)
    nobn.convert(model, path, data=images)
    found = nobn.audit(path)
    kernels = list(projections_in(path))
    return {
        "bytes": found.size_bytes,
        "binary_convolutions": found.lce_bconv2d,
        "float_operations": sum(op["count"] for op in found.float_ops),
        "projections": len(kernels),
        "types": sorted({kernel.dtype for kernel in kernels}),
        "projection_bytes": sum(kernel.bytes for kernel in kernels),
    }


def projections_in(path):
    """Kernels of the 1x1 convolutions of a file that TensorFlow Lite computes."""
    for graph in read(read_file(path), str(path)):
        for operation in graph.operations:
            if operation.op == "CONV_2D":
                kernel = operation.inputs[1]
                if kernel.shape[1:3] == (1, 1):
                    yield kernel


@click.command(help=__doc__.partition("\n")[0])
@click.option("--output", type=Path, default=RESULTS / "levers/projections")
def main(output):
    rows = {}
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "model.tflite"
        for width in WIDTHS:
            for name in NORMALIZATIONS:
                for kind, levers in KINDS.items():
                    row = f"`{name}`, width {width}, {kind}"
                    rows[row] = measured(name, width, levers, path)
                    print(row, rows[row], flush=True)
    leave(output, __doc__, drawing.projections, rows=rows)


if __name__ == "__main__":
    main()
