"""Whether binary weights with a posterior are better calibrated, spiking or not.

The comparison of Jang and others (arXiv:2012.08300) on data at hand: digits, and
CIFAR-10 behind a small float stem. A network of three binary dense layers, with signs
and batch norm or with spiking neurons over eight steps, is trained by straight-through
gradients of latent weights, or by the Bayesian learning rule. Accuracy and expected
calibration error on the test images, of the network itself (the mode) and, Bayesian,
of the average of 16 drawn networks. What the folder holds already is not repeated.

    python benchmarks/posterior.py --folder runs/posterior
"""

from __future__ import annotations

import itertools
import json
import statistics
from pathlib import Path

import larq_nobn as nobn
import click
import larq as lq
import tensorflow as tf
from _results import command, machine, versions, write
from rich.console import Console
from rich.table import Table

keras = tf.keras
RESULT = Path("results") / "posterior"
DATA = {"digits": (32, 30), "cifar10": (128, 5)}  # batch size and epochs
FORMS = ("signs", "spikes")
KERNELS = ("straight-through", "bayesian")
STEPS = 8


def dense(x, units, kernel, signs):
    """A binary dense layer of weights ±1, whose output has about unit variance."""
    quantizer = {
        "straight-through": lambda: lq.quantizers.SteSign(clip_value=None),
        "bayesian": lambda: nobn.quantizers.BernoulliSign(temperature=0.5),
    }[kernel]()
    layer = lq.layers.QuantDense(
        units,
        input_quantizer="approx_sign" if signs else None,
        kernel_quantizer=quantizer,
        kernel_constraint=lq.constraints.WeightClip(5.0),
        use_bias=False,
    )
    return keras.layers.Rescaling(2 * x.shape[-1] ** -0.5)(layer(x))


def network(shape, form, kernel):
    signs = form == "signs"
    x = image = keras.Input(shape)
    if shape[0] > 8:
        x = keras.layers.Conv2D(32, 5, 2, padding="same", use_bias=False)(x)
        x = keras.layers.BatchNormalization(momentum=0.9)(x)
        x = keras.layers.AveragePooling2D()(keras.layers.ReLU()(x))
    x = dense(keras.layers.Flatten()(x), 256, kernel, False)
    if not signs:
        x = keras.layers.RepeatVector(STEPS)(x)
    for units in (128, 10):
        if signs:
            x = keras.layers.BatchNormalization(momentum=0.9)(x)
        else:
            x = nobn.layers.LeakyIntegrateAndFire(decay=0.9)(x)
        x = dense(x, units, kernel, signs)
    if not signs:
        x = keras.layers.GlobalAveragePooling1D()(x)
    return keras.Model(image, x)


def trained(name, form, kernel, seed, epochs, limit):
    batch_size, most = DATA[name]
    epochs = epochs or most
    train = nobn.data.load(name, "train", batch_size, seed=seed, limit=limit)
    steps, falls = epochs * len(train), keras.optimizers.schedules.PolynomialDecay
    optimizer = keras.optimizers.Adam(falls(3e-3, steps, 0.0))
    if kernel == "bayesian":
        optimizer = nobn.optimizers.BayesianLearningRule(
            optimizer, falls(100.0, steps, 0.0), prior_weight=1e-6
        )
    model = network(train.element_spec[0].shape[1:], form, kernel)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss)
    model.fit(train, epochs=epochs, verbose=0)
    return model


def measured(folder, name, form, kernel, seed, epochs, limit):
    """Accuracy and calibration error in %, measured once."""
    known = folder / f"{name}-{form}-{kernel}-{seed}-{epochs}-{limit}.json"
    if known.exists():
        return json.loads(known.read_text())
    keras.backend.clear_session()
    keras.utils.set_random_seed(seed)
    model = trained(name, form, kernel, seed, epochs, limit)
    test = nobn.data.load(name, "test", 250, limit=limit)
    mode = nobn.training.evaluate(model, test)
    found = {"mode": [mode["accuracy"], mode["calibration_error"]]}
    if kernel == "bayesian":
        drawn = nobn.diagnostics.sampled_predictions(model, test, 16)
        error = nobn.diagnostics.expected_calibration_error(
            drawn.probabilities, drawn.labels
        )
        right = (drawn.probabilities.argmax(1) == drawn.labels).mean()
        found["average of 16"] = [float(right), error]
        picture = RESULT / f"{name}-{form}-{seed}.png"
        nobn.diagnostics.reliability_diagram(drawn.probabilities, drawn.labels, picture)
    found = {k: [round(100 * v, 2) for v in of] for k, of in found.items()}
    write(found, known)
    print(known.stem, found, flush=True)
    return found


@click.command()
@click.option("--folder", type=Path, required=True, help="Where single results go.")
@click.option("--datasets", default="digits,cifar10", show_default=True)
@click.option("--seeds", default=3, show_default=True, help="Runs of each.")
@click.option("--epochs", type=int, show_default="30 of digits, 5 of CIFAR-10")
@click.option("--limit", type=int, show_default="all", help="Images of each split.")
def main(folder, datasets, seeds, epochs, limit):
    folder.mkdir(parents=True, exist_ok=True)
    rows = {}
    for name, form, kernel in itertools.product(datasets.split(","), FORMS, KERNELS):
        for seed in range(seeds):
            found = measured(folder, name, form, kernel, seed, epochs, limit)
            for which, values in found.items():
                row = rows.setdefault(f"{name}, {form}, {kernel}, {which}", [])
                row.append(values)
    result = {
        "command": command(),
        "machine": machine(),
        "versions": versions(),
        "rows": rows,
    }
    write(result, RESULT / "posterior.json")
    show(rows)


def show(rows):
    table = Table(title="Test images, in %, mean (lowest to highest)")
    for title in ("", "accuracy", "calibration error"):
        table.add_column(title)
    for name, of in rows.items():
        cells = (
            f"{statistics.mean(part):.1f} ({min(part):.1f} to {max(part):.1f})"
            for part in zip(*of, strict=True)
        )
        table.add_row(name, *cells)
    Console().print(table)


if __name__ == "__main__":
    main()
