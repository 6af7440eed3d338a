"""Paths, models of Keras 3, bytes and lists in the place of what is wanted.

Every public function says in one sentence what it was given and what to pass.
"""

from functools import cache

import larq_nobn as nobn
import larq as lq
import numpy as np
import pytest
import tensorflow as tf
from larq_nobn import deploy, optimizers
from larq_nobn._keras import keras

X = np.zeros((4, 4, 4, 2), np.float32)
ERRORS = (TypeError, ValueError)  # what the package raises derives from these
OF_A_MODEL = {
    "convert": lambda model: nobn.convert(model, "never.tflite"),
    "prepared": deploy.prepared,
    "fake_quantize": lambda model: deploy.fake_quantize(model, X),
    "fold_batch_norm": nobn.fold_batch_norm,
    "remove_batch_norm": nobn.remove_batch_norm,
    "freeze_statistics": lambda model: nobn.freeze_statistics(model, X),
    "reestimate_batch_norm": lambda model: nobn.reestimate_batch_norm(model, X),
    "calibrate": lambda model: nobn.calibrate(model, X),
    "summary": nobn.models.summary,
    "compare_formats": deploy.compare_formats,
    "save_model": lambda model: nobn.training.save_model(model, "never.keras"),
    "sampled_predictions": lambda model: nobn.diagnostics.sampled_predictions(model, X),
    "for_model": lambda model: optimizers.AdaptiveGradientClipping.for_model(
        model, "adam"
    ),
}
OF_A_PATH = {
    "convert": lambda path: nobn.convert(MODEL, path),
    "prepare": lambda path: nobn.data.prepare("cifar10", path),
    "open_dataset": lambda path: nobn.data.open_dataset("mnist", data_dir=path),
    "benchmark": nobn.benchmark,
    "read_card": deploy.read_card,
    "benchmark_on_phone": deploy.benchmark_on_phone,
    "save_model": lambda path: nobn.training.save_model(keras.Sequential(), path),
    "open_model": nobn.training.open_model,
    "load_run": nobn.training.load_run,
    "inspect_folder": nobn.data.inspect_folder,
    "import_checkpoint": nobn.interop.import_checkpoint,
}


@pytest.mark.parametrize("function", OF_A_PATH)
def test_what_is_no_path_is_rejected_by_all(function):
    for given in (3, keras.layers.Dense(2)):
        kind = type(given).__name__
        with pytest.raises(ERRORS, match=f"is of type {kind}, but it must be a path"):
            OF_A_PATH[function](given)
    with pytest.raises((OSError, *ERRORS), match="contains a zero|[Nn]ot a path"):
        OF_A_PATH[function]("a\0b.json")


class Thing:
    """None of what is wanted."""


UNFIT = (3, "x", [3], {}, Thing())
MODEL = keras.Sequential([keras.Input((4, 4, 2)), keras.layers.Flatten()])
OF_OTHER_KINDS = {
    "train": (lambda given: nobn.training.train(given, "never"), "must be RunSettings"),
    "compare": (
        lambda given: nobn.training.compare({"a": given}, "never"),
        r"cells\['a'\] is of type .* must be RunSettings",
    ),
    "report": (
        nobn.training.report,
        "must be a list|must be a path|contains no finished run|does not exist",
    ),
    "evaluate": (
        lambda given: nobn.training.evaluate(MODEL, given),
        "it must be a finite tf.data.Dataset|Give \\(images, labels\\)",
    ),
    "prepare": (nobn.data.prepare, "name must be one of digits.*; got"),
    "decode": (nobn.data.decode, "must be bytes|it is not a JPEG"),
    "optimizer": (
        optimizers.AdaptiveGradientClipping,
        "optimizer=.* is not a Keras optimizer. Pass an optimizer",
    ),
    "Dataset": (nobn.data.Dataset, "images is of type .*, but it must be images"),
    "trust": (
        lambda given: nobn.training.open_model("m.keras", trust=[given]),
        r"trust=\[.* is neither True nor False",
    ),
}


@pytest.mark.parametrize("function", OF_OTHER_KINDS)
def test_other_kinds_are_rejected_in_a_sentence(function, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    use, says = OF_OTHER_KINDS[function]
    for given in UNFIT:
        with pytest.raises((OSError, *ERRORS), match=says):
            use(given)
    assert not list(tmp_path.iterdir())


@cache
def of_keras_3():
    import keras as keras_3  # which takes a second

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("warnings.warn", lambda *_, **__: None)
        return keras_3.Sequential([keras_3.Input((4,)), keras_3.layers.Dense(2)])


TAKES_ALL = ("convert", "prepared", "compare_formats")


@pytest.mark.parametrize("function", OF_A_MODEL)
def test_what_is_no_model_is_rejected(function):
    for given, says in [
        ("m.keras", "'m.keras' is not a Keras model but a path. Open the file first"),
        (of_keras_3(), r"is of Keras 3, but larq_nobn needs legacy Keras \(tf_keras\)"),
        (None, "None is not a Keras model. Pass a functional or Sequential"),
    ]:
        if function == "summary" and given is of_keras_3():
            continue
        if function in TAKES_ALL and given is not None:
            says = "has no binary layer|m.keras does not exist. Give a run folder"
        with pytest.raises((OSError, *ERRORS), match=says) as told:
            OF_A_MODEL[function](given)
        assert len(str(told.value)) < 400


def test_optimizers_of_keras_3_are_named():
    import keras as keras_3

    message = (
        r"the Adam of Keras 3, but larq_nobn needs legacy Keras \(tf_keras\), as Larq "
        r"does. Pass tf_keras.optimizers.Adam\(...\), or its name"
    )
    for given in (keras_3.optimizers.Adam(), keras_3.optimizers.Adam):
        with pytest.raises(TypeError, match=message):
            optimizers.AdaptiveGradientClipping(given)


@pytest.mark.parametrize("function", [nobn.audit, deploy.Runner], ids=["audit", "run"])
def test_what_is_no_file_is_rejected(function, tmp_path):
    for given, says in [
        (tmp_path, "cannot be read: Is a directory. Pass the path of a .tflite file"),
        (MODEL, "path is of type .*, but it must be a path"),
    ]:
        with pytest.raises((deploy.ConversionError, TypeError), match=says):
            function(given)


def test_gradients_are_tensors_or_lists_of_numbers():
    clip = optimizers.adaptive_gradient_clip
    actual = clip([[6.0], [8.0]], [[3.0], [4.0]], (0,))
    np.testing.assert_allclose(actual, [[0.03], [0.04]], rtol=1e-6)
    one, other = tf.ones((2, 1)), tf.ones((1, 2))
    for says, arguments in {
        "gradient is not one tensor": (None, one, (0,)),
        r"weight the shape \(1, 2\)": (one, other, (0,)),
        r"axes=\(1,\) is not a tuple of axes of a w": (one[0], one[0], (1,)),
    }.items():
        with pytest.raises(ERRORS, match=says):
            clip(*arguments)


class PruneLowMagnitude(keras.layers.Wrapper):
    """Multiplies the kernel by a mask in every call, as wrappers of pruning do."""

    def call(self, inputs):
        kernel = self.layer.kernel
        kernel = getattr(kernel, "latent_variable", kernel)
        kernel.assign(kernel * tf.ones_like(kernel))
        return self.layer(inputs)


def test_wrappers_of_pruning_are_to_be_taken_off():
    signs = {"input_quantizer": "ste_sign", "kernel_quantizer": "ste_sign"}
    inputs = keras.Input((4, 4, 2))
    x = PruneLowMagnitude(lq.layers.QuantConv2D(32, 3, **signs))(inputs)
    x = lq.layers.QuantConv2D(4, 1, **signs)(keras.layers.BatchNormalization()(x))
    for use in (lambda model: nobn.convert(model, "never.tflite"), deploy.prepared):
        with pytest.raises(ValueError, match=r"out of wrappers.*strip_pruning"):
            use(keras.Model(inputs, x))
