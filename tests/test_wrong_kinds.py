"""Paths, models of Keras 3, bytes and lists in the place of what is wanted.

Every public function says in one sentence what it was given and what to pass.
"""

import larq_nobn as nobn
import larq as lq
import numpy as np
import pytest
import tensorflow as tf
from larq_nobn import deploy, optimizers
from larq_nobn._keras import keras
from larq_nobn.config._run_files import as_json

X = np.zeros((4, 4, 4, 2), np.float32)
ERRORS = (TypeError, ValueError)  # what the package raises derives from these
OF_A_MODEL = {
    "convert": lambda model: nobn.convert(model, "never.tflite"),
    "prepared": deploy.prepared,
    "binary_layers": deploy.binary_layers,
    "fake_quantize": lambda model: deploy.fake_quantize(model, X),
    "fold_batch_norm": nobn.fold_batch_norm,
    "remove_batch_norm": nobn.remove_batch_norm,
    "freeze_statistics": lambda model: nobn.freeze_statistics(model, X),
    "reestimate_batch_norm": lambda model: nobn.reestimate_batch_norm(model, X),
    "calibrate": lambda model: nobn.calibrate(model, X),
    "summary": nobn.models.summary,
    "ModelProfile": nobn.models.ModelProfile,
    "compare_formats": deploy.compare_formats,
    "save_model": lambda model: nobn.training.save_model(model, "never.keras"),
    "sampled_predictions": lambda model: nobn.diagnostics.sampled_predictions(model, X),
    "for_model": lambda model: optimizers.AdaptiveGradientClipping.for_model(
        model, "adam"
    ),
}
OPTIMIZERS = {
    "AdaptiveGradientClipping": optimizers.AdaptiveGradientClipping,
    "ParameterGroups": lambda given: optimizers.ParameterGroups(
        given, {"kernel": {"learning_rate": 2.0}}
    ),
    "BayesianLearningRule": lambda given: optimizers.BayesianLearningRule(
        given, 1.0, 0.1
    ),
}


OF_A_PATH = {
    "convert": lambda path: nobn.convert(MODEL, path),
    "prepare": lambda path: nobn.data.prepare("cifar10", path),
    "prepare into": lambda path: nobn.data.prepare("cifar10", data_dir=path),
    "open_dataset": lambda path: nobn.data.open_dataset("mnist", data_dir=path),
    "benchmark": nobn.benchmark,
    "benchmark against": lambda path: nobn.benchmark("m.tflite", path),
    "read_card": deploy.read_card,
    "read_phone_logs": lambda path: deploy.read_phone_logs(path, "m.log"),
    "read_phone_logs of": lambda path: deploy.read_phone_logs("m.tflite", path),
    "save_model": lambda path: nobn.training.save_model(keras.Sequential(), path),
    "open_model": nobn.training.open_model,
    "load_run": nobn.training.load_run,
    "inspect_folder": nobn.data.inspect_folder,
    "load_bnn_nobn": nobn.interop.load_bnn_nobn,
    "reliability_diagram": lambda path: nobn.diagnostics.reliability_diagram(
        [[0.5, 0.5]], [0], path
    ),
}


@pytest.mark.parametrize("function", OF_A_PATH)
def test_what_is_no_path_is_rejected_by_all(function):
    for given in (3, b"m.tflite", {"a": 1}, keras.layers.Dense(2), X):
        kind = type(given).__name__
        with pytest.raises(ERRORS, match=f"is of type {kind}, but it must be a path"):
            OF_A_PATH[function](given)


@pytest.mark.parametrize("function", {**OF_A_PATH, "audit": nobn.audit})
def test_paths_that_no_system_has_are_rejected(function):
    use = {**OF_A_PATH, "audit": nobn.audit}[function]
    with pytest.raises((OSError, *ERRORS), match="contains a zero|[Nn]ot a path"):
        use("a\0b.json")


class Thing:
    """None of what is wanted."""


UNFIT = (3, float("nan"), b"x", "x", [3], {}, Thing(), Thing, True)
DIGITS = nobn.data.open_dataset("digits")
MODEL = keras.Sequential([keras.Input((4, 4, 2)), keras.layers.Flatten()])
OF_OTHER_KINDS = {
    "train": (lambda given: nobn.training.train(given, "never"), "must be RunSettings"),
    "Trainer": (
        lambda given: nobn.training.Trainer(given, output="never"),
        "must be RunSettings",
    ),
    "compare": (
        lambda given: nobn.training.compare(given, "never"),
        "must be settings by name|There is nothing to compare",
    ),
    "cell": (
        lambda given: nobn.training.compare({"a": given}, "never"),
        r"cells\['a'\] is of type .* must be RunSettings",
    ),
    "from_recipe": (
        lambda given: nobn.training.RunSettings.from_recipe(
            model=[given], normalization=[given], kernel=[given], network=[given]
        ),
        "(model|normalization|kernel|network)(=| must be)",
    ),
    "grid": (
        lambda given: nobn.training.grid([given], seeds=given),
        "normalization|must be a list|is empty",
    ),
    "a grid of rows": (
        lambda given: nobn.training.grid(seeds=np.array([[given], [given]], object)),
        "seeds is of type ndarray, but it must be a list",
    ),
    "report": (
        nobn.training.report,
        "must be a list|must be a path|contains no finished run",
    ),
    "Comparison": (
        nobn.training.Comparison,
        "must be a list|an outcome is of type|There is nothing",
    ),
    "as_json": (
        lambda given: as_json({"a": [{1}, given]}),
        "cannot be written as JSON: Object of type set",
    ),
    "prepare": (nobn.data.prepare, "name must be one of digits.*; got"),
    "decode": (nobn.data.decode, "must be bytes|it is not a JPEG"),
    "choice": (
        lambda given: nobn.quantizers.RSign(estimator=np.array([given, given])),
        "(?s)estimator must be one of .*; got",
    ),
    "expected_calibration_error": (
        lambda given: nobn.diagnostics.expected_calibration_error([[given]], [0]),
        "probabilities",
    ),
    "ConfusionMatrix": (
        lambda given: nobn.diagnostics.ConfusionMatrix({"a": given}),
        "class_names is of type dict, but it must be a list",
    ),
    "optimizer": (
        optimizers.AdaptiveGradientClipping,
        "optimizer=.* is not a Keras optimizer. Pass an optimizer",
    ),
    "axes": (
        lambda given: optimizers.adaptive_gradient_clip(X[0], X[0], given),
        "axes=.* is not a tuple of axes",
    ),
    "Dataset": (nobn.data.Dataset, "images is of type .*, but it must be images"),
    "size": (
        lambda given: nobn.data.Dataset(DIGITS._images, [given]),
        "image_size=.* is not a pair",
    ),
    "read": (
        lambda given: DIGITS.read([9**9 if given in (3, [3]) else given], "test"),
        "indices=.* are not numbers of images of digits. Give whole numbers from 0 to "
        "3",
    ),
    "class_counts": (
        lambda given: DIGITS.class_counts([given]),
        r"limit=\[.* is not a whole number",
    ),
    "share": (
        lambda given: DIGITS.batches("train", 8, share=(given, 1, 1)),
        "share=.* is not a share of replicas",
    ),
    "like": (
        lambda given: DIGITS.batches("train", 8, like=given),
        "like is of type .*, but it must be a DatasetInfo",
    ),
    "calibrate": (
        lambda given: nobn.calibrate(MODEL, [(), {}, []][isinstance(given, str)]),
        "data (holds|contains) no (array|example)",
    ),
    "update": (
        lambda given: nobn.diagnostics.ConfusionMatrix().update([given], [[0.0, 1.0]]),
        "do not fit 2 classes|are not whole numbers below 2",
    ),
    "trust": (
        lambda given: nobn.training.open_model("m.keras", trust=[given]),
        r"trust=\[.* is neither True nor False",
    ),
    "exclude": (
        lambda given: optimizers.AdaptiveGradientClipping.for_model(
            MODEL, "adam", exclude={"a": given}
        ),
        "exclude is of type dict, but it must be a list",
    ),
    "unit_axes": (
        lambda given: optimizers.AdaptiveGradientClipping.for_model(
            MODEL, "adam", unit_axes=np.array([given, given], object)
        ),
        "(?s)unit_axes=.* is not a dictionary",
    ),
    "state": (
        lambda given: nobn.layers.propagate_moments(keras.layers.Dense(2), given),
        "state is not a pair",
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


@pytest.mark.parametrize("given", [X, (X, [0] * 4), "digits", None])
def test_what_is_no_data_set_is_rejected(given):
    model = keras.Sequential([keras.Input((4, 4, 2)), keras.layers.Flatten()])
    with pytest.raises(TypeError, match="it must be a tf.data.Dataset with an end"):
        nobn.training.evaluate(model, given)


def of_keras_3():
    import keras as keras_3  # which takes a second

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("warnings.warn", lambda *_, **__: None)
        return keras_3.Sequential([keras_3.Input((4,)), keras_3.layers.Dense(2)])


@pytest.mark.parametrize("function", OF_A_MODEL)
def test_what_is_no_model_is_rejected(function, tmp_path):
    for given, says in [
        ("m.keras", "'m.keras' is not a Keras model but a path. Open the file first"),
        (tmp_path, "is not a Keras model but a path. Open the file first"),
        (b"TFL3" * 999, "is not a Keras model. Pass a functional or Sequential model"),
        (of_keras_3(), r"is of Keras 3, but larq_nobn needs legacy Keras \(tf_keras\)"),
        ([keras.Sequential()], "is not a Keras model. Pass a functional or Sequential"),
        (None, "None is not a Keras model. Pass a functional or Sequential"),
    ]:
        with pytest.raises(ERRORS, match=says) as told:
            OF_A_MODEL[function](given)
        assert len(str(told.value)) < 400


@pytest.mark.parametrize("wrapper", OPTIMIZERS)
def test_optimizers_of_keras_3_are_named(wrapper):
    import keras as keras_3

    message = (
        r"the Adam of Keras 3, but larq_nobn needs legacy Keras \(tf_keras\), as Larq "
        r"does. Pass tf_keras.optimizers.Adam\(...\), or its name"
    )
    for given in (keras_3.optimizers.Adam(), keras_3.optimizers.Adam):
        with pytest.raises(TypeError, match=message):
            OPTIMIZERS[wrapper](given)
    with pytest.raises(TypeError, match="is not a Keras optimizer. Pass an optimizer"):
        OPTIMIZERS[wrapper](3)


@pytest.mark.parametrize("function", [nobn.audit, deploy.Runner], ids=["audit", "run"])
def test_what_is_no_file_is_rejected(function, tmp_path):
    for given, says in [
        (tmp_path, "cannot be read: Is a directory. Pass the path of a .tflite file"),
        (str(tmp_path / "none"), "cannot be read: No such file"),
        (of_keras_3(), "is not the path of a file. Pass that of a .tflite file"),
        ([b"TFL3"], "is not the path of a file. Pass that of a .tflite file"),
    ]:
        with pytest.raises(deploy.ConversionError, match=says):
            function(given)
    with pytest.raises(deploy.ConversionError):
        function(b"TFL3")


@pytest.mark.convert
def test_a_runner_opens_a_path(tmp_path):
    layer = lq.layers.QuantConv2D(
        32, 3, input_quantizer="ste_sign", kernel_quantizer="ste_sign"
    )
    model = keras.Sequential([keras.Input((4, 4, 2)), layer])
    file = tmp_path / "model.tflite"
    nobn.convert(model, file, verify=False)
    want = deploy.Runner(file.read_bytes())(X)
    for given in (file, str(file)):
        np.testing.assert_array_equal(deploy.Runner(given)(X), want)
    run = deploy.Runner(file)
    np.testing.assert_array_equal(run(tf.constant(X)), want)
    one = r"array of shape \(.*\). Pass a batch .* of one, x\[np.newaxis\]"
    with pytest.raises(deploy.ConversionError, match=one):
        run(X[0])
    with pytest.raises(deploy.ConversionError, match="takes 1 arrays.*but got 4. Pass"):
        run(X.tolist())
    for given in (None, 3, "x", [None], [["a"]], Thing):
        with pytest.raises(deploy.ConversionError, match="takes arrays of numbers"):
            run(given)


@pytest.mark.parametrize(
    "arguments, says",
    [
        (([tf.ones((2, 3)), tf.ones(3)], tf.ones((2, 3)), (0,)), "gradient is not one"),
        ((tf.ones((2, 3)), [tf.ones((2, 3)), tf.ones(3)], (0,)), "weight is not one"),
        ((None, tf.ones(3), (0,)), "gradient is not one tensor"),
        (("a", tf.ones(3), (0,)), "gradient is not one tensor"),
        (
            ([[1.0], [2.0]], [[1.0, 2.0]], (0,)),
            r"shape \(2, 1\) and weight the shape \(1, 2\)",
        ),
        (
            (tf.ones(3), tf.ones(3), (1,)),
            r"axes=\(1,\) is not a tuple of axes of a weight",
        ),
        ((tf.ones(3), tf.ones(3), 0), "axes=0 is not a tuple of axes"),
    ],
)
def test_gradients_that_are_none_are_rejected(arguments, says):
    with pytest.raises(ERRORS, match=says):
        optimizers.adaptive_gradient_clip(*arguments)


def test_lists_of_numbers_are_tensors():
    found = optimizers.adaptive_gradient_clip([[6.0], [8.0]], [[3.0], [4.0]], (0,))
    np.testing.assert_allclose(found, [[0.03], [0.04]], rtol=1e-6)


class PruneLowMagnitude(keras.layers.Wrapper):
    """Multiplies the kernel by a mask in every call, as wrappers of pruning do."""

    def call(self, inputs):
        kernel = self.layer.kernel
        kernel = getattr(kernel, "latent_variable", kernel)
        kernel.assign(kernel * tf.ones_like(kernel))
        return self.layer(inputs)


class WithSchedule(PruneLowMagnitude):
    """Whose configuration is not whole."""

    def __init__(self, layer, schedule, **kwargs):
        super().__init__(layer, **kwargs)


def pruned(wrapper, binary=True):
    signs = {"input_quantizer": "ste_sign", "kernel_quantizer": "ste_sign"}
    inputs = keras.Input((4, 4, 2))
    layer = lq.layers.QuantConv2D(32, 3, **(signs if binary else {}))
    x = keras.layers.BatchNormalization()(wrapper(layer)(inputs))
    return keras.Model(inputs, lq.layers.QuantConv2D(4, 1, **signs)(x))


@pytest.mark.convert
@pytest.mark.parametrize(
    "use, wrapper, binary",
    [
        (nobn.convert, PruneLowMagnitude, True),
        (deploy.prepared, lambda layer: WithSchedule(layer, 1), False),
        (nobn.fold_batch_norm, lambda layer: WithSchedule(layer, 1), True),
        (nobn.remove_batch_norm, lambda layer: WithSchedule(layer, 1), False),
    ],
)
def test_wrappers_of_pruning_are_to_be_taken_off(use, wrapper, binary, tmp_path):
    arguments = (tmp_path / "model.tflite",) if use is nobn.convert else ()
    with pytest.raises(ValueError, match=r"out of wrappers.*strip_pruning"):
        use(pruned(wrapper, binary), *arguments)
