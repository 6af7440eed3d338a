"""Trains, converts, saves and opens, with whatever versions are installed here.

    python core.py work FOLDER          # leaves files in FOLDER, and FOLDER/done.json
    python core.py open REPORT FOLDER…  # opens the files that other versions left

Each step says what it found, or why it failed; one that fails stops no other.
"""

from __future__ import annotations

import json
import sys
import warnings
from importlib.util import find_spec
from pathlib import Path

import larq_nobn as nobn  # first: it selects legacy Keras
import keras
import larq as lq
import numpy as np
import tensorflow as tf
from click.testing import CliRunner
from larq_nobn.cli import main as larq_nobn

TRAINING = (
    *("--dataset", "digits", "--width", "8", "--blocks", "1,1", "--epochs", "3"),
    *("--batch-size", "32", "--limit", "500"),
)
# Versions round differently, and a step of Adam makes more of it near gradients of 0.
CLOSE, LATER = 1e-4, 1e-3
GUESSING = 0.1
RUNTIME = "lce" if find_spec("larq_compute_engine") else "litert"


def network():
    """A network of layers, quantizers and an optimizer of this package."""
    layers = tf.keras.layers
    tf.keras.utils.set_random_seed(7)
    image = tf.keras.Input((8, 8, 1))
    x = layers.Conv2D(8, 3, padding="same")(image)
    x = nobn.layers.FilterResponseNormalization()(x)
    norms = {
        "scaled_std_sign": nobn.layers.RPReLU(),
        "recu": layers.BatchNormalization(),
    }
    around = {"padding": "same", "pad_values": 1.0, "use_bias": False}
    around["input_quantizer"] = "rsign"
    for kernel, norm in norms.items():
        binary = lq.layers.QuantConv2D(8, 3, kernel_quantizer=kernel, **around)
        x = layers.add([x, norm(binary(x))])
    logits = layers.Dense(10, name="head")(layers.GlobalAveragePooling2D()(x))
    model = tf.keras.Model(image, logits)
    loss = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    adam = tf.keras.optimizers.Adam(1e-2)
    model.compile(nobn.optimizers.AdaptiveGradientClipping(adam, 0.02), loss)
    return model


def examples():
    rng = np.random.default_rng(7)
    images = rng.normal(size=(16, 8, 8, 1)).astype(np.float32)
    return images, np.arange(16) % 10


def outputs(model):
    return np.asarray(model(examples()[0], training=False))


def command(*words):
    """Runs `larq-nobn`; what it says is the error if it fails."""
    done = CliRunner().invoke(larq_nobn, [str(word) for word in words])
    if done.exit_code:
        raise RuntimeError(done.stderr.strip() or repr(done.exception))
    return done.stdout


def measured(path):
    """The accuracy that `larq-nobn evaluate` finds on digits."""
    shown = command("evaluate", path, "--dataset", "digits", "--json", "-")
    return json.loads(shown)["accuracy"]


def train(folder):
    command("train", *TRAINING, "--output", folder / "run")
    accuracy = measured(folder / "run")
    if accuracy < 2 * GUESSING:
        raise RuntimeError(f"The accuracy is {accuracy:.3f}, little more than chance.")
    return f"{accuracy:.3f}"


def convert(folder):
    file = folder / "model.tflite"
    command("convert", folder / "run", file, "--runtime", RUNTIME)
    actual = measured(folder / "run"), measured(folder / "model.tflite")
    if abs(actual[0] - actual[1]) > 0.01:
        raise RuntimeError(f"Accuracies of Keras and the file differ: {actual}.")
    return f"{actual[1]:.3f}"


def keras_3(folder):
    layers, binary = keras.layers, keras.layers.Conv2D(8, 3, use_bias=False)
    image = keras.Input((8, 8, 3))
    x = layers.Conv2D(16, 3)(image)
    x = layers.BatchNormalization()(binary(keras.ops.where(x >= 0, 1.0, -1.0)))
    model = keras.Model(image, layers.Dense(4)(layers.Flatten()(x)))
    binary.kernel.assign(np.where(np.array(binary.kernel) >= 0, 1.0, -1.0))
    file = folder / "keras_3.tflite"
    report = nobn.deploy.convert(model, file, runtime=RUNTIME)
    if report.binary_layers != 1:
        raise RuntimeError(f"{report.binary_layers} layers are binary, not 1.")
    images = np.random.default_rng(7).normal(size=(16, 8, 8, 3)).astype(np.float32)
    same(nobn.deploy.Runner(str(file)).outputs([images])[0], np.array(model(images)))
    return f"Keras {keras.__version__}"


def save(folder):
    model = network()
    for _ in range(2):
        model.train_on_batch(*examples())
    expected = {"outputs": outputs(model)}
    model.save(folder / "model.keras")
    model.save(folder / "model.h5")
    model.save(folder / "model.saved", save_format="tf")
    (folder / "model.checkpoint").mkdir()
    model.save_weights(folder / "model.checkpoint" / "weights")
    model.train_on_batch(*examples())
    expected["later"] = outputs(model)
    if (folder / "run" / "run.json").exists():
        run = nobn.training.load_run(folder / "run")
        expected["run"] = outputs(run.model)
    np.savez(folder / "expected.npz", **expected)
    return "saved"


def same(actual, expected, tolerance=CLOSE):
    apart = np.abs(actual - expected).max()
    if not apart <= tolerance:
        raise RuntimeError(f"Outputs differ by {apart:.2g}.")


def open_model(name, trains_on):
    def opened(folder, expected):
        model = tf.keras.models.load_model(folder / name)
        same(outputs(model), expected["outputs"])
        if trains_on:
            model.train_on_batch(*examples())
            same(outputs(model), expected["later"], LATER)

    return opened


def open_checkpoint(folder, expected):
    model = network()
    status = model.load_weights(folder / "model.checkpoint" / "weights")
    status.assert_existing_objects_matched()
    same(outputs(model), expected["outputs"])


def open_run(folder, expected):
    same(outputs(nobn.training.load_run(folder / "run").model), expected["run"])


def open_file(folder, expected):
    runner = nobn.deploy.Runner((folder / "model.tflite").read_bytes())
    same(runner.outputs([examples()[0]])[0], expected["run"], LATER)


FILES = {
    ".keras": open_model("model.keras", trains_on=True),
    ".h5": open_model("model.h5", trains_on=True),
    "SavedModel": open_model("model.saved", trains_on=False),
    "checkpoint": open_checkpoint,
    "run folder": open_run,
}
if RUNTIME == "lce":  # the files of all others are for it
    FILES[".tflite"] = open_file


def attempt(step, *arguments):
    try:
        return {"passed": True, "said": step(*arguments)}
    except Exception as error:  # whatever it is, the others are still to be tried
        text = " ".join(str(error).split())[:300]
        return {"passed": False, "said": f"{type(error).__name__}: {text}"}


def work(folder):
    steps = {
        each.__name__: attempt(each, folder) for each in (train, convert, keras_3, save)
    }
    (folder / "done.json").write_text(json.dumps(steps))


def open_all(report, folders):
    actual = {}
    for folder in folders:
        expected = np.load(folder / "expected.npz")
        actual[folder.name] = {
            name: attempt(opened, folder, expected) for name, opened in FILES.items()
        }
    report.write_text(json.dumps(actual))


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    task, *places = sys.argv[1:]
    first, *others = map(Path, places)
    work(first) if task == "work" else open_all(first, others)
