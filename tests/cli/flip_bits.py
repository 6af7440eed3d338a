"""Damages a file in many ways and runs what passes: `flip_bits.py FILE COUNT`.

A program of its own, since native code that reads a damaged file may end the process.
It prints how many files it tried, and how many of them were rejected.
"""

import sys
from pathlib import Path

import larq_nobn as nobn
import numpy as np
from larq_nobn.deploy import ConversionError, Runner


def damaged(content: bytes, seed: int) -> bytes:
    """The content with one bit flipped, one byte set, or some bytes at random."""
    rng = np.random.default_rng(seed)
    changed = bytearray(content)
    place = int(rng.integers(8, len(content) - 16))
    if seed % 3 == 0:
        changed[place] ^= 1 << int(rng.integers(8))
    elif seed % 3 == 1:
        changed[place] = 255
    else:
        changed[place : place + 16] = rng.bytes(16)
    return bytes(changed)


def run(path: Path) -> None:
    nobn.audit(path)
    runner = Runner(path.read_bytes())
    shape = runner.input_tensors[0].shape
    runner(np.zeros((1, *shape[1:]), np.float32))


def main(file: str, count: str) -> None:
    content = Path(file).read_bytes()
    path = Path(file).with_suffix(".damaged.tflite")
    refused = 0
    for seed in range(int(count)):
        path.write_bytes(damaged(content, seed))
        try:
            run(path)
        except (ConversionError, ValueError):  # of another shape or type
            refused += 1
    path.unlink()
    print(count, refused)


if __name__ == "__main__":
    main(*sys.argv[1:])
