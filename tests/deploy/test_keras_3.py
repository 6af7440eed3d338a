"""Models of Keras 3, SavedModels and functions become the files that they are."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import zipfile
from collections import Counter
from contextlib import nullcontext, redirect_stdout
from functools import cache
from io import StringIO
from pathlib import Path
from typing import Any

import larq_nobn as nobn
import keras
import numpy as np
import pytest
import tensorflow as tf
from click.testing import CliRunner
from deploy import keras_3
from deploy.keras_3 import NETWORKS, Binary, called, examples, function_of
from larq_nobn.cli import main
from larq_nobn.deploy import (
    ConversionError,
    Runner,
    audit,
    binary_layers,
    convert,
    packed_kernels,
    prepared,
)
from larq_nobn.loading import open_model
from larq_nobn.training import evaluate
from larq_nobn.training._network import transfer
from numpy.testing import assert_allclose, assert_array_equal

# What is converted in int8, too: layers, ends, models inside and numbers of each kind.
IN_INT8 = ("depthwise", "estimators", "nested", "two_outputs", "preprocessing", "half")
IN_INT8 = [getattr(keras_3, name) for name in IN_INT8]
IN_FLOAT = [("lce", network) for network in NETWORKS]
IN_FLOAT += [("litert", network) for network in NETWORKS if network not in IN_INT8]
MADE: dict[Any, Any] = {}


def made(network: Any, float32: bool = False) -> Any:
    """A network of the same weights each time."""
    float32 = float32 and network is keras_3.half
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


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Any:
    """The file of a network for a runtime, with its report."""
    folder = tmp_path_factory.mktemp("written")

    @cache
    def write(network: Any, runtime: str) -> Any:
        file = folder / f"{network.__name__}_{runtime}.tflite"
        model, verify = made(network), runtime == "lce"
        return file, convert(model, file, runtime=runtime, verify=verify)

    return write


def name_of(each: Any) -> str:
    return each if isinstance(each, str) else each.__name__


@pytest.mark.parametrize("runtime, network", IN_FLOAT, ids=name_of)
def test_a_file_computes_what_keras_3_does(runtime, network, written):
    model = made(network)
    before = [np.array(x) for x in model.weights]
    file, report = written(network, runtime)
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


# Of the first a function, in which nothing is left of layers, and of the others a
# SavedModel, which sorts inputs by name.
FUNCTIONS = ["depthwise", "estimators", "preprocessing", "half"]
SAVED = ["nested", "subclassed", "two_inputs", "two_outputs"]


@pytest.mark.parametrize("name", FUNCTIONS + SAVED)
def test_functions_and_saved_models_have_the_same_operations(name, written, tmp_path):
    network, file = getattr(keras_3, name), tmp_path / "a.tflite"
    model = made(network, True)
    if name in SAVED:
        model.export(str(tmp_path / "saved"), verbose=False)
    given = tmp_path / "saved" if name in SAVED else function_of(model)
    convert(given, file, verify=False)
    assert operations(file) == operations(written(network, "lce")[0])


@pytest.fixture(scope="module")
def forms(tmp_path_factory) -> dict[str, Any]:
    """One network in all forms that are taken."""
    folder, model = tmp_path_factory.mktemp("forms"), made(keras_3.convolution)
    model.export(str(folder / "saved"), verbose=False)
    model.save(folder / "model.keras")
    function = function_of(model)
    concrete = function.get_concrete_function()
    return {
        **{"model": model, "file": str(folder / "model.keras")},
        **{"saved": folder / "saved", "function": function, "concrete": concrete},
        "with_flag": tf.function(
            lambda image, training=False: {"logits": model(image, training=training)},
            input_signature=[tf.TensorSpec((None, 8, 8, 3), tf.float32)],
        ).get_concrete_function(),
    }


@pytest.mark.parametrize(
    "form", ["model", "file", "saved", "function", "concrete", "with_flag"]
)
def test_every_entry_takes_every_form(form, forms, tmp_path):
    model, given, file = forms["model"], forms[form], tmp_path / "model.tflite"
    images = examples(model, 16)
    (logits,) = called(model, images)
    labels = np.where(np.arange(16) < 12, logits.argmax(1), 4 - 1 - logits.argmax(1))
    assert evaluate(given, (images[0], labels))["accuracy"] == 12 / 16
    assert binary_layers(given) == ["binary"]
    assert convert(given, file, runtime="litert", verify=False).binary_layers == 1
    assert_allclose(Runner(str(file)).outputs(images)[0], logits, 1e-4, 1e-4)
    assert_allclose(prepared(given).predict(images[0], verbose=0), logits, 1e-4, 1e-4)
    (kernel,) = packed_kernels(given)
    weights = np.array(model.get_layer("binary").kernel)
    assert kernel.name == "binary" and kernel.padding == "valid"
    assert_array_equal(kernel.unpacked(), np.where(weights >= 0, 1, -1))
    assert kernel.thresholds is None or not kernel.thresholds.any()


@pytest.mark.parametrize("form", ["file", "saved"])
def test_commands_take_files_of_keras_3(form, forms, tmp_path):
    def said(*words: Any) -> tuple[int, str]:
        result = CliRunner().invoke(main, [*map(str, words)])
        return result.exit_code, result.output

    code, told = said("summary", forms[form])
    assert code == 0 and re.search(r"binary +.? binary convolution", told), told
    training = ("train", "--dataset", "digits", "--init", forms[form])
    for words in (("fold", forms[form], tmp_path / "a.keras"), training):
        code, told = said(*words, *["--output", tmp_path / "run"] * ("train" in words))
        assert code == 2
        remedy = "legacy.set_weights(model.get_weights())"
        assert remedy in told if form == "file" else "is a SavedModel" in told
    assert not list(tmp_path.iterdir())


def same_layers(library: Any) -> Any:
    """A network that both Kerases have, with weights of every kind."""
    kinds = library.layers
    start = library.Input((8, 8, 3))
    x = kinds.Conv2D(4, 3, name="first")(start)
    block = library.Input((6, 6, 4)), kinds.DepthwiseConv2D(3, name="depthwise")
    norm = kinds.BatchNormalization(name="norm")
    x = library.Sequential([*block, norm], name="block")(x)
    x = kinds.PReLU(shared_axes=[1, 2], name="act")(kinds.Dropout(0.5)(x))
    x = kinds.SeparableConv2D(5, 3, name="separable")(x)
    return library.Model(start, kinds.Dense(3, name="head")(kinds.Flatten()(x)))


@pytest.mark.parametrize("by_name", [False, True])
def test_weights_are_carried_over(by_name):
    model, legacy = same_layers(keras), same_layers(tf.keras)
    random = np.random.default_rng(0)
    shapes = [x.shape for x in model.get_weights()]
    model.set_weights([random.uniform(0.5, 1.5, shape) for shape in shapes])
    if by_name:
        record = transfer(model, legacy, "model.keras")
        assert not record["fresh"] and len(record["taken"]) == len(shapes)
    else:  # as messages say
        legacy.set_weights(model.get_weights())
    x = examples(model, 4)
    assert_allclose(legacy(x[0]), called(model, x)[0], 1e-5, 1e-5)


def fixed_point(x: Any) -> Any:
    """As HGQ2 and QKeras round to 4 bits behind the point."""
    rounded = keras.ops.floor(x * 16.0 + 0.5) / 16.0
    return x + keras.ops.stop_gradient(keras.ops.clip(rounded, -4.0, 3.9375) - x)


@pytest.mark.filterwarnings("ignore:Layer InputLayer does not have a `quantize`")
@pytest.mark.parametrize("kind", ["int8", "fixed"])
def test_layers_of_several_bits_compute_the_same(kind, tmp_path):
    keras.utils.set_random_seed(0)
    first = keras.layers.Dense(8, activation="relu" if kind == "int8" else fixed_point)
    model = keras.Sequential([keras.Input((16,)), first, keras.layers.Dense(4)])
    if kind == "int8":
        model.quantize("int8")
    file = tmp_path / "model.tflite"
    convert(model, file, runtime="litert")
    x = np.random.default_rng(0).normal(size=(16, 16)).astype(np.float32)
    assert_allclose(Runner(str(file)).outputs([x])[0], model(x), 1e-4, 1e-4)


INT8 = [("litert", network) for network in IN_INT8]
INT8 += [("lce", keras_3.residual), ("lce", keras_3.two_inputs), ("lce", keras_3.half)]


@pytest.mark.parametrize("runtime, network", INT8, ids=name_of)
@pytest.mark.slow
def test_int8_in_one_call(runtime, network, tmp_path):
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
    with pytest.raises(ConversionError, match="Call it on a batch first"):
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
    with pytest.raises(ConversionError, match="Call it on a batch first"):
        convert(function, file, allow_float=True)
    report = convert(function, file, allow_float=True, input_shape=(2, 2, 4))
    assert report.binary_layers == 0
    spec = tf.TensorSpec((None, None, None, 3), tf.float32)
    with pytest.raises(ConversionError, match="Pass the rest as input_shape"):
        convert(tf.function(tf.nn.relu, [spec]), file, allow_float=True)
    nothing = tf.function(lambda: tf.zeros(3), []).get_concrete_function()
    with pytest.raises(ConversionError, match="takes nothing"):
        convert(nothing, file)


def of(*specs: Any, call: Any = tf.nn.relu) -> Any:
    return tf.function(call, input_signature=[tf.TensorSpec(*x) for x in specs])


@pytest.mark.parametrize(
    "function, says",
    [
        (of((None,)), "the size of its input is not known. Call it on a batch first"),
        (of(((),)), r"takes \[TensorSpec.*, and a file takes batches of tensors"),
        (of(((3, 4),)), "takes 3 examples, and the file would take 1. Convert it with"),
        (
            of(((None, 2), tf.string), call=tf.strings.length),
            "which is string, but files",
        ),
        (of(((None, 2),), call=tf.as_string), "which is string, but files"),
        (of(((None, 2),), call=lambda x: 1 / 0), "cannot be traced: .*by zero"),
        (of(((None, 2),), call=lambda x: None), "returns None, and a file has outputs"),
    ],
    ids=["rank", "scalar", "batch", "string", "strings", "error", "nothing"],
)
def test_functions_that_no_file_can_have(function, says, tmp_path):
    with pytest.raises(ConversionError, match=says):
        convert(function, tmp_path / "model.tflite", allow_float=True)


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
    with pytest.raises(ConversionError, match="which is string, but"):
        convert(plain["two"], file, signature="read")
    with pytest.raises(ConversionError, match="is for the folder of a SavedModel"):
        convert(module.double, file, signature="double")
    with pytest.raises(FileNotFoundError, match="contains no model.keras"):
        convert(str(tmp_path), file)
    with pytest.raises(ConversionError, match="'WriteFile', which does more than"):
        tf.saved_model.save(Writing(), plain["writing"])
        convert(plain["writing"], file)


def run_here(words: Any, **_: Any) -> Any:
    """Builds a model again in this process, which is faster."""
    with redirect_stdout(StringIO()) as said, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["-c", *map(str, words[3:])])
        patch.setattr(sys, "path", sys.path)
        exec(words[2], {})
    return subprocess.CompletedProcess(words, 0, said.getvalue(), "")


@pytest.mark.slow
def test_a_model_of_another_backend_is_built_again(tmp_path, monkeypatch):
    file, model = tmp_path / "model.tflite", made(keras_3.two_outputs)
    monkeypatch.setattr(keras.backend, "backend", lambda: "torch")
    with monkeypatch.context() as here:
        here.setattr(subprocess, "run", run_here)
        with pytest.raises(ConversionError, match="'torch', and .*: Inputs have"):
            convert(made(keras_3.residual), file)  # whose configs lack the padding
    report = convert(model, file)
    assert report.binary_layers == 1
    assert same(model, file) >= 0.9
