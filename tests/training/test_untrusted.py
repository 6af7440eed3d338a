"""No code from a model file is run, however it is hidden; own models open as ever."""

from __future__ import annotations

import contextlib
import copy
import functools
import json
import os
import re
import sys
import zipfile
from pathlib import Path

import larq_nobn as nobn
import h5py
import larq as lq
import numpy as np
import pytest
import tensorflow as tf
from hdf5_texts import name_one_text_often
from larq_nobn._keras import keras
from larq_nobn._messages import first_line
from larq_nobn.training import open_model
from larq_nobn.training.folder import _allowed
from numpy.testing import assert_array_equal
from tensorflow.python.util import tf_export
from training import hostile
from training.hostile import Change, Config, function

pytestmark = pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5")
OWN = "pass trust=True (--trust) for a file of your own."


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return hostile.saved(tmp_path_factory.mktemp("small"))


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    """A file that only code from a model file would write."""
    return tmp_path / "written"


@pytest.fixture
def trap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module whose import writes a file."""
    folder = tmp_path / "modules"
    folder.mkdir()
    target = tmp_path / "written"
    (folder / "nobn_trap.py").write_text(f"open({str(target)!r}, 'w').close()")
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "nobn_trap", raising=False)
    return "nobn_trap"


# Those that do it, under Keras: what is rejected here is not a shadow.
LAMBDAS = {
    f"a Lambda's {part}": functools.partial(hostile.lambda_with, part)
    for part in ("function", "mask", "output_shape")
}
WORKING = {
    ("a Lambda's function", ".h5"): LAMBDAS["a Lambda's function"],
    ("a Lambda's mask", ".h5"): LAMBDAS["a Lambda's mask"],
    ("an operation that writes", ".keras"): hostile.write_file,
    ("an operation that writes", ".h5"): hostile.write_file,
}


@pytest.mark.parametrize("name, suffix", WORKING)
def test_an_attack_that_works_does_not(
    name: str, suffix: str, files: dict[str, Path], canary: Path, tmp_path: Path
):
    file = tmp_path / f"model{suffix}"
    hostile.changed(files[suffix], file, WORKING[name, suffix](canary))
    for compile in (False, True):
        with pytest.raises(ValueError, match="in layer '(dense|plus)'"):
            open_model(file, compile)
        assert not canary.exists()
    with contextlib.suppress(ValueError):  # the code has run by then
        open_model(file, trust=True)
    assert canary.exists()


def test_a_path_through_a_module_works_in_keras(files: dict[str, Path], tmp_path: Path):
    """Called with what the file says: `os.getcwd` takes no arguments, and says so."""
    file = hostile.changed(files[".keras"], tmp_path / "m.keras", hostile.dotted)
    with pytest.raises(ValueError) as caught:
        open_model(file, trust=True)
    assert "getcwd() takes no" in str(caught.value.__cause__)
    with pytest.raises(ValueError, match=r"carries Python code .* in layer 'dense'"):
        open_model(file)


def attacks(canary: Path) -> dict[str, tuple[Change, str]]:
    """Every way that was found to name what is not on the list, and what is said."""
    code = "carries Python code"
    trusted = "tf_keras.src.utils.data_utils"  # it imports os, shutil and urllib
    marshalled = hostile.marshalled(canary)
    getcwd = function(trusted, "os.getcwd", "os.getcwd")
    dense, of_class = hostile.of_dense, hostile.of_class
    lambda_mask = hostile.lambda_with("mask", canary)
    spec = {"class_name": "__typespec__", "spec_name": "Popen", "module": "subprocess"}
    spec |= {"config": ["true"], "registered_name": None}
    operator = "wants the operation"
    module = "from the Python module"
    odd = "which is not opened"
    return {
        **{name: (make(canary), code) for name, make in LAMBDAS.items()},
        "path of a function": (hostile.dotted, code),
        "bytecode for an activation": (dense(activation=marshalled), code),
        "bytecode for a number": (dense(units=marshalled), code),
        "path for an activation": (dense(activation=getcwd), module),
        "path for a regularizer": (dense(kernel_regularizer=getcwd), module),
        "path for an initializer": (
            dense(
                kernel_initializer={
                    "module": trusted,
                    "class_name": "tempfile.TemporaryDirectory",
                    "config": {},
                    "registered_name": None,
                }
            ),
            module,
        ),
        "function of Keras that fetches": (
            dense(activation=function("keras.utils", "get_file", "get_file")),
            module,
        ),
        "the same as a class": (
            of_class(module="keras.utils", class_name="get_file", registered_name=None),
            module,
        ),
        "class of a module of Keras": (
            of_class(module=trusted, class_name="Sequence", registered_name=None),
            module,
        ),
        "listed name in another module": (
            of_class(module="keras.losses", class_name="Dense", registered_name=None),
            module,
        ),
        "one name for another": (
            of_class(
                module="keras.layers", class_name="RPReLU", registered_name="Lambda"
            ),
            code,
        ),
        "registered class under a listed name": (
            of_class(class_name="Lambda", registered_name="larq_nobn>RPReLU"),
            code,
        ),
        "name that is none": (of_class(class_name=None), "has None for the name"),
        "name that is a list": (of_class(class_name=["Dense"]), "for the name"),
        "type of tensor": (dense(units=spec), module),
        "composite tensor": (dense(units=["_COMPOSITE_TYPE", "{}"]), odd),
        "type of data": (
            dense(
                units={"class_name": "__numpy__", "config": {"value": 1, "dtype": "O"}}
            ),
            odd,
        ),
        "operation that writes": (hostile.write_file(canary), operator),
        "operation that reads": (hostile.operation("io.read_file", "/x"), operator),
        "operation that runs Python": (
            hostile.operation("py_function", kind="SlicingOpLambda"),
            operator,
        ),
        "raw operation": (hostile.operation("raw_ops.WriteFile", "a", "b"), operator),
        "operation of TensorFlow 1": (
            hostile.operation("compat.v1.io.write_file", str(canary), "x"),
            operator,
        ),
        "operation that is a dictionary": (hostile.operation({"a": 1}), operator),
        "loader of libraries": (hostile.operation("load_op_library", "x.so"), operator),
        "node of a graph": (hostile.raw_operation(canary), module),
        "method of a class": (
            of_class(
                "plus",
                class_name="ClassMethod",
                registered_name="ClassMethod",
                config={
                    "name": "c",
                    "cls_symbol": "io.gfile.GFile",
                    "method_name": "from_tensor",
                },
            ),
            operator,
        ),
        "method of a tensor": (
            of_class(
                "plus",
                class_name="InstanceMethod",
                registered_name="InstanceMethod",
                config={"name": "m", "attr_name": "__reduce__"},
            ),
            operator,
        ),
        "attribute of a tensor": (
            of_class(
                "plus",
                class_name="InstanceProperty",
                registered_name="InstanceProperty",
                config={"name": "p", "attr_name": "__class__"},
            ),
            operator,
        ),
        "object among constants": (
            hostile.operation("math.add", {"class_name": "Dense", "config": {}}),
            "is called with an object",
        ),
        "wrapper of a cell": (hostile.cell_wrapper(canary), module),
        "vocabulary of this computer": (
            of_class(
                class_name="StringLookup",
                config={"name": "words", "vocabulary": "/etc/passwd"},
            ),
            "reads its vocabulary from the file",
        ),
        "columns": (of_class(class_name="DenseFeatures"), module),
        "inside TimeDistributed": (
            hostile.wrapped("TimeDistributed", "layer", lambda_mask),
            code,
        ),
        "inside Bidirectional": (
            hostile.wrapped("Bidirectional", "layer", lambda_mask),
            code,
        ),
        "inside a preconditioning": (
            hostile.wrapped("BatchNormalizationPreconditioning", "layer", lambda_mask),
            code,
        ),
        "inside a tuple": (hostile.in_tuple(lambda_mask), code),
        "training of a model inside": (hostile.nested(loss=marshalled), code),
        "words that are functions of Keras": (
            dense(activation="deserialize"),
            "has activation='deserialize', which is not known",
        ),
        "word with a path": (dense(kernel_initializer="os.getcwd"), "is not known"),
        # Keras opens these as no activation at all.
        "function without a name": (
            dense(activation=function("larq.activations", "hard_tanh", None)),
            "calls a function 'hard_tanh' and None",
        ),
        "function whose name is missing": (
            dense(
                activation={
                    "module": "larq.activations",
                    "class_name": "function",
                    "config": "hard_tanh",
                }
            ),
            "calls a function 'hard_tanh' and None",
        ),
        "two functions": (
            dense(activation=function("keras.activations", "relu", "tanh")),
            "calls one function 'relu' and 'tanh'",
        ),
        "activation without a class": (
            dense(activation={"module": "m", "class_name": None, "config": {}}),
            "has None for the name",
        ),
        "constants alone": (
            hostile.operation("fill", [10**9, 10**9], 1.0),
            "is called with constants only",
        ),
        "tensors without end": (
            with_call("split", {"num_or_size_splits": 10**7}),
            "has num_or_size_splits=10000000, more than 65,536",
        ),
        "tensors without end in a layer": (dense(size=10**8), "has size=100000000"),
        "images without end": (
            lambda config: hostile.layer(config, "image")["config"].update(
                batch_input_shape=[10**9, 4]
            ),
            "has batch_input_shape=[1000000000, 4]",
        ),
        **{
            f"{key} without end": (dense(**{key: value}), f"has {key}=")
            for key, value in GEOMETRY.items()
        },
        **{
            f"padding with {value}": (dense(pad_values=value), "which is not a number")
            for value in ([1.0] * 32, {"a": 1}, "one", True, None)
        },
        **{
            f"padding with {value}": (dense(pad_values=value), "more than 65,536")
            for value in (float("nan"), float("inf"), -float("inf"), 1e300, 10**400)
        },
        **{
            f"{value} for a number": (dense(scale=value), "which is not a number")
            for value in ("x", "1", [[1.0], ["x"]])
        },
        **{f"{key} without end": (longer(key), "more than 1") for key in LENGTHS},
        **{
            f"the name {name!r}": (
                dense(name=name),
                f"has the name {name!r} with codes",
            )
            for name in ("a\nb", "\x1b[2J", "a\u202eb", "\ud800")
        },
    }


GEOMETRY = {
    **dict.fromkeys(("kernel_size", "strides", "dilation_rate"), [1, 10**9]),
    **dict.fromkeys(("pool_size", "output_padding"), [10**9, 1]),
    **dict.fromkeys(("padding", "cropping"), [[0, 10**9], [0, 0]]),
    "size": 10**9,
}
LENGTHS = {"layers": 10_001, "input_layers": 1001, "output_layers": 1001}


def longer(key: str) -> Change:
    """A list of a model with more entries, each of which is there already."""

    def change(config: Config) -> None:
        found = config["config"]
        found[key] = found[key][:1] * LENGTHS[key]

    return change


def with_call(function: str, keywords: Config, layer: str = "dense") -> Change:
    """An operation between layers, with other keywords."""

    def change(config: Config) -> None:
        found = hostile.layer(config, "plus")
        found["config"]["function"] = function
        found["inbound_nodes"] = [[layer, 0, 0, keywords]]

    return change


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize("name", attacks(Path("written")))
def test_an_attack_is_rejected(
    name: str, suffix: str, files: dict[str, Path], canary: Path, tmp_path: Path
):
    change, said = attacks(canary)[name]
    file = hostile.changed(files[suffix], tmp_path / f"model{suffix}", change)
    with pytest.raises(ValueError) as caught:
        open_model(file, compile=True)
    message = str(caught.value)
    assert said in message and str(file) in message
    assert message.count("\n") == 0
    assert message.endswith(OWN)
    assert not canary.exists()


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_what_tensorflow_says_of_a_shape(suffix: str, tmp_path: Path):
    """It writes down the whole operation, as its own code sees it."""
    inputs = keras.Input((8, 8, 1), name="image")
    model = keras.Model(inputs, keras.layers.DepthwiseConv2D(3, name="conv")(inputs))
    file = tmp_path / f"model{suffix}"
    keras.models.save_model(model, file)

    def shrink(config: Config) -> None:
        found = hostile.layer(config, "image")["config"]
        found["batch_input_shape"] = [None, 1, 1, 1]

    hostile.changed(file, tmp_path / f"other{suffix}", shrink)
    with pytest.raises(ValueError, match="caused by .* from 1 in 'conv/depthwise'$"):
        open_model(tmp_path / f"other{suffix}")


def test_what_python_and_tensorflow_say_is_put_into_words(files: dict[str, Path]):
    def change(config: Config) -> None:
        found = hostile.layer(config, "dense")
        found.update(class_name="TextVectorization", config={"name": "dense"})

    file = files[".h5"].with_name("words.h5")
    hostile.changed(files[".h5"], file, change)
    with pytest.raises(ValueError, match="a Keras model: '[a-z_]+' is missing$"):
        open_model(file)
    x = keras.Input((4, 4, 3))
    sign = nobn.quantizers.RSign()
    sign(np.zeros((1, 4, 4, 2)))
    with pytest.raises(ValueError) as caught:
        lq.layers.QuantConv2D(2, 1, input_quantizer=sign)(x)
    assert str(caught.value).count("Exception encountered when calling") > 1
    assert first_line(caught.value).startswith("One RSign object got inputs of 2 and")
    with pytest.raises(tf.errors.OpError) as caught:
        tf.cast([1.0], tf.string)
    assert "{{function_node" in str(caught.value)  # of this version
    assert first_line(caught.value) == "Cast float to string is not supported"


def waiting_for_each_other(config: Config) -> None:
    calls = hostile.layer(config, "dense")["inbound_nodes"]
    calls.insert(0, [["other", 0, 0, {}]])


LOOPS = {
    "each other": (waiting_for_each_other, "'dense'"),
    "itself": (with_call("math.add", {"y": ["plus", 0, 0]}), "'plus'"),
    "a tensor too many": (with_call("math.add", {"y": ["dense", 0, 7]}), "'plus'"),
    "a call too many": (with_call("math.add", {"y": ["dense", 7, 0]}), "'plus'"),
    "a tensor of none": (with_call("math.add", {"y": ["other", 0, 0]}), "'plus'"),
}


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize("name", LOOPS)
def test_layers_that_wait_in_vain(
    name: str, suffix: str, files: dict[str, Path], tmp_path: Path
):
    """Keras alone would wait for ever, where it is not stopped."""
    change, waiting = LOOPS[name]
    file = hostile.changed(files[suffix], tmp_path / f"m{suffix}", change)
    for trust in (False, True):
        with pytest.raises(ValueError, match=f"{waiting} waits for a tensor that no"):
            open_model(file, trust=trust)


def test_a_call_too_many_of_a_model_without_input(tmp_path: Path):
    inputs = keras.Input((3,))
    inner = keras.Sequential([keras.layers.Dense(3)], name="inner")
    model = keras.Model(inputs, keras.layers.Add(name="add")([inner(inputs), inputs]))
    keras.models.save_model(model, tmp_path / "m.keras")
    for call in (0, 1, 2):

        def change(config: Config, call: int = call) -> None:
            hostile.layer(config, "add")["inbound_nodes"][0][0][1] += call

        file = hostile.changed(tmp_path / "m.keras", tmp_path / "x.keras", change)
        if call == 0:
            open_model(file)
            continue
        with pytest.raises(ValueError, match="'add' waits for a tensor that no layer"):
            open_model(file)


def many_layers(config: Config) -> None:
    """Each small, and all together large."""
    found = config["config"]["layers"]
    for number in range(40):
        more = copy.deepcopy(hostile.layer(config, "other"))
        more["config"].update(name=f"more{number}", units=10**5)
        more["name"] = f"more{number}"
        found.append(more)


GREEDY = {
    "a layer": hostile.of_dense(units=10**9),
    "a layer beyond what an integer contains": hostile.of_dense(units=10**30),
    "many layers": many_layers,
    "a layer in half precision": hostile.of_dense(units=10**9, dtype="mixed_float16"),
}


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize("name", GREEDY)
def test_what_asks_for_more_memory_than_its_weights_take(
    name: str,
    suffix: str,
    files: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    """Refused before any of it is allocated, and by the name of the layer."""
    file = hostile.changed(files[suffix], tmp_path / f"m{suffix}", GREEDY[name])
    made = []
    fill = keras.initializers.GlorotUniform.__call__

    def noted(self, shape, *args, **kwargs):
        made.append(int(np.prod(shape)))
        return fill(self, shape, *args, **kwargs)

    monkeypatch.setattr(keras.initializers.GlorotUniform, "__call__", noted)
    with pytest.raises(ValueError) as caught:
        open_model(file)
    message = str(caught.value)
    assert "bytes in layer '" in message and message.count("\n") == 0
    assert message.endswith(OWN)
    assert sum(made) < 2**25


def test_weights_that_are_packed_twice(files: dict[str, Path], tmp_path: Path):
    """What counts is the room that they take on the disk."""
    with zipfile.ZipFile(files[".keras"]) as old:
        old.extract("model.weights.h5", tmp_path)
        with h5py.File(tmp_path / "model.weights.h5", "a") as stored:
            stored["room"] = np.zeros(1 << 21, np.uint8)
            stored.create_dataset("kernel", (1 << 25,), "f4", chunks=(1 << 16,))
        for packing in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            file = tmp_path / f"{packing}.keras"
            with zipfile.ZipFile(file, "w", packing) as new:
                for name in ("config.json", "metadata.json"):
                    new.writestr(name, old.read(name))
                new.write(tmp_path / "model.weights.h5", "model.weights.h5")
    open_model(tmp_path / f"{zipfile.ZIP_STORED}.keras")
    with pytest.raises(ValueError, match="would grow from .* to 136,3"):
        open_model(file)


@pytest.mark.parametrize("depth", [500, 900, 20000])
@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_deep_nesting(depth: int, suffix: str, files: dict[str, Path], tmp_path: Path):
    text = json.dumps(hostile.configuration(files[suffix]))
    text = text.replace('"units": 4', f'"units": {"[" * depth}{"]" * depth}')
    file = hostile.with_text(files[suffix], tmp_path / f"m{suffix}", text)
    with pytest.raises(ValueError, match="nested too deeply|cannot be opened as"):
        open_model(file)


def test_no_module_is_imported(
    files: dict[str, Path], canary: Path, trap: str, tmp_path: Path
):
    name = {"class_name": "Anything", "registered_name": None}
    changes = [
        hostile.of_class(module=trap, **name),
        hostile.of_class(module=trap, class_name="RPReLU", registered_name=None),
        hostile.of_dense(activation=function(trap, "relu", "relu")),
        hostile.compiled(loss=function(trap, "mse", "mse")),
        hostile.compiled(optimizer={"module": trap, "config": {}, **name}),
    ]
    for change in changes:
        file = hostile.changed(files[".keras"], tmp_path / "m.keras", change)
        with pytest.raises(ValueError, match=f"from the Python module '{trap}'"):
            open_model(file, compile=True)
    assert trap not in sys.modules and not canary.exists()
    file = hostile.changed(files[".keras"], tmp_path / "m.keras", changes[3])
    with pytest.raises(ValueError):
        open_model(file, compile=True, trust=True)
    assert canary.exists()  # it would have been


def test_how_a_model_was_trained_is_looked_through(
    files: dict[str, Path], canary: Path, tmp_path: Path
):
    loss = {"class_name": "Lambda", "config": {"function": hostile.bytecode(canary)}}
    getcwd = function("tf_keras.src.utils.data_utils", "os.getcwd", "os.getcwd")
    for wrong in (loss, getcwd, "deserialize", [["os.getcwd"]], {"a": "get"}):
        for key in ("loss", "metrics", "optimizer"):
            change = hostile.compiled(**{key: wrong})
            file = hostile.changed(files[".keras"], tmp_path / "m.keras", change)
            for compile in (False, True):
                with pytest.raises(ValueError, match="trust=True"):
                    open_model(file, compile)
    copied = tmp_path / "model.h5"
    for key in ("loss", "metrics", "weighted_metrics"):
        copied.write_bytes(files[".h5"].read_bytes())
        with h5py.File(copied, "a") as stored:
            config = json.loads(stored.attrs["training_config"])
            stored.attrs["training_config"] = json.dumps({**config, key: loss})
        with pytest.raises(ValueError, match="carries Python code"):
            open_model(copied)


def test_a_saved_model_is_code(files: dict[str, Path], tmp_path: Path):
    model = open_model(files[".keras"])
    model.save(tmp_path / "folder", save_format="tf")
    with pytest.raises(ValueError, match="folder is a SavedModel, which is a program"):
        open_model(tmp_path / "folder")
    images = np.ones((2, 4), np.float32)
    trusted = open_model(tmp_path / "folder", trust=True)
    assert_array_equal(trusted(images), model(images))


def test_a_pipe_in_a_saved_model_is_not_waited_for(tmp_path: Path):
    (tmp_path / "saved_model.pb").touch()
    os.mkfifo(tmp_path / "keras_metadata.pb")
    with pytest.raises(OSError, match="Not a file, but a pipe or a device"):
        open_model(tmp_path, trust=True)


def test_a_lambda_of_ones_own_opens_with_trust(tmp_path: Path):
    inputs = keras.Input((2,))
    outputs = keras.layers.Lambda(lambda x: 2 * x)(inputs)
    model = keras.Model(inputs, outputs)
    for name in ("lambda.keras", "lambda.h5"):
        keras.models.save_model(model, tmp_path / name)
        with pytest.raises(ValueError, match=r"--trust\) for a file of your own"):
            open_model(tmp_path / name)
        opened = open_model(tmp_path / name, trust=True)
        assert_array_equal(opened(np.ones((1, 2))), [[2, 2]])


def test_a_layer_is_no_model(files: dict[str, Path], tmp_path: Path):
    one = {"module": "keras.layers", "class_name": "Flatten", "config": {"name": "f"}}
    file = hostile.with_configuration(
        files[".keras"], tmp_path / "m.keras", {**one, "registered_name": None}
    )
    with pytest.raises(
        ValueError, match="contains a Flatten, which is not a Keras model"
    ):
        open_model(file)


def operators(x: tf.Tensor) -> tf.Tensor:
    """What people write between layers."""
    y = tf.nn.relu(x + 1.0) * 0.5 - x / 2
    y = tf.concat([y, x[:, ::2, 1:, :][:, :, :4]], 1) if x.shape[2] == 4 else y
    y = tf.pad(y, [[0, 0], [1, 1], [1, 1], [0, 0]])[:, ::2]
    y = tf.where(y > 0.5, y, tf.zeros_like(y)) + tf.cast(tf.abs(y) >= 1, tf.float32)
    y = tf.split(y, 2, axis=-1)[1] + tf.split(y, 2, axis=-1)[0]
    y = tf.image.resize(tf.clip_by_value(y, -1, 1), (4, 4))
    y = tf.math.l2_normalize(tf.nn.depth_to_space(tf.tile(y, [1, 1, 1, 2]), 2), axis=-1)
    y = keras.activations.swish(keras.backend.mean(y, axis=[1, 2]))
    y = tf.reshape(tf.transpose(y), [-1, tf.shape(y)[1]])
    y = tf.linalg.matmul(y, y, transpose_b=True) ** 2 % 3 // 1 + y[:, :1]
    return tf.reduce_mean(tf.math.sigmoid(-y), 1, keepdims=True)


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_operators_between_layers_open(suffix: str, tmp_path: Path):
    inputs = keras.Input((8, 8, 4))
    model = keras.Model(inputs, operators(inputs))
    keras.models.save_model(model, tmp_path / f"m{suffix}")
    images = np.random.default_rng(0).normal(size=(3, 8, 8, 4)).astype(np.float32)
    assert_array_equal(open_model(tmp_path / f"m{suffix}")(images), model(images))


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize("older", [False, True])
def test_models_without_inputs_inside_of_others(
    suffix: str, older: bool, tmp_path: Path
):
    """Built when they are called, or by a shape that an older Keras gave a layer."""
    inputs = keras.Input((3,))
    inner = keras.Sequential([keras.layers.Dense(3)], name="inner")
    if older:
        inner = keras.Sequential([keras.Input((3,)), *inner.layers], name="inner")
    model = keras.Model(inputs, inner(inner(inputs)))
    file = tmp_path / f"m{suffix}"
    keras.models.save_model(model, file)

    def without_input(config: Config) -> None:
        found = hostile.layer(config, "inner")["config"]["layers"]
        assert found.pop(0)["class_name"] == "InputLayer"
        found[0]["config"]["batch_input_shape"] = [None, 3]

    if older:
        hostile.changed(file, tmp_path / f"older{suffix}", without_input)
        file = tmp_path / f"older{suffix}"
    x = np.arange(6.0).reshape(2, 3).astype(np.float32)
    assert_array_equal(open_model(file)(x), model(x))


def test_a_name_is_no_command_of_the_terminal(files: dict[str, Path], tmp_path: Path):
    def rename(config: Config) -> None:
        hostile.layer(config, "dense")["config"]["name"] = "a\x1b[2J\ud800 b"

    file = hostile.changed(files[".keras"], tmp_path / "m.keras", rename)
    with pytest.raises(ValueError) as caught:
        open_model(file)
    assert str(caught.value).isprintable()


@keras.saving.register_keras_serializable("untrusted")
def shrink(x: tf.Tensor) -> tf.Tensor:
    return tf.sign(x) * tf.nn.relu(tf.abs(x) - 0.1)


@keras.saving.register_keras_serializable("untrusted")
class Halving(keras.layers.Layer):
    """A layer with a layer inside, as users write them."""

    def __init__(self, inner=None, **kwargs):
        super().__init__(**kwargs)
        self.inner = inner or keras.layers.Dense(3, activation=shrink)

    def call(self, inputs):
        return self.inner(inputs) / 2

    def get_config(self):
        return {**super().get_config(), "inner": self.inner}

    @classmethod
    def from_config(cls, config):
        inner = keras.saving.deserialize_keras_object(config.pop("inner"))
        return cls(inner, **config)


def users_model() -> keras.Model:
    """Everything at once: nesting, wrappers, registered classes and functions."""
    inner = keras.Sequential(
        [
            keras.Input((4, 6)),
            keras.layers.Bidirectional(keras.layers.LSTM(3, return_sequences=True)),
            keras.layers.TimeDistributed(keras.layers.Dense(4, "gelu")),
        ],
        name="inner",
    )
    x = inputs = keras.Input((4, 6))
    y = inner(x) + inner(x * 2)
    y = keras.layers.MultiHeadAttention(2, 3)(y, y)
    y = keras.layers.Dense(
        4,
        shrink,
        kernel_regularizer=keras.regularizers.L1L2(1e-4, 1e-4),
        kernel_constraint="max_norm",
        bias_initializer=keras.initializers.Constant(0.5),
    )(y)
    y = keras.layers.Activation(keras.layers.LeakyReLU(0.2))(y)
    y = lq.layers.QuantDense(
        5, input_quantizer="ste_sign", kernel_quantizer=lq.quantizers.DoReFa(2)
    )(y)
    y = nobn.layers.RPReLU()(y)
    y = keras.layers.Flatten()(Halving()(y))
    model = keras.Model(inputs, keras.layers.Dense(2, "softmax", dtype="float32")(y))
    model.compile(
        keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(1e-3, 10)),
        keras.losses.SparseCategoricalCrossentropy(),
        metrics=["accuracy", keras.metrics.SparseTopKCategoricalAccuracy(1)],
    )
    return model


def test_a_model_of_every_kind_of_nesting_opens(tmp_path: Path):
    model = users_model()
    inputs = np.random.default_rng(0).normal(size=(3, 4, 6)).astype(np.float32)
    keras.models.save_model(model, tmp_path / "m.keras")
    again = open_model(tmp_path / "m.keras", compile=True)
    assert_array_equal(again(inputs), model(inputs))
    assert again.optimizer.get_config() == model.optimizer.get_config()


@pytest.mark.parametrize(
    "given, layer",
    [
        ('"units": 5', "quant_dense"),
        ('"units": 4, "activation": "gelu"', "dense"),
        ('"units": 3, "activation": "tanh"', "lstm_cell"),
        ('"key_dim": 3', "query"),
        ('"output_dim": 2', "embedding"),
    ],
)
def test_memory_asked_for_inside_of_other_layers(
    given: str, layer: str, tmp_path: Path
):
    model = users_model()
    words = keras.Input((4,))
    x = keras.layers.Embedding(7, 2)(words)
    keras.models.save_model(
        keras.Model([*model.inputs, words], [*model.outputs, x]), tmp_path / "m.keras"
    )
    text = json.dumps(hostile.configuration(tmp_path / "m.keras"))
    assert given in text
    larger = re.sub(r"\d+", str(10**9), given, count=1)
    text = text.replace(given, larger)
    file = hostile.with_text(tmp_path / "m.keras", tmp_path / "large.keras", text)
    with pytest.raises(ValueError, match=f"bytes in layer '[a-z_]*{layer}[_0-9]*',"):
        open_model(file)


def test_what_is_in_a_scope_is_registered(tmp_path: Path):
    class Mine(keras.layers.Dense):
        """Not registered with a decorator."""

    def cube(x):
        return x * x * x

    inputs = keras.Input((2,))
    # Keras itself finds no functions of a scope for files of the older kind.
    for name, activation in {"m.keras": cube, "m.h5": None}.items():
        model = keras.Model(inputs, Mine(2, activation=activation)(inputs))
        keras.models.save_model(model, tmp_path / name)
        with pytest.raises(ValueError, match="register your own with Keras first"):
            open_model(tmp_path / name)
        with keras.utils.custom_object_scope({"Mine": Mine, "cube": cube}):
            opened = open_model(tmp_path / name)
        x = np.arange(4.0).reshape(2, 2).astype(np.float32)
        assert_array_equal(opened(x), model(x))


# Layers of Keras that no file opens without trust, and why.
LEFT_OUT = {
    "AbstractRNNCell": "does nothing by itself",
    "DenseFeatures": "its columns read vocabularies from files",
    "InputSpec": "is not a layer",
    "Lambda": "is bytecode",
}


def test_every_layer_of_keras_was_looked_at():
    layers = {
        name
        for name in dir(keras.layers)
        if isinstance(getattr(keras.layers, name), type)
    }
    known = set(_allowed._CLASSES["keras.layers"].split())
    assert layers - known == set(LEFT_OUT)


@pytest.mark.parametrize("module", {**_allowed._CLASSES, **_allowed._FUNCTIONS})
def test_every_name_is_one_of_keras(module: str):
    listed = (
        f"{_allowed._CLASSES.get(module, '')} {_allowed._FUNCTIONS.get(module, '')}"
    )
    found = functools.reduce(getattr, module.split(".")[1:], keras)
    internal = {"leaky_relu", "log_softmax", "relu6", "silu", "softmax_v2"}
    missing = {name for name in listed.split() if not hasattr(found, name)}
    assert missing <= internal


def test_no_operation_is_one_that_reads_or_runs():
    """By what TensorFlow itself says: neither stateful operations nor functions."""
    known = {
        name
        for name in _allowed.OPERATORS
        if tf_export.get_symbol_from_name(name) is not None
    }
    assert {n for n in _allowed.OPERATORS if not n.startswith("compat.")} <= known
    for word in ("file", "read", "write", "py_func", "load", "print", "save", "decode"):
        assert not [name for name in known if word in name.split(".")[-1].split("_")]
    assert not [n for n in known if n.split(".")[0] in ("io", "raw_ops", "data")]


def test_archives_are_looked_through(files: dict[str, Path], tmp_path: Path):
    """That the limits of archives hold for models: one of each."""
    outside = tmp_path / "outside.keras"
    outside.write_bytes(files[".keras"].read_bytes())
    with zipfile.ZipFile(outside, "a") as archive:
        archive.writestr("../written", "x")
    bomb = tmp_path / "bomb.keras"
    with zipfile.ZipFile(files[".keras"]) as old, zipfile.ZipFile(bomb, "w") as new:
        for name in ("config.json", "metadata.json"):
            new.writestr(name, old.read(name))
        new.writestr("model.weights.h5", bytes(1 << 27), zipfile.ZIP_DEFLATED)
    no_weights = tmp_path / "npz.keras"
    with zipfile.ZipFile(no_weights, "w") as archive:
        archive.writestr("config.json", "{}")
        archive.writestr("model.weights.npz", "x")
    link = tmp_path / "link.h5"
    link.write_bytes(files[".h5"].read_bytes())
    with h5py.File(link, "a") as stored:
        stored["model_weights/other/kernel"] = h5py.ExternalLink("/etc/passwd", "/")
    brackets = tmp_path / "brackets.keras"
    with zipfile.ZipFile(files[".keras"]) as old, zipfile.ZipFile(brackets, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name == "metadata.json":
                content = b"[" + b"{}," * (1 << 21) + b"0]"
            new.writestr(name, content, zipfile.ZIP_DEFLATED)
    texts = tmp_path / "texts.h5"
    texts.write_bytes(files[".h5"].read_bytes())
    with h5py.File(texts, "a") as stored:
        del stored["model_weights"].attrs["layer_names"]
    name_one_text_often(texts, "model_weights", "layer_names", 2000)
    said = {
        texts: "it would grow from .* to 131,",
        brackets: "it would grow from",
        outside: "lies outside of it",
        bomb: "it would grow from",
        no_weights: "There is no item named 'model.weights.h5'",
        link: "'/model_weights/other/kernel' is a link",
    }
    for file, message in said.items():
        with pytest.raises(ValueError, match=f"{file.name} is damaged .*{message}"):
            open_model(file)
