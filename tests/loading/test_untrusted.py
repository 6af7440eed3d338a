"""No code from a model file is run, however it is hidden; own models open as ever."""

from __future__ import annotations

import contextlib
import functools
import importlib
import json
import sys
import types
import zipfile
from pathlib import Path

import larq_nobn as nobn
import h5py
import larq as lq
import numpy as np
import pytest
import tensorflow as tf
from larq_nobn._keras import keras
from larq_nobn.loading import _allowed, open_model
from loading import hostile
from loading.hostile import Change, function
from numpy.testing import assert_array_equal
from tensorflow.python.util import tf_export

pytestmark = pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5")
OWN = ("pass trust=True (--trust) for a file of your own.", "(--import MODULE).")


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


def attacks(canary: Path) -> dict[str, tuple[Change, str]]:
    """Of each way to name what is not on the list one, and what is said."""
    code, module = "contains Python code", "which is not trusted"
    trusted = "tf_keras.src.utils.data_utils"  # it imports os, shutil and urllib
    marshalled = hostile.marshalled(canary)
    dense, of_class = hostile.of_dense, hostile.of_class
    getcwd = function(trusted, "os.getcwd", "os.getcwd")
    fetch = function("keras.utils", "get_file", "get_file")
    elsewhere = {"module": "keras.losses", "registered_name": None}
    words = {"name": "words", "vocabulary": "/etc/passwd"}
    inside = hostile.wrapped(
        "TimeDistributed", "layer", LAMBDAS["a Lambda's mask"](canary)
    )
    spec = {"class_name": "__typespec__", "spec_name": "Popen", "module": "subprocess"}
    method = {"name": "m", "attr_name": "__reduce__"}
    return {
        **{name: (make(canary), code) for name, make in LAMBDAS.items()},
        "path of a function": (hostile.dotted, code),
        "bytecode for a number": (dense(units=marshalled), code),
        "path for an activation": (dense(activation=getcwd), module),
        "function of Keras that fetches": (dense(activation=fetch), module),
        "listed name in another module": (of_class(**elsewhere), module),
        "registered class under a listed name": (
            of_class(class_name="Lambda", registered_name="larq_nobn>RPReLU"),
            code,
        ),
        "name that is none": (of_class(class_name=None), "has None for the name"),
        "type of tensor": (
            dense(units={**spec, "config": ["true"], "registered_name": None}),
            module,
        ),
        "operation that writes": (hostile.write_file(canary), "uses the operation"),
        "method of a tensor": (
            of_class(
                "plus",
                class_name="InstanceMethod",
                registered_name="InstanceMethod",
                config=method,
            ),
            "uses the operation",
        ),
        "vocabulary of this computer": (
            of_class(class_name="StringLookup", config=words),
            "reads its vocabulary from the file",
        ),
        "inside TimeDistributed": (inside, code),
        "training of a model inside": (hostile.nested(loss=marshalled), code),
        "word that is a function of Keras": (
            dense(activation="deserialize"),
            "has activation='deserialize', which is unknown",
        ),
    }


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_an_attack_is_rejected(
    suffix: str, files: dict[str, Path], canary: Path, tmp_path: Path
):
    for name, (change, said) in attacks(canary).items():
        file = hostile.changed(files[suffix], tmp_path / f"model{suffix}", change)
        with pytest.raises(ValueError) as caught:
            open_model(file, compile=True)
        message = str(caught.value)
        assert said in message and str(file) in message, name
        assert message.count("\n") == 0
        assert message.endswith(OWN)
        assert not canary.exists(), name


def test_deep_nesting(files: dict[str, Path], tmp_path: Path):
    depth, suffix = 20000, ".keras"
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
    for key, wrong in (
        ("loss", loss),
        ("metrics", getcwd),
        ("optimizer", "deserialize"),
    ):
        change = hostile.compiled(**{key: wrong})
        file = hostile.changed(files[".keras"], tmp_path / "m.keras", change)
        for compile in (False, True):
            with pytest.raises(ValueError, match="not trusted|trust=True"):
                open_model(file, compile)
    copied = tmp_path / "model.h5"
    for key in ("loss", "metrics"):
        copied.write_bytes(files[".h5"].read_bytes())
        with h5py.File(copied, "a") as stored:
            config = json.loads(stored.attrs["training_config"])
            stored.attrs["training_config"] = json.dumps({**config, key: loss})
        with pytest.raises(ValueError, match="contains Python code"):
            open_model(copied)


def test_a_saved_model_is_code(files: dict[str, Path], tmp_path: Path):
    model = open_model(files[".keras"])
    model.save(tmp_path / "folder", save_format="tf")
    with pytest.raises(ValueError, match="folder is a SavedModel, which is a program"):
        open_model(tmp_path / "folder")
    images = np.ones((2, 4), np.float32)
    trusted = open_model(tmp_path / "folder", trust=True)
    assert_array_equal(trusted(images), model(images))


def operators(x: tf.Tensor) -> tf.Tensor:
    """What people write between layers."""
    y = tf.concat([tf.nn.relu(x + 1.0) * 0.5 - x / 2, x[:, ::2, 0:, :][:, :, :4]], 1)
    y = tf.pad(y, [[0, 0], [1, 1], [1, 1], [0, 0]])[:, ::2]
    y = tf.where(y > 0.5, y, tf.zeros_like(y)) + tf.cast(tf.abs(y) >= 1, tf.float32)
    y = tf.split(y, 2, axis=-1)[1] + tf.split(y, 2, axis=-1)[0]
    y = tf.image.resize(tf.clip_by_value(y, -1, 1), (4, 4))
    y = keras.activations.swish(keras.backend.mean(y, axis=[1, 2]))
    y = tf.reshape(tf.transpose(y), [-1, tf.shape(y)[1]])
    return tf.reduce_mean(tf.linalg.matmul(y, y, transpose_b=True), 1, keepdims=True)


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_operators_between_layers_and_models_inside_of_others_open(
    suffix: str, tmp_path: Path
):
    x = inputs = keras.Input((4, 4, 4))
    # Built when it is called, and without inputs of its own.
    inner = keras.Sequential([keras.layers.Dense(4)], name="inner")
    model = keras.Model(inputs, operators(inner(inner(x))))
    keras.models.save_model(model, tmp_path / f"m{suffix}")
    images = np.random.default_rng(0).normal(size=(3, 4, 4, 4)).astype(np.float32)
    assert_array_equal(open_model(tmp_path / f"m{suffix}")(images), model(images))


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
            keras.layers.TimeDistributed(keras.layers.Dense(4, "gelu")),
        ],
        name="inner",
    )
    x = inputs = keras.Input((4, 6))
    y = inner(x) + inner(x * 2)
    y = keras.layers.Dense(
        4,
        shrink,
        kernel_regularizer=keras.regularizers.L1L2(1e-4, 1e-4),
        kernel_constraint="max_norm",
        bias_initializer=keras.initializers.Constant(0.5),
    )(y)
    y = keras.layers.Activation(keras.layers.LeakyReLU(0.2))(y)
    y = lq.layers.QuantDense(
        5,
        input_quantizer=nobn.quantizers.RSign(estimator="approx_sign"),
        kernel_quantizer=lq.quantizers.DoReFa(2),
        kernel_initializer=nobn.initializers.SymmetricClasses(),
        # Whose argument is no word of Keras.
        kernel_regularizer=nobn.regularizers.BinaryRegularizer(scale="median"),
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


def test_what_is_in_a_scope_is_registered(tmp_path: Path):
    class Mine(keras.layers.Dense):
        """Not registered with a decorator."""

    inputs = keras.Input((2,))
    keras.models.save_model(keras.Model(inputs, Mine(2)(inputs)), tmp_path / "m.keras")
    with pytest.raises(ValueError, match="registers your own by keras.ut"):
        open_model(tmp_path / "m.keras")
    with keras.utils.custom_object_scope({"Mine": Mine}):
        assert open_model(tmp_path / "m.keras").output_shape == (None, 2)


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


# Of rooms of Keras a few: aliases, bases and classes that are no layers.
ACCEPTED = {
    "keras": "Model Sequential",
    "keras.layers": "AvgPool2D Convolution2D GRUCell InputLayer TextVectorization",
    "keras.layers.experimental": "RandomFourierFeatures SyncBatchNormalization",
    "keras.initializers": "GlorotUniform glorot_uniform zeros",
    "keras.losses": "SparseCategoricalCrossentropy",
    "keras.metrics": "AUC MeanMetricWrapper",
    "keras.optimizers": "AdamW SGD",
    "keras.optimizers.legacy": "Adam SGD",
    "keras.mixed_precision": "LossScaleOptimizer Policy",
    "keras.src.engine.functional": "Functional",
    "keras.src.layers.core.tf_op_layer": "InstanceMethod TFOpLambda",
}
# What stays closed, and where each of these is.
CLOSED = {
    "Lambda": "layers.core.lambda_layer",
    "TensorFlowOpLayer": "engine.base_layer",
    "DeviceWrapper": "layers.rnn.cell_wrappers",
    "DropoutWrapper": "layers.rnn.cell_wrappers",
    "ResidualWrapper": "layers.rnn.cell_wrappers",
    "_RNNCellWrapper": "layers.rnn.cell_wrappers",
    "DenseFeatures": "feature_column.dense_features_v2",
    "SequenceFeatures": "feature_column.sequence_feature_column",
    "FeatureSpace": "utils.feature_space",
}


def test_classes_of_keras_are_accepted_by_type():
    for module, names in ACCEPTED.items():
        for name in names.split():
            assert _allowed.is_class(name), name
            places = module, f"tf_{module}"
            assert all(_allowed.defines(place, name) for place in places), name
    # A name in files of the older kind alone.
    assert _allowed.is_class("BatchNormalizationV1")
    assert set(CLOSED) == _allowed.RUNNING_CODE


def test_what_runs_code_stays_closed(files: dict[str, Path], tmp_path: Path):
    for name, place in CLOSED.items():
        module = f"tf_keras.src.{place}"
        assert _allowed.runs_code(vars(importlib.import_module(module))[name])
        fields = {"module": module, "class_name": name, "registered_name": name}
        for change in (
            hostile.of_class(**{**fields, "module": None}),
            hostile.of_dense(units=fields | {"config": {}}),
        ):
            file = hostile.changed(files[".keras"], tmp_path / "m.keras", change)
            with pytest.raises(ValueError, match="contains Python code|is not trusted"):
                open_model(file)


def test_other_classes_of_accepted_names(monkeypatch: pytest.MonkeyPatch):
    """Of a module of Keras that is imported already, what it defines is looked at."""
    module = types.ModuleType("tf_keras.src.more")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    bases = {"Flatten": keras.layers.Flatten, "Dense": object}
    bases["Softmax"] = keras.layers.Lambda
    for name, base in bases.items():
        setattr(module, name, type(name, (base,), {"__module__": module.__name__}))
        assert _allowed.is_class(name)
    assert _allowed.defines(module.__name__, "Flatten")
    assert not _allowed.defines(module.__name__, "Dense")
    assert not _allowed.defines(module.__name__, "Softmax")


def test_a_registered_class_may_not_be_one_that_runs_code(
    files: dict[str, Path], tmp_path: Path
):
    class Wrapper(vars(importlib.import_module("tf_keras.layers"))["Lambda"]):
        """As a library might register one."""

    with keras.utils.custom_object_scope({"Wrapper": Wrapper}):
        change = hostile.of_class(class_name="Wrapper", registered_name="Wrapper")
        for suffix, source in files.items():
            file = hostile.changed(source, tmp_path / f"m{suffix}", change)
            with pytest.raises(ValueError, match="uses 'Wrapper'.*, which is not"):
                open_model(file)


def test_what_an_archive_declares(files: dict[str, Path], tmp_path: Path):
    """A few bytes may stand for any number of zeros, and data may lie elsewhere."""
    zeros, never_written, link = (
        tmp_path / name for name in ("zeros.keras", "never_written.h5", "link.h5")
    )
    with zipfile.ZipFile(files[".keras"]) as old, zipfile.ZipFile(zeros, "w", 8) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
        new.writestr("more", bytes(1 << 27))
    for file in (never_written, link):
        file.write_bytes(files[".h5"].read_bytes())
    with h5py.File(never_written, "a") as stored:
        stored.create_dataset("kernel", (1 << 40,), "f4", chunks=(1 << 16,))
    with h5py.File(link, "a") as stored:
        stored["model_weights/other/kernel"] = h5py.ExternalLink("/etc/passwd", "/")
    for file, said in {
        zeros: "it would grow from",
        never_written: "it would grow from .* to 4,398,0",
        link: "its data 'model_weights/other/kernel' is in another file",
    }.items():
        with pytest.raises(ValueError, match=f"{file.name} is damaged .*{said}"):
            open_model(file)
