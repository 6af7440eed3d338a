"""What the time of a training step goes into.

A step of ReActNet-18 by the recipe `nobn` as `larq-nobn train` builds it, on random
images, by TensorFlow's profiler: the time of its operations, which run one after the
other here, each on all cores, in shares of the step. A chain of elementwise operations
that is compiled counts as one.

    python benchmarks/step_profile.py
"""

from __future__ import annotations

import re
import tempfile
import time
from pathlib import Path

import larq_nobn  # noqa: F401  first: it selects legacy Keras
import click
import tensorflow as tf
from _drawing import cost
from _results import RESULTS, command, machine, versions, write, write_log
from tensorflow.tsl.profiler.protobuf.xplane_pb2 import XSpace
from train_step import SIZES, VARIANTS, make_step

PRECISIONS = {"float32": "nobn", "bfloat16": "nobn bfloat16"}
# What an operation is for: the first whose pattern is in "name:type" of the operation
# or, for a compiled chain, in the name of its function.
PARTS = {
    "convolutions": r"Conv2D\w*$",
    "clipping and Adam": r"^(adaptive_gradient_clipping|Adam)/",
    "binary kernels from latent ones, with gradients": (
        r"_kernel/|^(_next|squared_offset|_affine|signed|product)$"
    ),
    "signs and RPReLUs, with gradients": r"^(_value|_products|d_x)$",
    "sums over maps: gradients of shifts and slopes": r":Sum$",
    "padding by ones, with gradients": r":(PadV2|Slice)$",
    "shortcuts and pooling, with gradients": r"(_add/add:|:AddN|AvgPool\w*|/pool/)",
    "casts": r":Cast$",
}
REST = "the rest, and between operations"
# A compiled chain is called by an operation that the profiler does not name.
_CHAIN = "ExecutorState::ProcessAsync::Start"


def timed(step, steps):
    """Seconds of one of them."""
    begin = time.perf_counter()
    for _ in range(steps):
        step()
    return (time.perf_counter() - begin) / steps


def profiled(step, steps):
    """Seconds of a step, and of the operations in it by what they are for."""
    timed(step, 3)
    with tempfile.TemporaryDirectory() as folder:
        tf.profiler.experimental.start(folder)
        whole = timed(step, steps)
        tf.profiler.experimental.stop()
        (file,) = Path(folder).rglob("*.xplane.pb")
        space = XSpace.FromString(file.read_bytes())
    found = dict.fromkeys(PARTS, 0.0)
    for name, seconds in operations(space):
        for part, pattern in PARTS.items():
            if re.search(pattern, name):
                found[part] += seconds / steps
                break
    return whole, found


def operations(space):
    """Pairs of name and seconds."""
    (host,) = (plane for plane in space.planes if plane.name == "/host:CPU")
    names = {of.id: of.name for of in host.event_metadata.values()}
    stats = {of.id: of.name for of in host.stat_metadata.values()}
    for line in host.lines:
        if not line.name.startswith("tf_Compute"):
            continue
        chain = None
        for event in sorted(line.events, key=lambda e: (e.offset_ps, -e.duration_ps)):
            name = names[event.metadata_id]
            if name == _CHAIN:
                chain = event
            elif re.search(r"[^:]:\w+$", name):
                yield name, event.duration_ps / 1e12
            elif chain is not None and (function := module(event, stats)):
                yield function, chain.duration_ps / 1e12
                chain = None


def module(event, stats):
    """The compiled function of what is inside a chain, without prefix and number."""
    for stat in event.stats:
        if stats[stat.metadata_id] == "hlo_module":
            said = stat.str_value or stats[stat.ref_value]
            return re.sub(r"^a_inference_|_\d+__.*", "", said)
    return None


@click.command()
@click.option("--steps", default=20, show_default=True, help="Profiled steps of each.")
@click.option(
    "--output", type=Path, default=RESULTS / "step_profile", show_default=True
)
def main(steps, output):
    tf.config.threading.set_inter_op_parallelism_threads(1)
    columns = {}
    for size, (width, batch) in SIZES.items():
        for precision, variant in PRECISIONS.items():
            step = make_step(width, batch, *VARIANTS[variant])
            seconds, found = profiled(step, steps)
            shares = {part: of / seconds for part, of in found.items()}
            shares[REST] = 1 - sum(shares.values())
            columns[f"{size}, {precision}"] = {
                "ms": round(1e3 * seconds, 1),
                "shares": {part: round(share, 4) for part, share in shares.items()},
            }
    result = {
        "command": command(),
        "machine": machine(),
        "versions": versions(),
        "steps": steps,
        "columns": columns,
    }
    write(result, output / "result.json")
    said = result["command"], __doc__.splitlines()[0], result["machine"]
    write_log(output, *said, tables=cost.step_profile(result))


if __name__ == "__main__":
    main()
