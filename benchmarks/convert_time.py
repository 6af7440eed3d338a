"""How long `convert` takes, beside Larq Compute Engine's own converter.

    python benchmarks/convert_time.py [--network QuickNetLarge ...] [--size 224]

Both convert the same model in this process, one after the other.
Times are processor seconds of all threads, so that other programs on the machine matter
little. What `convert` does besides is rewriting, counting and the comparison of given
model, prepared model and file; `verify=False` has the least of it.
"""

import argparse
import tempfile
import time
from pathlib import Path

import larq_nobn as nobn
import numpy as np
from larq_nobn._keras import keras
from larq_nobn.deploy.lite import compute_engine

NETWORKS = ("QuickNetLarge", "ReActNetA")


def seconds(function):
    """Processor seconds of a call."""
    start = time.process_time()
    function()
    return time.process_time() - start


def network(name, size):
    """A network whose weights are all away from where they start."""
    keras.utils.set_random_seed(0)
    model = getattr(nobn.models, name)((size, size, 3), 1000)
    random = np.random.default_rng(0)
    for weight in model.trainable_weights:
        noise = 0.05 * random.normal(size=weight.shape)
        weight.assign_add(noise.astype(np.float32))
    return model


def measure(name, size):
    model = network(name, size)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.tflite"
        own = seconds(lambda: compute_engine().convert_keras_model(model))
        quick = seconds(lambda: nobn.convert(model, path, verify=False))
        full = seconds(lambda: nobn.convert(model, path))
    return own, quick, full


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", nargs="+", default=NETWORKS)
    parser.add_argument("--size", type=int, default=224)
    arguments = parser.parse_args()
    print("network            LCE s  quick s  ratio   full s  ratio")
    for name in arguments.network:
        own, quick, full = measure(name, arguments.size)
        print(
            f"{name:16}{own:8.1f}{quick:9.1f}{quick / own:7.2f}{full:9.1f}"
            f"{full / own:7.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
