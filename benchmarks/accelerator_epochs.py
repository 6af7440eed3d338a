"""Trains what `accelerator.py export` wrote, on any device of JAX.

Needs NumPy and JAX, no TensorFlow. Writes a `.npz` file of the trained weights by name,
and `history`, a JSON text. A second stage starts from the weights of the first.

    python benchmarks/accelerator_epochs.py runs/job weights.npz --epochs 30
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


def initial_state(job, folder, epochs, seed, before):
    """Values by name at the first step; `before` has those of a first stage."""
    with np.load(folder / f"state-{seed}.npz") as found:
        values = dict(found)
    state = {}
    for name, shape, dtype in job["state"]:
        if name in before:
            state[name] = before[name]
        elif name in job["drawn"]:
            state[name] = drawn(job["drawn"][name], shape, seed)
        else:  # zeros were left out
            state[name] = values.get(name, np.zeros(shape, dtype))
    steps = epochs * job["order"][0]
    state["slope"] = np.array([job["learning_rate"], steps], np.float32)
    return state


def epochs_of(job, count, epochs, seed):
    """Order and draws of each epoch: numbers of images; top, left, mirrored."""
    rng, shape = np.random.default_rng(seed), tuple(job["order"])
    for _ in range(epochs):
        order = rng.permutation(count)[: shape[0] * shape[1]].reshape(shape)
        draws = rng.integers(0, 2 * job["pad"] + 1, (*shape, 3), np.int32)
        draws[..., 2] = rng.integers(0, 2, shape) * job["flip"]
        yield order.astype(np.int32), draws


def train(folder, epochs, seed, before):
    """Returns the trained weights, and a row of the history for each epoch."""
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
    state = initial_state(job, folder, epochs, seed, before)
    state = {name: put(value) for name, value in state.items()}
    # An epoch returns two numbers, and what it has changed in the order of the state.
    changed = [n for n in state if n != "slope" and not n.startswith("constant/")]
    rows = []
    for order, draws in epochs_of(job, len(labels), epochs, seed):
        started = time.perf_counter()
        found = compiled.execute_sharded(
            [images, labels, put(order), put(draws), *state.values()]
        ).disassemble_into_single_device_arrays()
        loss, right, *values = (
            np.asarray(each[0]) if n < 2 else each[0] for n, each in enumerate(found)
        )
        state |= dict(zip(changed, values, strict=True))
        rate = job["learning_rate"] * (1 - len(rows) / epochs)
        row = {
            "epoch": len(rows) + 1,
            "loss": float(loss),
            "accuracy": int(right) / order.size,
        }
        rows.append(
            {
                **row,
                "learning_rate": rate,
                "seconds": round(time.perf_counter() - started, 3),
            }
        )
        print(rows[-1], flush=True)
        if not np.isfinite(loss):
            raise SystemExit(f"The loss is {loss}. Choose a lower learning rate.")
    weights = {n: np.asarray(v) for n, v in state.items() if n.startswith("weights/")}
    return weights, rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("job", type=Path, help="folder of accelerator.py export")
    parser.add_argument("weights", type=Path, help=".npz file to write")
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--seed", type=int, default=0, help="one that was exported")
    parser.add_argument("--start", type=Path, help=".npz file of a first stage")
    chosen = parser.parse_args()
    before = {}
    if chosen.start:
        with np.load(chosen.start) as found:
            before = {name: found[name] for name in found.files if name != "history"}
    weights, rows = train(chosen.job, chosen.epochs, chosen.seed, before)
    with chosen.weights.open("wb") as stream:
        np.savez_compressed(stream, history=np.array(json.dumps(rows)), **weights)


if __name__ == "__main__":
    main()
