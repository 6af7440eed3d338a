"""Model files that would run code, read or write when Keras opens them."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import tensorflow as tf
from larq_nobn._keras import keras
from tf_keras.src.layers.core import tf_op_layer
from tf_keras.src.utils import generic_utils

Config = dict[str, Any]
Change = Callable[[Config], None]


def saved(folder: Path) -> dict[str, Path]:
    """A small model of Keras in both kinds of file, compiled, as anybody's could be."""
    x = inputs = keras.Input((4,), name="image")
    x = keras.layers.Dense(4, activation="relu", name="dense")(x)
    plus = tf_op_layer.TFOpLambda(tf.__operators__.add, name="plus")
    x = keras.layers.Dense(4, name="other")(plus(x, y=1.0))
    model = keras.Model(inputs, x, name="small")
    model.compile("sgd", "mse", metrics=["accuracy"])
    files = {suffix: folder / f"small{suffix}" for suffix in (".keras", ".h5")}
    for file in files.values():
        keras.models.save_model(model, file)
    return files


def configuration(file: Path) -> Config:
    """What a file says of its model."""
    if file.suffix == ".keras":
        with zipfile.ZipFile(file) as archive:
            return json.loads(archive.read("config.json"))
    with h5py.File(file, "r") as stored:
        return json.loads(stored.attrs["model_config"])


def with_configuration(source: Path, target: Path, config: object) -> Path:
    """A copy of a file that says something else of its model."""
    return with_text(source, target, json.dumps(config))


def with_text(source: Path, target: Path, text: str) -> Path:
    """The same, of what JSON is not made of."""
    if source.suffix == ".keras":
        with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
            for name in old.namelist():
                content = text if name == "config.json" else old.read(name)
                new.writestr(name, content)
        return target
    shutil.copy(source, target)
    with h5py.File(target, "a") as stored:
        del stored.attrs["model_config"]
        stored.attrs["model_config"] = text
    return target


def changed(source: Path, target: Path, change: Change) -> Path:
    """A copy of a file in whose configuration something was changed."""
    config = configuration(source)
    change(config)
    return with_configuration(source, target, config)


def layer(config: Config, name: str) -> Config:
    """The configuration of a layer of that model, with its class and its calls."""
    return next(each for each in config["config"]["layers"] if each["name"] == name)


def bytecode(target: Path) -> list[Any]:
    """A function that writes a file when it is called, as Keras stores a lambda."""
    source = f"lambda x, *more: (open({str(target)!r}, 'w').close(), x)[1]"
    return list(generic_utils.func_dump(eval(source)))


def lambda_with(part: str, target: Path) -> Change:
    """A Lambda of which one part is bytecode, and the function harmless by name."""
    clean = {
        "function": "hard_tanh",  # what Larq registered
        "function_type": "function",
        "module": "larq.activations",
        "output_shape": None,
        "output_shape_type": "raw",
        "output_shape_module": None,
        "arguments": {},
    }
    types = {"function": "function_type", "mask": "mask_type"}
    kind = types.get(part, "output_shape_type")

    def change(config: Config) -> None:
        actual = layer(config, "dense")
        actual["class_name"] = "Lambda"
        actual["config"] = {
            "name": "dense",
            **clean,
            part: bytecode(target),
            kind: "lambda",
        }
        if part == "mask":
            actual["config"]["mask_module"] = "tf_keras"

    return change


def write_file(target: Path) -> Change:
    """`tf.io.write_file`, which writes at the moment when the model is built."""

    def change(config: Config) -> None:
        actual = layer(config, "plus")
        actual["config"]["function"] = "io.write_file"
        actual["inbound_nodes"] = [
            ["_CONSTANT_VALUE", -1, str(target), {"contents": "written"}]
        ]

    return change


def of_dense(**arguments: Any) -> Change:
    """Other arguments for a layer."""
    return lambda config: layer(config, "dense")["config"].update(arguments)


def function(module: object, name: object, registered: object) -> Config:
    """A function as Keras writes it into a configuration."""
    return {
        "module": module,
        "class_name": "function",
        "config": name,
        "registered_name": registered,
    }


def dotted(config: Config) -> None:
    """`os.getcwd` through a module of Keras that imports `os`, with arguments."""
    actual = layer(config, "dense")
    actual.update(class_name="Lambda", module="keras.layers", registered_name=None)
    name = "os.getcwd"
    actual["config"] = {
        "name": "dense",
        "function": function("tf_keras.src.utils.data_utils", name, name),
        "function_type": "function",
        "module": "tf_keras",
        "output_shape": None,
        "output_shape_type": "raw",
        "output_shape_module": None,
        "arguments": {"x": 1},
    }


def of_class(layer_name: str = "dense", **fields: Any) -> Change:
    """Another class for a layer, by any of the fields that name it."""
    return lambda config: layer(config, layer_name).update(fields)


def wrapped(wrapper: str, key: str, change: Change) -> Change:
    """The same one level deeper: in a layer that contains layers."""

    def deeper(config: Config) -> None:
        change(config)
        actual = layer(config, "dense")
        inner = {name: actual[name] for name in ("class_name", "config")}
        actual["class_name"] = wrapper
        actual["config"] = {"name": "dense", key: inner}
        actual.pop("registered_name", None)  # Keras takes the name of the class then
        actual.pop("module", None)

    return deeper


def nested(**compiled: Any) -> Change:
    """A model inside, whose training is restored even where nobody asks for it."""

    def change(config: Config) -> None:
        actual = layer(config, "dense")
        inner = {"name": "dense", "layers": []}
        actual.update(class_name="Sequential", config=inner, compile_config=compiled)
        actual["module"] = "keras"

    return change


def compiled(**fields: Any) -> Change:
    """What the file says of how its model is trained."""
    return lambda config: config["compile_config"].update(fields)


def marshalled(target: Path) -> Config:
    """A function in bytecode, as it stands in place of any argument."""
    code = bytecode(target)
    return {"class_name": "__lambda__", "config": {"value": code}}
