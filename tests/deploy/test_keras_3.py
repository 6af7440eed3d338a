"""Models of Keras 3, SavedModels and functions become the files that they are."""

from __future__ import annotations

import json
import sys
import zipfile
from collections import Counter
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import larq_nobn as nobn
import keras
import numpy as np
import pytest
import tensorflow as tf
from deploy import keras_3
from deploy.keras_3 import NETWORKS, Binary, called, examples, function_of
from larq_nobn.deploy import ConversionError, Runner, audit, binary_layers, convert
from larq_nobn.loading import open_model
from numpy.testing import assert_allclose, assert_array_equal

BOTH = ("lce", "litert")
MADE: dict[Any, Any] = {}


def made(network: Any, float32: bool = False) -> Any:
    """A network of the same weights each time."""
    key = network, float32
    if key not in MADE:
        keras.utils.clear_session()
        keras.utils.set_random_seed(1)
        old = keras_3.policy
        if float32:  # the same network in another precision
            keras_3.policy = lambda name: nullcontext()
        MADE[key] = network()
        keras_3.policy = old
    return MADE[key]


def same(model: Any, file: Path, tolerance: float = 1e-3) -> float:
    """The fraction of examples on which a file computes what Keras 3 does."""
    given = examples(model, 16)
    runner = Runner(str(file))
    names = [tensor.name for tensor in runner.input_tensors]
    ordered = [x.name for x in getattr(model, "inputs", ())]
    if len(names) > 1:
        assert names == ordered
    pairs = zip(called(model, given), runner.outputs(given), strict=True)
    near = [np.isclose(a, b, tolerance, tolerance).reshape(16, -1) for a, b in pairs]
    return float(np.all(np.concatenate(near, 1), axis=1).mean())


def operations(file: Path) -> Counter[str]:
    return Counter(row["op"] for row in audit(str(file)).operations)


@pytest.mark.parametrize("network", NETWORKS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("runtime", BOTH)
def test_a_file_computes_what_keras_3_does(network, runtime, tmp_path):
    model, file = made(network), tmp_path / "model.tflite"
    before = [np.array(x) for x in model.weights]
    report = convert(model, file, runtime=runtime, verify=runtime == "lce")
    assert same(made(network, True), file) >= 0.9
    assert report.binary_layers == len(NETWORKS[network])
    own = {x.name for x in model._flatten_layers()} | {model.name}
    named = {name for op in report.float_ops for name in op["layers"]}
    assert named <= own
    assert "head" in named or network.__name__ not in ("convolution", "half")
    for old, weight in zip(before, model.weights, strict=True):
        assert_array_equal(old, np.array(weight))
    if runtime == "lce":
        assert binary_layers(model) == NETWORKS[network]
        assert report.not_prepared and "legacy Keras" in report.not_prepared
        policies = {x.dtype_policy.name for x in model.layers}
        assert ("mixed_bfloat16" in policies) == (network is keras_3.half)


@pytest.mark.parametrize("network", NETWORKS, ids=lambda f: f.__name__)
def test_functions_and_saved_models_have_the_same_operations(network, tmp_path):
    model, wanted = made(network, True), tmp_path / "model.tflite"
    convert(model, wanted, verify=False)
    model.export(str(tmp_path / "saved"), verbose=False)
    function = function_of(model)
    concrete = function.get_concrete_function()
    for place, given in enumerate((function, concrete, tmp_path / "saved")):
        file = tmp_path / f"{place}.tflite"
        convert(given, file, verify=False)
        assert operations(file) == operations(wanted)
    x = examples(model, 4)
    made_of_both = (Runner(str(f)).outputs(x) for f in (wanted, tmp_path / "1.tflite"))
    for pair in zip(*made_of_both, strict=True):
        assert_allclose(*pair, 1e-5, 1e-5)


@pytest.mark.parametrize("runtime", BOTH)
@pytest.mark.parametrize("network", NETWORKS, ids=lambda f: f.__name__)
@pytest.mark.slow
def test_int8_in_one_call(network, runtime, tmp_path):
    model, file = made(network), tmp_path / "model.tflite"
    given = examples(model, 64)
    report = convert(
        *(model, file),
        runtime=runtime,
        int8=True,
        calibrate=given if len(given) > 1 else given[0],
    )
    assert report.verify["int8"]["worst_steps"] <= 2
    assert report.binary_layers == len(NETWORKS[network])
    if runtime == "litert":
        assert not report.float_ops


def test_int8_of_a_function_and_of_what_has_no_layers(tmp_path):
    model, file = made(keras_3.convolution), tmp_path / "model.tflite"
    images = examples(model, 32)[0]
    report = convert(
        *(function_of(model), file),
        runtime="litert",
        int8=True,
        calibrate=images,
        io="int8",
    )
    assert report.verify["int8"]["worst_steps"] <= 2 and not report.float_ops
    # Each step is 1/255 of what the images had.
    (tensor,) = Runner(str(file)).input_tensors
    low, high = images.min(), images.max()
    assert_allclose(tensor.scale, (high - low) / 255, 1e-5)


def test_layers_in_float_have_their_names(tmp_path):
    start = keras.Input((8, 8, 4))
    x = keras.layers.MaxPooling2D(name="largest")(Binary(4, name="signs")(start))
    sign = keras.layers.Activation(keras_3.by_subtraction, name="sign")(x)
    kernel = keras.layers.DepthwiseConv2D(3, use_bias=False, name="few")
    model = keras.Model(start, kernel(sign), name="few_bits")
    kernel.set_weights([np.sign(np.array(kernel.kernel)) + 0.0])
    with pytest.raises(ConversionError, match="Layer 'few' is a binary DepthwiseConv"):
        convert(model, tmp_path / "model.tflite")
    report = convert(model, tmp_path / "model.tflite", allow_float=True)
    assert [row["layer"] for row in report.in_float] == ["few"]


# --- files of Keras 3


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, Path]:
    folder, model = tmp_path_factory.mktemp("files"), made(keras_3.nested)
    files = {suffix: folder / f"model{suffix}" for suffix in (".keras", ".h5")}
    for file in files.values():
        model.save(file)
    return files


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_files_of_keras_3_are_opened_by_it(suffix, files):
    model = open_model(files[suffix])
    assert isinstance(model, keras.Model)
    x = examples(model, 2)
    assert_allclose(called(model, x)[0], called(made(keras_3.nested), x)[0], 1e-5, 1e-6)
    with pytest.raises(ValueError, match="is of Keras 3.*set_weights"):
        nobn.fold_batch_norm(model)


def changed(file: Path, target: Path, edit: Any) -> Path:
    with zipfile.ZipFile(file) as old, zipfile.ZipFile(target, "w") as new:
        for entry in old.namelist():
            content = old.read(entry)
            if entry == "config.json":
                config = json.loads(content)
                edit(config["config"]["layers"])
                content = json.dumps(config).encode()
            new.writestr(entry, content)
    return target


def a_lambda(rows: Any) -> None:
    rows[1].update(class_name="Lambda", config={"name": "first", "function": {}})


def bytecode(rows: Any) -> None:
    code = {"class_name": "__lambda__", "config": {"code": "AAAA"}}
    rows[1]["config"]["activation"] = code


def an_import(rows: Any) -> None:
    rows[1].update(module="nobn_trap", class_name="Trap", registered_name="Trap")


def a_function_elsewhere(rows: Any) -> None:
    rows[1]["config"]["activation"] = {
        **{"module": "os", "class_name": "function"},
        **{"config": "system", "registered_name": "system"},
    }


def a_program(rows: Any) -> None:
    rows[1].update(module="keras.layers", class_name="TFSMLayer", registered_name=None)


def no_layer(rows: Any) -> None:
    rows[1].update(module="keras.utils", class_name="get_file", registered_name=None)


@pytest.mark.parametrize(
    "edit",
    [a_lambda, bytecode, an_import, a_function_elsewhere, a_program, no_layer],
    ids=lambda f: f.__name__,
)
def test_no_code_of_a_file_runs(edit, files, tmp_path, monkeypatch):
    (tmp_path / "nobn_trap.py").write_text("raise SystemExit('it ran')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "nobn_trap", raising=False)
    file = changed(files[".keras"], tmp_path / "model.keras", edit)
    with pytest.raises(ValueError, match=r"in layer 'first'|not trusted"):
        open_model(file)
    assert "nobn_trap" not in sys.modules


# --- what says no size, no signature or no tensors


def test_sizes_that_nothing_says(tmp_path):
    file, model = tmp_path / "model.tflite", keras_3.Subclassed()
    with pytest.raises(ConversionError, match="Pass input_shape or data"):
        convert(model, file)
    assert convert(model, file, input_shape=(8, 8, 3)).binary_layers == 1
    fresh = keras_3.Subclassed()
    data = examples(model, 2)[0]
    assert convert(fresh, file, data=data).binary_layers == 1

    start = keras.Input((None, None, 3))
    x = keras.layers.GlobalAveragePooling2D()(Binary(4, name="binary")(start))
    model = keras.Model(start, x)
    with pytest.raises(ConversionError, match="Pass the rest as input_shape"):
        convert(model, file)
    assert convert(model, file, input_shape=(9, 7, 3)).binary_layers == 1
    with pytest.raises(ConversionError, match="does not fit the input"):
        convert(model, file, input_shape=(9, 7, 4))


def test_functions_without_fixed_shapes(tmp_path):
    file, function = tmp_path / "model.tflite", tf.function(keras_3.by_subtraction)
    with pytest.raises(ConversionError, match="Pass input_shape or data"):
        convert(function, file, allow_float=True)
    report = convert(function, file, allow_float=True, input_shape=(2, 2, 4))
    assert report.binary_layers == 0
    spec = tf.TensorSpec((None, None, None, 3), tf.float32)
    with pytest.raises(ConversionError, match="Pass the rest as input_shape"):
        convert(tf.function(tf.nn.relu, [spec]), file, allow_float=True)
    nothing = tf.function(lambda: tf.zeros(3), []).get_concrete_function()
    with pytest.raises(ConversionError, match="takes nothing"):
        convert(nothing, file)


class Module(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec((None, 4), tf.float32, "x")])
    def double(self, x):
        return {"twice": 2 * x}

    @tf.function(input_signature=[tf.TensorSpec((None, 1), tf.string, "text")])
    def read(self, text):
        return tf.strings.length(text)


class Writing(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec((), tf.string)])
    def write(self, path):
        with tf.control_dependencies([tf.io.write_file(path, "it ran")]):
            return tf.zeros(1)


def test_signatures_by_name(tmp_path):
    file, module = tmp_path / "model.tflite", Module()
    names = {"double": module.double, "read": module.read}
    plain = {name: str(tmp_path / name) for name in ("none", "two", "writing")}
    tf.saved_model.save(tf.Module(), plain["none"])
    with pytest.raises(ConversionError, match="no signature .*; it has none"):
        convert(plain["none"], file)
    tf.saved_model.save(module, plain["two"], signatures=names)
    convert(plain["two"], file, signature="double", allow_float=True)
    (made_of,) = Runner(str(file)).outputs([np.ones((1, 4), np.float32)])
    assert_array_equal(made_of, 2 * np.ones((1, 4)))
    with pytest.raises(ConversionError, match="has no signature 'half'; it has 'dou"):
        convert(plain["two"], file, signature="half")
    with pytest.raises(ConversionError, match="is string, but"):
        convert(plain["two"], file, signature="read")
    with pytest.raises(ConversionError, match="is for the folder of a SavedModel"):
        convert(module.double, file, signature="double")
    with pytest.raises(ConversionError, match="it contains no saved_model.pb"):
        convert(str(tmp_path), file)
    with pytest.raises(ConversionError, match="'WriteFile', which does more than"):
        tf.saved_model.save(Writing(), plain["writing"])
        convert(plain["writing"], file)


@pytest.mark.slow
def test_a_model_of_another_backend_is_built_again(tmp_path, monkeypatch):
    file, model = tmp_path / "model.tflite", made(keras_3.two_outputs)
    monkeypatch.setattr(keras.backend, "backend", lambda: "torch")
    with pytest.raises(ConversionError, match="'torch', and cannot be rebuilt"):
        convert(made(keras_3.residual), file)  # whose configs lack the padding
    report = convert(model, file)
    assert report.binary_layers == 1
    assert same(model, file) >= 0.9
