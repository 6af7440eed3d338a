"""Trains what `accelerator.py export` wrote, on any device of JAX.

Needs NumPy and JAX, no TensorFlow. Writes a `.npz` file of the trained weights by name,
and `history`, a JSON text. Of two stages the first is trained before.

    python benchmarks/accelerator_epochs.py runs/job weights.npz
"""

from __future__ import annotations

import argparse
import json
import lzma
import time
from functools import cache
from pathlib import Path

import numpy as np


def drawn(place, shape, seed):
    """Uniform numbers for one kernel; `place` is its number, lowest and highest."""
    number, low, high = place
    found = np.random.default_rng([seed, number]).random(tuple(shape), np.float32)
    return np.float32(low) + np.float32(high - low) * found


def initial_state(job, folder, before):
    """Values by name at the first step; `before` has those of a first stage."""
    with np.load(folder / "state.npz") as found:
        values = dict(found)
    state = {}
    for name, shape, dtype in job["state"] + job.get("evaluation", []):
        if name in state:  # an evaluation takes what an epoch does
            continue
        if name in before:
            state[name] = before[name]
        elif name in job["drawn"]:
            state[name] = drawn(job["drawn"][name], shape, job["seed"])
        else:  # zeros were left out
            state[name] = values.get(name, np.zeros(shape, dtype))
    return state


def epochs_of(job, count):
    """Order and draws of each epoch: numbers of images; top, left, mirrored, bits."""
    rng, shape = np.random.default_rng(job["seed"]), tuple(job["order"])
    for _ in range(job["epochs"]):
        order = rng.permutation(count)[: shape[0] * shape[1]].reshape(shape)
        draws = rng.integers(0, 2 * job["pad"] + 1, (*shape, 3), np.int32)
        draws[..., 2] = rng.integers(0, 2, shape) * job["flip"]
        if further := job["columns"] - 3:
            bits = rng.integers(0, 2**24, (*shape, further), np.int32)
            draws = np.concatenate([draws, bits], -1)
        yield order.astype(np.int32), draws


class Program:
    """A function that was exported, on one device."""

    def __init__(self, file, places):
        from jax._src.lib import xla_client

        device = the_device()
        self._names = [name for name, *_ in places]
        self._compiled = device.client.compile_and_load(
            lzma.decompress(file.read_bytes()).decode(),
            xla_client.DeviceList((device,)),
            xla_client.CompileOptions(),
        )

    def __call__(self, arguments, state):
        """Calls it with its arguments, and with what it takes of a state."""
        found = self._compiled.execute_sharded(
            [*arguments, *(state[name] for name in self._names)]
        )
        return [each[0] for each in found.disassemble_into_single_device_arrays()]


@cache
def the_device():
    import jax

    jax.config.update("jax_enable_x64", True)  # counters of steps
    return jax.devices()[0]


def put(value):
    import jax

    return jax.device_put(np.asarray(value), the_device())


def train(folder):
    """Returns the trained weights, and a row of the history for each epoch.

    A second stage starts from the weights of the first.
    """
    first = folder / "stage1"
    before = train(first)[0] if first.exists() else {}
    job = json.loads((folder / "job.json").read_text())
    epoch = Program(folder / "epoch.mlir.xz", job["state"])
    with np.load(folder / job["images"]) as data:
        images, labels = put(data["images"]), put(data["labels"].astype(np.int32))
        if "evaluation" in job:
            evaluation = Program(folder / "evaluation.mlir.xz", job["evaluation"])
            numbers = data["held_out_labels"].astype(np.int32)
            held_out = [put(data["held_out"]), put(numbers)]
    state = initial_state(job, folder, before)
    state = {name: put(value) for name, value in state.items()}
    rows = []
    for order, draws in epochs_of(job, len(labels)):
        started = time.perf_counter()
        # An epoch returns its metrics, and what it has changed.
        values = epoch([images, labels, put(order), put(draws)], state)
        metrics = dict(zip(job["metrics"], map(float, values), strict=False))
        state |= dict(zip(job["changed"], values[len(metrics) :], strict=True))
        seconds = round(time.perf_counter() - started, 3)
        if "evaluation" in job:
            accuracy, loss, *sums = evaluation(held_out, state)
            metrics |= {"val_accuracy": float(accuracy), "val_loss": float(loss)}
            # Those of the metrics, which it was given, are gone.
            names = (name for name, *_ in job["evaluation"])
            given = (name for name in names if name.startswith("metrics/"))
            state |= dict(zip(given, sums, strict=True))
        row = {"epoch": len(rows) + 1, **metrics, "seconds": seconds}
        rows.append(row)
        print(row, flush=True)
        if not np.isfinite(row["loss"]):
            raise SystemExit("The loss is not finite. Choose a lower learning rate.")
    weights = (name for name in state if name.startswith("weights/"))
    return {name: np.asarray(state[name]) for name in weights}, rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("job", type=Path, help="folder of accelerator.py export")
    parser.add_argument("weights", type=Path, help=".npz file to write")
    chosen = parser.parse_args()
    weights, rows = train(chosen.job)
    with chosen.weights.open("wb") as stream:
        np.savez_compressed(stream, history=np.array(json.dumps(rows)), **weights)


if __name__ == "__main__":
    main()
