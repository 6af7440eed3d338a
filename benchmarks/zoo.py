"""What folding, removing and converting make of the models of Larq Zoo.

Every model is built with random weights, and batch norms of which statistics, gains and
shifts lie where training may leave them: gains of both signs. It is folded, and the
numbers before the last softmax are compared on four images; batch norm is removed;
the given model is converted and verified on the same images. DoReFaNet, whose inputs
have two bits, may convert in float. Larq Zoo is installed apart, in the folder, without
what it asks for; each model has a process of its own, one after the other. Half an
hour on two cores; what the folder contains already is not repeated.

    python benchmarks/zoo.py --folder runs/zoo
    python benchmarks/zoo.py --folder runs/zoo --output runs/zoo/results \
        --only MeliusNet22   # a quick look
"""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import larq_nobn as nobn
import click
import numpy as np
import tensorflow as tf
from _drawing import zoo as drawing
from _files import SEED, float_operations
from _results import kept, leave, output

keras = tf.keras
EXAMPLES = 4
# larq-zoo, and what it imports that is not here already.
PACKAGES = ("larq-zoo==2.4.0", "zookeeper==1.4.0", "typeguard==4.4.4")
# The sides of their images: small ones where the network allows it.
MODELS = {
    "QuickNetSmall": 64,
    "QuickNet": 64,
    "QuickNetLarge": 64,
    "RealToBinaryNet": 64,
    "BiRealNet": 64,
    "BinaryResNetE18": 64,
    "BinaryDenseNet28": 64,
    "BinaryDenseNet37": 64,
    "BinaryDenseNet37Dilated": 64,
    "BinaryDenseNet45": 64,
    "MeliusNet22": 64,
    "BinaryAlexNet": 64,
    "XNORNet": 224,
    "DoReFaNet": 64,
}
IN_FLOAT = ("DoReFaNet",)


def images(model):
    shape = (EXAMPLES, *model.input.shape[1:])
    return np.random.default_rng(SEED).normal(size=shape).astype(np.float32)


def build(name):
    """The model, with batch norms as training may leave them."""
    import larq_zoo  # only there once it is installed

    keras.utils.set_random_seed(SEED)
    builder = {**vars(larq_zoo.sota), **vars(larq_zoo.literature)}[name]
    side = MODELS[name]
    model = builder(input_shape=(side, side, 3), weights=None)
    norms = batch_norms(model)
    momenta = [layer.momentum for layer in norms]
    for layer in norms:
        layer.momentum = 0.0
    model(images(model), training=True)  # sets the statistics to those of the images
    random = np.random.default_rng(SEED)
    for layer, momentum in zip(norms, momenta, strict=True):
        layer.momentum = momentum
        mean, variance = layer.moving_mean, layer.moving_variance
        size = mean.shape
        mean.assign_add(0.3 * tf.sqrt(variance) * random.normal(size=size))
        variance.assign(0.01 + variance * random.uniform(0.5, 2.0, size))
        if layer.gamma is not None:
            signs = random.choice([-1.0, 1.0], size)
            layer.gamma.assign(signs * random.uniform(0.5, 1.5, size))
        if layer.beta is not None:
            layer.beta.assign(0.5 * random.normal(size=size))
    return model


def batch_norms(model):
    kind = keras.layers.BatchNormalization
    return [layer for layer in model.submodules if isinstance(layer, kind)]


def logits(model):
    """What goes into the softmax, which would hide differences."""
    return keras.Model(model.input, model.layers[-1].input)(images(model)).numpy()


def folded(model):
    new, report = nobn.fold_batch_norm(model, return_report=True)
    before, after = logits(model), logits(new)
    actions = [change.action for change in report.changes]
    return {
        "difference": float(np.abs(after - before).max() / np.abs(before).max()),
        "batch_norms": len(batch_norms(new)),
        "affine_layers": actions.count("became a per-channel affine layer"),
    }


def removed(model):
    return {"batch_norms": len(batch_norms(nobn.remove_batch_norm(model)))}


def converted(model, path, allow_float):
    report = nobn.convert(model, path, data=images(model), allow_float=allow_float)
    return {
        "lce_bconv2d": report.lce_bconv2d,
        "binary_layers": report.binary_layers,
        "in_float": len(report.in_float),
        "float_ops": float_operations(report),
        "bytes": report.size_bytes,
        "verify": report.verify,
    }


def tried(tool, *arguments):
    try:
        return tool(*arguments)
    except ValueError as error:  # all of whose kinds say why in words
        return {"refused": str(error)}


def measure(name, folder):
    """One row, in this process."""
    sys.path.append(str(folder / "site"))
    model, path = build(name), folder / f"{name}.tflite"
    return {
        "side": MODELS[name],
        "batch_norms": len(batch_norms(model)),
        "fold": tried(folded, model),
        "remove": tried(removed, model),
        "convert": tried(converted, model, path, name in IN_FLOAT),
    }


def measured_apart(name, folder):
    """One row, in a process of its own."""
    with ProcessPoolExecutor(1, get_context("spawn")) as process:
        return process.submit(measure, name, folder).result()


@click.command()
@click.option("--folder", type=Path, required=True, help="Where Larq Zoo and files go.")
@click.option("--only", multiple=True, type=click.Choice(list(MODELS)))
@output("zoo")
def main(folder, only, output):
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "site").exists():
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
        subprocess.run([*pip, "--target", folder / "site", *PACKAGES], check=True)
    rows = {}
    for name in only or MODELS:
        rows[name] = kept(folder / f"{name}.json", measured_apart, name, folder)
        print(name, flush=True)
    about = {"packages": PACKAGES, "seed": SEED, "examples": EXAMPLES}
    leave(output, __doc__, drawing.zoo, "larq_compute_engine", **about, rows=rows)


if __name__ == "__main__":
    main()
