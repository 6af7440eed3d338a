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
from larq_nobn._errors import InternalError
from larq_nobn._keras import keras
from larq_nobn._messages import first_line
from larq_nobn.loading import _allowed, _open, open_model
from loading import hostile
from loading.hostile import Change, Config, function
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
    module = "which is not trusted"
    odd = "which is not opened"
    return {
        **{name: (make(canary), code) for name, make in LAMBDAS.items()},
        "path of a function": (hostile.dotted, code),
        "bytecode for a number": (dense(units=marshalled), code),
        "path for an activation": (dense(activation=getcwd), module),
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
        "operation that runs Python": (
            hostile.operation("py_function", kind="SlicingOpLambda"),
            operator,
        ),
        "raw operation": (hostile.operation("raw_ops.WriteFile", "a", "b"), operator),
        "operation that is a dictionary": (hostile.operation({"a": 1}), operator),
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
        "two functions": (
            dense(activation=function("keras.activations", "relu", "tanh")),
            "calls one function 'relu' and 'tanh'",
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


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_deep_nesting(suffix: str, files: dict[str, Path], tmp_path: Path):
    depth = 20000
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
    for key, wrong in (
        ("loss", loss),
        ("metrics", getcwd),
        ("optimizer", "deserialize"),
        ("loss", [["os.getcwd"]]),
        ("metrics", {"a": "get"}),
    ):
        change = hostile.compiled(**{key: wrong})
        file = hostile.changed(files[".keras"], tmp_path / "m.keras", change)
        for compile in (False, True):
            with pytest.raises(ValueError, match="not trusted|trust=True"):
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
            keras.layers.Bidirectional(
                keras.layers.SimpleRNN(3, return_sequences=True)
            ),
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
        with pytest.raises(ValueError, match="registers your own by keras.ut"):
            open_model(tmp_path / name)
        with keras.utils.custom_object_scope({"Mine": Mine, "cube": cube}):
            opened = open_model(tmp_path / name)
        x = np.arange(4.0).reshape(2, 2).astype(np.float32)
        assert_array_equal(opened(x), model(x))


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


# Of each room of Keras a few: aliases, bases and classes that are no layers.
ACCEPTED = {
    "keras": "Model Sequential",
    "keras.layers": """
        Activation AvgPool2D BatchNormalization Bidirectional Convolution2D Dense
        DepthwiseConv2D GRUCell InputLayer IntegerLookup LSTM Layer MultiHeadAttention
        Normalization RandomFlip SpectralNormalization TextVectorization
        TimeDistributed Wrapper ZeroPadding2D""",
    "keras.layers.experimental": "RandomFourierFeatures SyncBatchNormalization",
    "keras.layers.experimental.preprocessing": "CenterCrop HashedCrossing Rescaling",
    "keras.initializers": "Constant GlorotUniform VarianceScaling glorot_uniform zeros",
    "keras.regularizers": "L1L2 OrthogonalRegularizer l2",
    "keras.constraints": "MaxNorm NonNeg max_norm unit_norm",
    "keras.losses": "CategoricalFocalCrossentropy SparseCategoricalCrossentropy",
    "keras.metrics": "AUC IoU Mean MeanMetricWrapper SparseTopKCategoricalAccuracy",
    "keras.optimizers": "Adadelta Adam AdamW Lion SGD",
    "keras.optimizers.experimental": "Adam SGD",
    "keras.optimizers.legacy": "Adam Ftrl SGD",
    "keras.optimizers.schedules": "CosineDecay PiecewiseConstantDecay",
    "keras.experimental": "CosineDecayRestarts",
    "keras.mixed_precision": "LossScaleOptimizer Policy",
}
# By the module of Keras that defines it, or that files name for it.
INTERNAL = {
    "engine.base_layer": "AddLoss AddMetric",
    "engine.functional": "Functional",
    "layers.core.tf_op_layer": """
        ClassMethod InstanceMethod InstanceProperty SlicingOpLambda TFOpLambda""",
    "layers.rnn.cudnn_gru": "CuDNNGRU",
    "layers.rnn.cudnn_lstm": "CuDNNLSTM",
    "layers.rnn.gru_v1": "GRU GRUCell",
    "layers.rnn.lstm_v1": "LSTM LSTMCell",
    "layers.normalization.batch_normalization": "SyncBatchNormalization",
    "losses": "LossFunctionWrapper",
    "metrics.base_metric": "SumOverBatchSizeMetricWrapper",
    "mixed_precision.loss_scale_optimizer": "LossScaleOptimizerV3",
}
# Names in files of the older kind alone.
OLDER = """
    BatchNormalizationV1 BatchNormalizationV2 GRUCellV1 GRUCellV2 GRUV1 GRUV2 LSTMCellV1
    LSTMCellV2 LSTMV1 LSTMV2 PolicyV1
    """
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
    for module, names in (ACCEPTED | INTERNAL).items():
        places = (module, f"tf_{module}")
        if module in INTERNAL:
            places = (f"keras.src.{module}", f"tf_keras.src.{module}")
        for name in names.split():
            assert _allowed.is_class(name), name
            assert all(_allowed.defines(place, name) for place in places), name
    assert all(map(_allowed.is_class, OLDER.split()))
    assert set(CLOSED) == _allowed.RUNNING_CODE


@pytest.mark.parametrize("name", CLOSED)
def test_what_runs_code_stays_closed(name: str, files: dict[str, Path], tmp_path: Path):
    module = f"tf_keras.src.{CLOSED[name]}"
    assert _allowed.runs_code(vars(importlib.import_module(module))[name])
    fields = {"module": module, "class_name": name, "registered_name": name}

    def without_module(config: Config) -> None:
        hostile.of_class(**fields)(config)
        del hostile.layer(config, "dense")["module"]

    for change in (
        without_module,
        hostile.of_class(**fields),
        hostile.of_class(**fields | {"module": "keras.layers"}),
        hostile.of_class(**fields | {"registered_name": None}),
        hostile.of_dense(units=fields | {"config": {}}),
        hostile.compiled(loss=fields | {"config": {}}),
    ):
        file = hostile.changed(files[".keras"], tmp_path / "m.keras", change)
        with pytest.raises(ValueError, match="carries Python code|is not trusted"):
            open_model(file, compile=True)


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
            with pytest.raises(ValueError, match="wants 'Wrapper'.*, which is not"):
                open_model(file)


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_objects_of_this_package_open(suffix: str, tmp_path: Path):
    """Whatever their arguments are called: `scale` is a word here."""
    inputs = keras.Input((4,))
    penalty = nobn.regularizers.BinaryRegularizer(scale="median")
    x = keras.layers.Dense(4, kernel_regularizer=penalty)(inputs)
    x = lq.layers.QuantDense(
        3,
        input_quantizer=nobn.quantizers.RSign(estimator="approx_sign"),
        kernel_quantizer="scaled_std_sign",
        kernel_initializer=nobn.initializers.SymmetricClasses(),
    )(x)
    file = tmp_path / f"m{suffix}"
    keras.models.save_model(keras.Model(inputs, x), file)
    kept = open_model(file).layers[1].kernel_regularizer.get_config()
    assert kept == penalty.get_config() and kept["scale"] == "median"


def test_a_fault_of_this_package_is_no_fault_of_the_file(
    files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(_open._operation, "finalize", None)
    with pytest.raises(InternalError, match="fault of larq_nobn") as error:
        open_model(files[".keras"])
    assert isinstance(error.value.__cause__, TypeError)


def test_what_an_archive_declares(files: dict[str, Path], tmp_path: Path):
    """A few bytes may stand for any number of zeros, and data may lie elsewhere."""
    with zipfile.ZipFile(files[".keras"]) as old:
        parts = {name: old.read(name) for name in old.namelist()}
    zeros = tmp_path / "zeros.keras"
    with zipfile.ZipFile(zeros, "w", zipfile.ZIP_DEFLATED) as new:
        for name, content in (parts | {"more": bytes(1 << 27)}).items():
            new.writestr(name, content)
    never_written = tmp_path / "never_written.h5"
    link = tmp_path / "link.h5"
    outside = tmp_path / "outside.h5"
    for file in (never_written, link, outside):
        file.write_bytes(files[".h5"].read_bytes())
    with h5py.File(never_written, "a") as stored:
        stored.create_dataset("kernel", (1 << 40,), "f4", chunks=(1 << 16,))
    with h5py.File(link, "a") as stored:
        stored["model_weights/other/kernel"] = h5py.ExternalLink("/etc/passwd", "/")
    with h5py.File(outside, "a") as stored:
        data = [("/etc/passwd", 0, 8)]
        stored.create_dataset("more", (2,), "f4", external=data)
    no_weights = tmp_path / "no_weights.keras"
    with zipfile.ZipFile(no_weights, "w") as archive:
        archive.writestr("config.json", "{}")
    for file, said in {
        zeros: "it would grow from",
        never_written: "it would grow from .* to 4,398,0",
        link: "its data 'model_weights/other/kernel' lies in another file",
        outside: "its data 'more' lies in another file",
        no_weights: "There is no item named 'model.weights.h5'",
    }.items():
        with pytest.raises(ValueError, match=f"{file.name} is damaged .*{said}"):
            open_model(file)
