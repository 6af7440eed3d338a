"""Opens model files whose configurations were changed at random: nothing is run.

What Keras looks up, and what Python's audit hears (imports, files, processes,
bytecode), is traced. A file that makes Keras work for longer than a few seconds is
counted: that is not prevented, and the reason to limit the process.

    python tests/tools/untrusted.py --rounds 1000
"""

from __future__ import annotations

import copy
import functools
import random
import signal
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

sys.path[:0] = [str(Path(__file__).resolve().parents[at]) for at in (1, 2)]

import larq_nobn as nobn  # noqa: E402
from larq_nobn._keras import keras  # noqa: E402
from larq_nobn.loading import _allowed, open_model  # noqa: E402
from loading import hostile  # noqa: E402
from tf_keras.src.layers.core import tf_op_layer  # noqa: E402
from tf_keras.src.saving import serialization_lib  # noqa: E402
from tf_keras.src.saving.legacy import serialization as legacy  # noqa: E402

SECONDS = 5
# Of Python's own audit: what opening a model has no reason for.
_EVENTS = (
    *("os.", "subprocess.", "socket.", "shutil.", "tempfile.", "marshal.", "pickle."),
    *("ctypes.", "urllib.", "http.", "code.", "webbrowser.", "exec", "import", "open"),
)
_TRAINED = str(Path(nobn.__file__).parent / "models" / "weights")
_watching: list[tuple[str, Any]] | None = None


def _hear(event: str, arguments: tuple) -> None:
    if _watching is None or not event.startswith(_EVENTS):
        return
    if event == "open" and not set(str(arguments[1])) & set("wax+"):
        return
    if event == "os.scandir" and str(arguments[0]) == _TRAINED:
        return  # whose names a message says
    _watching.append((event, arguments[:2]))


sys.addaudithook(_hear)


class Endless(BaseException):
    """Keras is at work for too long."""


def _stop(number: int, frame: object) -> None:
    raise Endless


@contextmanager
def traced() -> Iterator[list[Any]]:
    """Yields all that Keras makes of a name, and lets the audit hear the rest."""
    global _watching
    made: list[Any] = []

    def noting(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def noted(*arguments: Any, **options: Any) -> Any:
            result = function(*arguments, **options)
            made.append(result[0] if isinstance(result, tuple) else result)
            return result

        return noted

    for module, name in (
        (serialization_lib, "_retrieve_class_or_fn"),
        (legacy, "class_and_config_for_serialized_keras_object"),
        (tf_op_layer, "get_symbol_from_name"),
    ):
        setattr(module, name, noting(getattr(module, name)))
    _watching = []
    signal.signal(signal.SIGALRM, _stop)
    yield made
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
    keys = list(part) if isinstance(part, dict) else range(len(part))
    inside = [part[key] for key in keys]
    deeper = [each for each in inside if isinstance(each, (dict, list))]
    return [(part, key) for key in keys] + [x for each in deeper for x in places(each)]


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
    """Returns a copy with one to three changes, each anywhere."""
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


def open_changed(file: Path, compile: bool) -> str:
    """Says what came of a file; raises AssertionError if that is a fault."""
    _watching.clear()
    signal.alarm(SECONDS)
    try:
        open_model(file, compile=compile)
        return "opened"
    except Endless:
        return "endless"
    except ValueError as error:
        assert str(error).startswith(str(file)) and "\n" not in str(error)
        return "rejected"
    finally:
        signal.alarm(0)
        assert not _watching, _watching


def check_names(made: list[Any]) -> None:
    """Raises AssertionError if Keras has made something that is not accepted."""
    symbol = tf_op_layer.get_symbol_from_name.__wrapped__
    accepted = [*map(symbol, _allowed.OPERATORS)]
    accepted += keras.utils.get_custom_objects().values()
    known = set(map(id, accepted))
    names = _allowed._classes() | _allowed.FUNCTIONS
    for each in made:
        if id(each) not in known:
            assert each.__module__.startswith("tf_keras.src."), each
            assert each.__name__ in names, each


@click.command()
@click.option("--rounds", default=1000, help="Files of each kind.")
@click.option("--seed", default=0)
def main(rounds: int, seed: int) -> None:
    """Opens changed files of both kinds and prints how many were rejected."""
    warnings.simplefilter("ignore")  # Keras warns of much that is odd
    draw = random.Random(seed)
    for suffix in (".keras", ".h5"):
        with tempfile.TemporaryDirectory() as name, traced() as made:
            folder = Path(name)
            values, file = pool(folder / "written"), folder / f"model{suffix}"
            sources = []
            for index, model in enumerate(models()):
                source = folder / f"source{index}{suffix}"
                keras.models.save_model(model, source)
                open_model(source, compile=True)  # what is imported late is there now
                sources.append((source, hostile.configuration(source)))
            outcomes: Counter[str] = Counter()
            there = {*folder.iterdir(), file}
            made.clear()
            for number in range(rounds):
                source, config = draw.choice(sources)
                changed = mutated(config, draw, values)
                hostile.with_configuration(source, file, changed)
                outcomes[open_changed(file, compile=number % 4 == 0)] += 1
            assert {*folder.iterdir()} <= there
            check_names(made)
            print(suffix, dict(outcomes))


if __name__ == "__main__":
    main()
