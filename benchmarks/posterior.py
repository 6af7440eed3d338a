"""Whether binary weights with a posterior are better calibrated, spiking or not.

The comparison of Jang and others (arXiv:2012.08300) on data at hand: digits, and
CIFAR-10 behind a small float stem. A network of three binary dense layers, with signs
and batch norm or with spiking neurons over eight steps, is trained by straight-through
gradients of latent weights, or by the Bayesian learning rule; on digits so is a small
ReActNet-18 with batch norm, as `larq-nobn train --recipe bayesian` builds it.
Accuracy and expected calibration error on the test images, of the network itself (the
mode) and, Bayesian, of the average of 16 drawn networks, each with the statistics of
its own where batch norm is behind drawn kernels. With --choose, every setting
of GRID is trained on four fifths of the training images and measured on the others; of
these the other run takes the one whose network itself is right most often. What the
folder holds already is not repeated.

    python benchmarks/posterior.py --folder runs/posterior --choose
    python benchmarks/posterior.py --folder runs/posterior
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import larq_nobn as nobn
import click
import larq as lq
import numpy as np
import tensorflow as tf
from _drawing import classifiers, pictures
from _results import RESULTS, command, machine, versions, write, write_log
from larq_nobn.training.settings._kernels import with_kernels

keras = tf.keras
# Batch size, epochs, and how many images of each split.
DATA = {"digits": (32, 60, None), "cifar10": (128, 15, 10_000)}
FORMS = {
    "digits": ("signs", "spikes", "reactnet"),
    "cifar10": ("signs", "spikes"),
}
KERNELS = ("straight-through", "bayesian")
STEPS = 8
# Training images of which batch norms behind drawn kernels take statistics: of the mode
# and of each drawn network, as `larq-nobn train` and `evaluate --samples` do.
STATISTICS = 512
HELD_OUT_SEED = 100

# The learning rate of straight-through kernels; of Bayesian ones the natural learning
# rate, the temperature, and where natural parameters begin: uniform up to `start`.
GRID = {
    "straight-through": [{"rate": rate} for rate in (1e-3, 3e-3, 1e-2)],
    "bayesian": [
        {"rate": rate, "temperature": temperature, "start": start}
        for rate in (3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)
        for temperature in (0.1, 0.3, 1.0)
        for start in (0.1, 3.0)
    ],
}


def dense(x, units, kernel, signs, chosen):
    """A binary dense layer of weights ±1, whose output has about unit variance."""
    if kernel == "bayesian":
        quantizer = nobn.quantizers.BernoulliSign(chosen["temperature"])
        start = keras.initializers.RandomUniform(-chosen["start"], chosen["start"])
    else:
        quantizer = lq.quantizers.SteSign(clip_value=None)
        start = "glorot_uniform"
    layer = lq.layers.QuantDense(
        units,
        input_quantizer="approx_sign" if signs else None,
        kernel_quantizer=quantizer,
        kernel_constraint=lq.constraints.WeightClip(5.0),
        kernel_initializer=start,
        use_bias=False,
    )
    return keras.layers.Rescaling(2 * x.shape[-1] ** -0.5)(layer(x))


def reactnet(shape, kernel, chosen):
    model = nobn.models.ReActNet18(shape, 10, "batch_norm", width=16, blocks=(2, 2))
    if kernel == "straight-through":
        return with_kernels(model, "ste_sign", 0.0)
    model = with_kernels(model, "bernoulli_sign", 0.0, chosen["temperature"])
    start = keras.initializers.RandomUniform(-chosen["start"], chosen["start"])
    for layer in model.layers:
        quantizer = getattr(layer, "kernel_quantizer", None)
        if isinstance(quantizer, nobn.quantizers.BernoulliSign):
            layer.kernel.latent_variable.assign(start(layer.kernel.shape))
    return model


def network(shape, form, kernel, chosen):
    if form == "reactnet":
        return reactnet(shape, kernel, chosen)
    signs = form == "signs"
    x = image = keras.Input(shape)
    if shape[0] > 8:
        x = keras.layers.Conv2D(32, 5, 2, padding="same", use_bias=False)(x)
        x = keras.layers.BatchNormalization(momentum=0.9)(x)
        x = keras.layers.AveragePooling2D()(keras.layers.ReLU()(x))
    x = dense(keras.layers.Flatten()(x), 256, kernel, False, chosen)
    if not signs:
        x = keras.layers.RepeatVector(STEPS)(x)
    for units in (128, 10):
        if signs:
            x = keras.layers.BatchNormalization(momentum=0.9)(x)
        else:
            x = nobn.layers.LeakyIntegrateAndFire(decay=0.9)(x)
        x = dense(x, units, kernel, signs, chosen)
    if not signs:
        x = keras.layers.GlobalAveragePooling1D()(x)
    return keras.Model(image, x)


def arrays(name, split, limit):
    """All images of a split with their labels, in order."""
    batches = nobn.data.load(name, split, 1, augment=False, shuffle=False, limit=limit)
    images, labels = zip(*batches.unbatch().as_numpy_iterator(), strict=True)
    return np.stack(images), np.stack(labels)


def splits(name, limit, held_out):
    """What is trained on and what is measured on."""
    train = arrays(name, "train", limit)
    if not held_out:
        return train, arrays(name, "test", limit)
    order = np.random.default_rng(0).permutation(len(train[0]))
    cut = len(order) // 5
    return [part[order[cut:]] for part in train], [part[order[:cut]] for part in train]


def trained(images, labels, form, kernel, chosen, batch_size, epochs):
    steps, falls = epochs * (len(images) // batch_size), _falling
    rate = chosen["rate"]
    if kernel == "bayesian":
        optimizer = nobn.optimizers.BayesianLearningRule(
            keras.optimizers.Adam(falls(3e-3, steps)), falls(rate, steps), 1e-6
        )
    else:
        optimizer = keras.optimizers.Adam(falls(rate, steps))
    model = network(images.shape[1:], form, kernel, chosen)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss)
    model.fit(images, labels, batch_size, epochs=epochs, verbose=0)
    return model


def _falling(rate, steps):
    return keras.optimizers.schedules.PolynomialDecay(rate, steps, 0.0)


def measured(known, data, form, kernel, chosen, seed, size):
    """Accuracy and calibration error in %, measured once."""
    if known.exists():
        return json.loads(known.read_text())
    keras.backend.clear_session()
    keras.utils.set_random_seed(seed)
    train, rest = data
    model = trained(*train, form, kernel, chosen, *size)
    test = tf.data.Dataset.from_tensor_slices(tuple(rest)).batch(250)
    statistics = None
    if kernel == "bayesian" and form != "spikes":
        statistics = train[0][:STATISTICS]
        model = nobn.reestimate_batch_norm(model, statistics)
    mode = nobn.training.evaluate(model, test)
    found = {"mode": [mode["accuracy"], mode["calibration_error"]]}
    if kernel == "bayesian":
        drawn = nobn.diagnostics.sampled_predictions(
            model, test, 16, statistics=statistics
        )
        error = nobn.diagnostics.expected_calibration_error(
            drawn.probabilities, drawn.labels
        )
        right = (drawn.probabilities.argmax(1) == drawn.labels).mean()
        found["average of 16"] = [float(right), error]
    found = {k: [round(100 * v, 2) for v in of] for k, of in found.items()}
    write(found, known)
    print(known.stem, found, flush=True)
    return found


def choose(folder, name):
    """Every setting of GRID, measured on a fifth of the training images."""
    batch_size, epochs, limit = DATA[name]
    data, found = splits(name, limit, True), []
    for form, kernel in itertools.product(FORMS[name], KERNELS):
        for chosen in GRID[kernel]:
            if form == "reactnet" and chosen.get("temperature", 0.3) != 0.3:
                continue  # it takes four times as long
            values = "-".join(f"{value:g}" for value in chosen.values())
            known = folder / f"choose-{name}-{form}-{kernel}-{values}.json"
            size = (batch_size, epochs)
            row = measured(known, data, form, kernel, chosen, HELD_OUT_SEED, size)
            found.append({"form": form, "kernel": kernel, "setting": chosen, **row})
    return found


def best(choice, form, kernel):
    """The setting of the highest accuracy, and of those of the lowest error."""

    def merit(row):
        accuracy, error = row["mode"]
        return accuracy, -error

    rows = (row for row in choice if (row["form"], row["kernel"]) == (form, kernel))
    return max(rows, key=merit)["setting"]


def compare(folder, name, seeds, choice):
    """What the chosen settings reach on the test images, with every seed."""
    batch_size, epochs, limit = DATA[name]
    data, rows = splits(name, limit, False), {}
    for form, kernel in itertools.product(FORMS[name], KERNELS):
        row = rows.setdefault(form, {}).setdefault(kernel, {})
        chosen, size = best(choice, form, kernel), (batch_size, epochs)
        for seed in range(seeds):
            known = folder / f"{name}-{form}-{kernel}-{seed}.json"
            found = measured(known, data, form, kernel, chosen, seed, size)
            for which, values in found.items():
                row.setdefault(which, []).append(values)
    return rows


@click.command()
@click.option("--folder", type=Path, required=True, help="Where single results go.")
@click.option("--datasets", default="digits,cifar10", show_default=True)
@click.option("--seeds", default=3, show_default=True, help="Runs of each.")
@click.option("--choose", "chooses", is_flag=True, help="Instead, every setting.")
@click.option("--output", type=Path, default=RESULTS / "posterior", show_default=True)
def main(folder, datasets, seeds, chooses, output):
    folder.mkdir(parents=True, exist_ok=True)
    said = {"command": command(), "machine": machine(), "versions": versions()}
    names = datasets.split(",")
    if chooses:
        found = {name: choose(folder, name) for name in names}
        write({**said, "measured": found}, output / "choice.json")
        return
    choice = json.loads((output / "choice.json").read_text())["measured"]
    rows = {name: compare(folder, name, seeds, choice[name]) for name in names}
    result = {**said, "rows": rows}
    write(result, output / "result.json")
    lines = result["command"], __doc__.splitlines()[0], result["machine"]
    write_log(output, *lines, tables=classifiers.posterior(result))
    title = "Binary weights with a posterior and without, lowest to highest"
    panels = classifiers.posterior_panels(result)
    pictures.dots(output / "result.png", title, panels)


if __name__ == "__main__":
    main()
