"""Packs the network of a finished run, one bit for each binary weight.

So the networks of `larq_nobn.models.pretrained()` are made, of runs whose logs lie in
`results/pretrained/`. The file computes what the run trained: binary kernels have the
same values, other weights the same bits. Its latent weights are those signs times the
mean magnitude of the filter's latent weights.

    python benchmarks/pack.py runs/digits reactnet18-w32-digits.npz
    python benchmarks/pack.py runs/a a.npz --log results/pretrained/a
"""

from __future__ import annotations

import json
from pathlib import Path

import larq_nobn as nobn
import click
import numpy as np
from larq_nobn._files import replacing
from larq_nobn.graph._signs import kernel_value, quantized
from larq_nobn.models import BUILDERS, ModelProfile, open_pretrained
from larq_nobn.models import _pretrained as stored_as
from larq_nobn.models._weight_names import weights_by_name

_EQUAL = 1e-5  # what the sums in a quantizer round away
# Settings that say where something lies on the machine of the run.
_PLACES = ("data_dir", "dataset", "init", "teacher")
_SMALLEST = np.finfo(np.float32).tiny


def pack(run, path, log=None):
    """Writes the file, and returns its row as in `models.pretrained()`."""
    found = nobn.training.load_run(run)
    settings, info = found.record["settings"], found.dataset
    model, kernel = settings["model"], settings.get("kernel")
    if model not in BUILDERS or kernel:
        raise ValueError(
            f"{found.folder} trained model={model!r} with kernel={kernel!r}, which no "
            "builder in larq_nobn.models makes. Pack a run of one of these networks, "
            "trained with their own kernels."
        )
    chosen = {key: settings[key] for key in ("width", "blocks")}
    arguments = {
        "input_shape": list(info.image_shape),
        "classes": info.classes,
        "normalization": settings["normalization"],
        **{key: value for key, value in chosen.items() if value is not None},
        **settings["network"],
    }
    profile = ModelProfile(found.model)
    binary = profile.op_count("mac", 1)
    numbers = {"mean": list(info.mean), "std": list(info.std)}
    preprocessing = {**numbers, "size": list(info.image_shape[:2]), "crop": info.crop}
    metadata = {
        "format": stored_as.FORMAT,
        "version": stored_as.VERSION,
        "name": path.stem,
        "model": model,
        "dataset": Path(settings["dataset"]).name,
        "classes": info.classes,
        "input_shape": list(info.image_shape),
        "accuracy": found.record["metrics"]["test_accuracy"],
        **{name: settings[name] for name in ("recipe", "epochs", "seed")},
        "binary_macs": int(binary),
        "float_macs": int(profile.op_count("mac") - binary),
        "log": log,
        "class_names": list(info.class_names),
        "preprocessing": preprocessing if info.mean else None,
        "arguments": arguments,
        "settings": {n: v for n, v in settings.items() if n not in _PLACES},
    }
    stored = {stored_as.METADATA: np.array(json.dumps(metadata))}
    stored |= entries(found.model, BUILDERS[model](**arguments))
    with replacing(path) as temporary:
        np.savez_compressed(temporary, **stored)
        _, row = open_pretrained(temporary)
    return row


def entries(trained, network):
    """Yields what the file contains of the weights of a network, by name.

    Another one, as a builder makes it, is filled on the way.
    """
    given, places = weights_by_name(trained), weights_by_name(network)
    if given.keys() != places.keys():
        raise ValueError(
            f"The weights of {trained.name} are not those of the builder. Pack a run "
            "of this version."
        )
    for key, variable in given.items():
        places[key].assign(variable.numpy())
    weights = [weight for layer in network.layers for weight in layer.weights]
    kernels = {
        id(weight.latent_variable): weight
        for weight in weights
        if hasattr(weight, "latent_variable")
    }
    bits = set()
    for key, variable in places.items():
        gain = places.get(f"{key.rpartition('/')[0]}/gain")
        kernel = kernels.get(id(variable))
        if kernel is not None and (found := signs_of(kernel, gain)) is not None:
            signs = found[0].reshape(-1, found[0].shape[-1])
            yield key + stored_as.BITS, np.packbits(signs > 0, axis=0)
            yield key + stored_as.MAGNITUDE, found[1]
            bits.add(key)
    # Last, since the kernels may have changed gains.
    yield from ((key, v.numpy()) for key, v in places.items() if key not in bits)


def signs_of(kernel, gain):
    """Signs and magnitudes that stand for a binary kernel; None if none do.

    Where the new latent weights have another scale, the gain or the magnitudes make up
    for it, up to rounding.
    """
    value = kernel_value(kernel)
    if getattr(kernel, "precision", None) != 1 or (value == 0).any():
        return None
    axes = tuple(range(value.ndim - 1))
    magnitude = np.abs(kernel.latent_variable.numpy()).mean(axes)
    magnitude = np.maximum(magnitude, np.float32(1e-9))
    signs = np.where(value > 0, np.float32(1), np.float32(-1))
    again = quantized(kernel.quantizer, signs * magnitude)
    signs *= np.where((again * value).sum(axes) < 0, np.float32(-1), np.float32(1))
    ratio = np.abs(value).max(axes) / np.maximum(np.abs(again).max(axes), _SMALLEST)
    if gain is None:
        magnitude *= ratio
    else:
        gain.assign(gain * ratio)
    again = quantized(kernel.quantizer, signs * magnitude)
    if (np.abs(again - value).max(axes) <= _EQUAL * np.abs(value).max(axes)).all():
        return signs, magnitude
    if gain is not None:
        gain.assign(gain / ratio)
    return None


@click.command(help=__doc__.partition("\n")[0])
@click.argument("run", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("path", metavar="OUT.npz", type=click.Path(path_type=Path))
@click.option("--log", help="Path or address of the run's log, stored in the file.")
def main(run, path, log):
    row = pack(run, path, log)
    print(f"{path}: {row.name}, {row.size_bytes / 1000:,.0f} kB")


if __name__ == "__main__":
    main()
