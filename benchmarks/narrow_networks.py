"""Narrow forms of published networks on digits: trained, then a file of each runtime.

One training of each on the 8x8 digits, with one block or two in each of two stages, and
files whose outputs are compared with the network's on test images.

    python benchmarks/narrow_networks.py                    # a few minutes
    python benchmarks/narrow_networks.py --only DoReFaNet
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import larq_nobn as nobn
import click
import numpy as np
from _drawing.networks import narrow_networks
from _results import leave, output
from larq_nobn.deploy import ConversionError, convert, fake_quantize
from larq_nobn.training import RunSettings, train

PAIR = {"width": 16, "blocks": (1, 1)}
RECU = {**PAIR, "normalization": "batch_norm", "stages": 2}
NETWORKS = {
    **{f"MeliusNet{form}": PAIR for form in ("42", "59", "A", "B", "C")},
    "ReActNet34": {"width": 16, "blocks": (2, 2)},
    "DoReFaNet": {"width": 6, "recipe": "bnn_plus"},
    "ReCUResNet18": RECU,
    "ReCUResNet34": {**RECU, "blocks": (2, 2)},
    "BinaryDenseNet28": {**PAIR, "normalization": "filter_response"},
}
EPOCHS = 8
# Each with whether it is in int8.
RUNTIMES = {"lce": False, "litert": False, "litert int8": True, "micro": True}
RUNTIMES |= {"c": False}


def files(model, images):
    """The bytes of the file of each runtime, or None where int8 has no form of it."""
    found = {}
    for name, int8 in RUNTIMES.items():
        runtime = name.partition(" ")[0]
        given = fake_quantize(model, images, verify=False) if int8 else model
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / ("model.c" if runtime == "c" else "model.tflite")
            options = {"data": images[:16], "int8": int8, "runtime": runtime}
            try:
                report = convert(given, path, **options)
            except ConversionError as error:
                print(name, error)
                found[name] = None
                continue
        assert report.verify["unexplained"] == 0
        found[name] = report.flash_bytes or report.size_bytes
    return {"binary": report.binary_layers, "files": found}


@click.command()
@click.option("--only", multiple=True, type=click.Choice(list(NETWORKS)))
@output("narrow_networks")
def main(only, output):
    test = nobn.data.load("digits", "test", batch_size=512)
    images = np.concatenate([x.numpy() for x, _ in test])
    rows = {}
    for name in only or NETWORKS:
        given = {"dataset": "digits", "epochs": EPOCHS, **NETWORKS[name]}
        settings = RunSettings(model=name, **given)
        with tempfile.TemporaryDirectory() as folder:
            run = train(settings, Path(folder) / "run", progress=False)
        accuracy = round(100 * run.record["metrics"]["test_accuracy"], 2)
        normalization = settings.normalization
        made = {"normalization": normalization, "accuracy": accuracy}
        rows[name] = {**NETWORKS[name], **made, **files(run.model, images)}
        print(name, rows[name], flush=True)
    leave(output, __doc__, narrow_networks, epochs=EPOCHS, rows=rows)


if __name__ == "__main__":
    main()
