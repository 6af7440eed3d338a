"""Trains what `accelerator.py export` wrote, on any device of JAX.

Needs NumPy and JAX, no TensorFlow. Writes a `.npz` file of the trained weights by name,
and `history`, a JSON text. A second stage starts from the weights of the first.

    python benchmarks/accelerator_epochs.py runs/job weights.npz
"""

from __future__ import annotations

import argparse
import json
import lzma
import time
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
    for name, shape, dtype in job["state"]:
        if name in before:
            state[name] = before[name]
        elif name in job["drawn"]:
            state[name] = drawn(job["drawn"][name], shape, job["seed"])
        else:  # zeros were left out
            state[name] = values.get(name, np.zeros(shape, dtype))
    return state


def epochs_of(job, count):
    """Order and draws of each epoch: numbers of images; top, left, mirrored."""
    rng, shape = np.random.default_rng(job["seed"]), tuple(job["order"])
    for _ in range(job["epochs"]):
        order = rng.permutation(count)[: shape[0] * shape[1]].reshape(shape)
        draws = rng.integers(0, 2 * job["pad"] + 1, (*shape, 3), np.int32)
        draws[..., 2] = rng.integers(0, 2, shape) * job["flip"]
        yield order.astype(np.int32), draws


def train(folder, before, averaged=1):
    """Returns the trained weights, and a row of the history for each epoch.

    The weights are the mean of those after each of the last `averaged` epochs.
    """
    import jax
    from jax._src.lib import xla_client

    jax.config.update("jax_enable_x64", True)  # counters of steps
    device = jax.devices()[0]
    job = json.loads((folder / "job.json").read_text())
    text = lzma.decompress((folder / "epoch.mlir.xz").read_bytes()).decode()
    compiled = device.client.compile_and_load(
        text, xla_client.DeviceList((device,)), xla_client.CompileOptions()
    )

    def put(value):
        return jax.device_put(np.asarray(value), device)

    with np.load(folder / "images.npz") as data:
        images, labels = put(data["images"]), put(data["labels"].astype(np.int32))
    state = initial_state(job, folder, before)
    state = {name: put(value) for name, value in state.items()}
    weights = {name: 0.0 for name in state if name.startswith("weights/")}
    rows = []
    for order, draws in epochs_of(job, len(labels)):
        started = time.perf_counter()
        found = compiled.execute_sharded(
            [images, labels, put(order), put(draws), *state.values()]
        ).disassemble_into_single_device_arrays()
        # An epoch returns its metrics, and what it has changed.
        values = [each[0] for each in found]
        metrics = dict(zip(job["metrics"], map(float, values), strict=False))
        state |= dict(zip(job["changed"], values[len(metrics) :], strict=True))
        seconds = round(time.perf_counter() - started, 3)
        row = {"epoch": len(rows) + 1, **metrics, "seconds": seconds}
        rows.append(row)
        print(row, flush=True)
        if not np.isfinite(row["loss"]):
            raise SystemExit("The loss is not finite. Choose a lower learning rate.")
        if len(rows) > job["epochs"] - averaged:
            for name in weights:
                weights[name] += np.asarray(state[name]) / averaged
    return weights, rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("job", type=Path, help="folder of accelerator.py export")
    parser.add_argument("weights", type=Path, help=".npz file to write")
    parser.add_argument("--start", type=Path, help=".npz file of a first stage")
    text = "average the weights after so many last epochs"
    parser.add_argument("--average", type=int, default=1, help=text)
    chosen = parser.parse_args()
    before = {}
    if chosen.start:
        with np.load(chosen.start) as found:
            before = {name: found[name] for name in found.files if name != "history"}
    weights, rows = train(chosen.job, before, chosen.average)
    with chosen.weights.open("wb") as stream:
        np.savez_compressed(stream, history=np.array(json.dumps(rows)), **weights)


if __name__ == "__main__":
    main()
