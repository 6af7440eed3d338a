"""Trains what `accelerator.py export` wrote, on any device of JAX; needs no TensorFlow.

Images are a `.npz` file: `images`, uint8 (N, height, width, channels), and `labels`.
Writes a `.npz` file of the trained weights by name, and `history`, a JSON text.
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
    bits = np.random.default_rng([seed, number]).random(tuple(shape), np.float32)
    return np.float32(low) + np.float32(high - low) * bits


class Job:
    """One compiled epoch."""

    def __init__(self, folder):
        import jax
        from jax._src.lib import xla_client

        jax.config.update("jax_enable_x64", True)  # counters of steps
        self.folder = Path(folder)
        self.job = json.loads((self.folder / "job.json").read_text())
        self.steps, self.batch = self.job["arguments"]["order"][0]
        self.device = jax.devices()[0]
        self.put = lambda value: jax.device_put(np.asarray(value), self.device)
        text = lzma.decompress((self.folder / "epoch.mlir.xz").read_bytes()).decode()
        self.epoch = self.device.client.compile_and_load(
            text, xla_client.DeviceList((self.device,)), xla_client.CompileOptions()
        )
        keys = [key for key, _, _ in self.job["state"]]
        self.updated = [k for k in keys if k != "height" and not k.startswith("constant")]

    def start(self, epochs, seed, weights=None):
        """The state at the first step; `weights` are those of a first stage."""
        with np.load(self.folder / f"state-{seed}.npz") as found:
            values = dict(found)
        state = {}
        for key, shape, dtype in self.job["state"]:
            if key in self.job["drawn"]:
                value = drawn(self.job["drawn"][key], shape, seed)
            else:
                value = values.get(key, np.zeros(shape, dtype))
            if weights is not None and key in weights:
                value = weights[key]
            state[key] = value
        rate = self.job["learning_rate"]
        state["height"] = np.array([rate, epochs * self.steps], np.float32)
        self.state = {key: self.put(value) for key, value in state.items()}

    def run(self, images, labels, rng):
        """One epoch; returns mean loss and fraction right."""
        shape, count = (self.steps, self.batch), self.steps * self.batch
        order = rng.permutation(len(labels))[:count].reshape(shape).astype(np.int32)
        draws = rng.integers(0, 2 * self.job["pad"] + 1, (*shape, 3), np.int32)
        draws[..., 2] = rng.integers(0, 2, shape) * self.job["flip"]
        found = self.epoch.execute_sharded(
            [images, labels, self.put(order), self.put(draws), *self.state.values()]
        ).disassemble_into_single_device_arrays()
        loss, right, *updated = (each[0] for each in found)
        assert len(updated) == len(self.updated), (len(updated), len(self.updated))
        for key, value in zip(self.updated, updated):
            assert value.shape == self.state[key].shape, key
            self.state[key] = value
        return float(np.asarray(loss)), int(np.asarray(right)) / count

    def train(self, images, labels, epochs, seed, weights=None, say=print):
        """Returns the weights, and a row of the history for each epoch."""
        self.start(epochs, seed, weights)
        rng, rows = np.random.default_rng([seed, 1 if weights is None else 2]), []
        for epoch in range(epochs):
            started = time.perf_counter()
            loss, accuracy = self.run(images, labels, rng)
            rate = self.job["learning_rate"] * (1 - epoch / epochs)
            seconds = round(time.perf_counter() - started, 3)
            rows.append(
                {"epoch": epoch + 1, "loss": loss, "accuracy": accuracy, "learning_rate": rate, "seconds": seconds}
            )
            say(rows[-1])
            if not np.isfinite(loss):
                raise ArithmeticError(f"The loss of epoch {epoch + 1} is {loss}.")
        kept = {k: np.asarray(v) for k, v in self.state.items() if k.startswith("weights/")}
        return kept, rows


def save(path, weights, rows):
    """Writes the file that `accelerator.py finish` reads."""
    np.savez_compressed(path, history=np.array(json.dumps(rows)), **weights)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("job", help="folder of accelerator.py export")
    parser.add_argument("images", help=".npz file")
    parser.add_argument("weights", help=".npz file to write")
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start", help=".npz file of the weights of a first stage")
    chosen = parser.parse_args()
    job = Job(chosen.job)
    before = None
    if chosen.start:
        with np.load(chosen.start) as found:
            before = dict(found)
    with np.load(chosen.images) as data:
        images, labels = job.put(data["images"]), job.put(data["labels"].astype(np.int32))
    weights, rows = job.train(images, labels, chosen.epochs, chosen.seed, before)
    save(chosen.weights, weights, rows)


if __name__ == "__main__":
    main()
