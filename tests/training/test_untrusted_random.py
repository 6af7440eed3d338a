"""A thousand configurations that were changed at random: nothing is run, or written."""

from __future__ import annotations

import copy
import functools
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import larq_nobn as nobn
import lighter
import pytest
from larq_nobn._keras import keras
from larq_nobn.training import open_model
from larq_nobn.training.folder import _allowed
from tf_keras.src.layers.core import tf_op_layer
from tf_keras.src.saving import serialization_lib
from tf_keras.src.saving.legacy import serialization as legacy_serialization
from training import hostile

pytestmark = pytest.mark.filterwarnings("ignore")  # Keras warns of much that is odd
SEED, ROUNDS = 0, 500
# Of Python's own audit: what opening a model has no reason for.
_EVENTS = (
    *("os.", "subprocess.", "socket.", "shutil.", "tempfile.", "marshal.", "pickle."),
    *("ctypes.", "urllib.", "http.", "code.", "webbrowser.", "exec", "import", "open"),
)
_watching: list[tuple[str, Any]] | None = None


def _hear(event: str, arguments: tuple) -> None:
    if _watching is None or not event.startswith(_EVENTS):
        return
    if event == "open" and not set(str(arguments[1])) & set("wax+"):
        return
    _watching.append((event, arguments[:2]))


sys.addaudithook(_hear)


@pytest.fixture
def trace(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """All that Keras makes of a name while a file is opened; hears of the rest."""
    global _watching
    found: list[Any] = []

    def noting(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def noted(*arguments: Any, **options: Any) -> Any:
            made = function(*arguments, **options)
            found.append(made[0] if isinstance(made, tuple) else made)
            return made

        return noted

    places = {
        serialization_lib: ["_retrieve_class_or_fn"],
        legacy_serialization: ["class_and_config_for_serialized_keras_object"],
        tf_op_layer: ["get_symbol_from_name"],
    }
    for module, names in places.items():
        for name in names:
            monkeypatch.setattr(module, name, noting(getattr(module, name)))
    _watching = []
    with lighter.without_autograph():
        yield found
    _watching = None


def models() -> Iterator[keras.Model]:
    """As small as can be, since most of them are built a hundred times."""
    layers = keras.layers
    inputs = keras.Input((2,), name="image")
    small = keras.Sequential([keras.Input((2,)), layers.Dense(2)])
    small.compile("sgd", "mse")  # which is restored wherever it is inside another
    kinds = {
        "regularized": layers.Dense(2, "relu", kernel_regularizer="l2"),
        "registered": nobn.layers.RPReLU(),
        "activation": layers.Activation(layers.LeakyReLU(0.1)),
        "model": small,
    }
    for name, layer in kinds.items():
        yield keras.Model(inputs, layer(inputs + 1.0), name=name)
    sliced = keras.Input((2, 3))
    wrapped = layers.TimeDistributed(layers.Flatten())(sliced[:, ::2])
    model = keras.Model(sliced, wrapped, name="wrapped")
    optimizer = nobn.optimizers.AdaptiveGradientClipping(keras.optimizers.SGD(0.1))
    model.compile(optimizer, keras.losses.Huber(), metrics=["accuracy"])
    yield model


def places(part: Any) -> list[tuple[Any, Any]]:
    """Every place of a configuration: what it is in, and under which key."""
    inside = list(part.items()) if isinstance(part, dict) else []
    inside = list(enumerate(part)) if isinstance(part, list) else inside
    return [(part, key) for key, _ in inside] + [
        place for _, each in inside for place in places(each)
    ]


def pool(canary: Path) -> list[Any]:
    """What a hostile mind would write anywhere."""
    trusted = "tf_keras.src.utils.data_utils"
    names = [
        *("Lambda", "TFOpLambda", "SlicingOpLambda", "ClassMethod", "InstanceMethod"),
        *("TensorFlowOpLayer", "function", "Dense", "Model", "Functional", "RPReLU"),
        *("__lambda__", "__tuple__", "__typespec__", "__numpy__", "__tensor__"),
        *("os.getcwd", "os.system", "shutil.rmtree", "get_file", "deserialize", "get"),
        *("io.write_file", "py_function", "raw_ops.WriteFile", "load_op_library"),
        *("math.add", "nn.relu", "concat", "keras.layers", "keras.utils", "builtins"),
        *("subprocess", "os", "antigravity", trusted, "larq_nobn.training", "lambda"),
        *("larq_nobn>RPReLU", "Custom>Adam", "relu", "mse", "exec", "eval", "", "x.y"),
    ]
    objects = [
        hostile.marshalled(canary),
        hostile.function(trusted, "os.getcwd", "os.getcwd"),
        hostile.function("builtins", "exec", "exec"),
        hostile.function("larq.activations", "hard_tanh", None),
        {"module": "os", "class_name": "system", "config": {}, "registered_name": None},
        {"class_name": "__tuple__", "items": [hostile.marshalled(canary)]},
        {"class_name": "TypeSpec", "type_spec": "tf.TensorSpec", "serialized": []},
        {"class_name": "Lambda", "config": {"function": hostile.bytecode(canary)}},
        ["_CONSTANT_VALUE", -1, str(canary), {"contents": "x"}],
    ]
    return [*names, *objects, None, None, True, -1, 0, 1, 3, 0.5, [], {}, [[1]]]


def mutated(config: Any, draw: random.Random, values: list[Any]) -> Any:
    """The same with one to three changes, each anywhere."""
    config = copy.deepcopy(config)
    for _ in range(draw.randint(1, 3)):
        every = places(config)
        if not every:
            return config
        strings = [place for place in every if isinstance(place[0][place[1]], str)]
        inside, key = draw.choice(strings if draw.random() < 0.6 and strings else every)
        kind = draw.random()
        if kind < 0.6:
            inside[key] = copy.deepcopy(draw.choice(values))
        elif kind < 0.7:
            del inside[key]
        elif kind < 0.85:
            other, place = draw.choice(every)
            inside[key] = copy.deepcopy(other[place])
        elif isinstance(inside, dict):
            name = draw.choice(["module", "registered_name", "class_name", "function"])
            inside[name] = copy.deepcopy(draw.choice(values))
    return config


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_nothing_but_what_is_listed(suffix: str, trace: list[Any], tmp_path: Path):
    draw, values = random.Random(SEED), pool(tmp_path / "written")
    sources = []
    for index, model in enumerate(models()):
        source = tmp_path / f"source{index}{suffix}"
        keras.models.save_model(model, source)
        open_model(source, compile=True)  # all that is imported late is imported now
        sources.append((source, hostile.configuration(source)))
    file = tmp_path / f"model{suffix}"
    opened, there = 0, {*tmp_path.iterdir(), file}
    trace.clear()
    for round in range(ROUNDS):
        source, config = draw.choice(sources)
        hostile.with_configuration(source, file, mutated(config, draw, values))
        _watching.clear()
        try:
            open_model(file, compile=round % 4 == 0)
            opened += 1
        except ValueError as error:
            assert str(error).startswith(str(file)) and "\n" not in str(error)
        assert not _watching, (round, _watching)
    assert set(tmp_path.iterdir()) == there
    assert opened > ROUNDS // 20  # as some changes change nothing of importance
    symbol = tf_op_layer.get_symbol_from_name.__wrapped__
    listed = [*map(symbol, _allowed.OPERATORS)]
    listed += keras.utils.get_custom_objects().values()
    known, names = set(map(id, listed)), _allowed._NAMES | _allowed._FUNCTION_NAMES
    for each in trace:
        if id(each) not in known:
            assert each.__module__.startswith("tf_keras.src.")
            assert each.__name__ in names
