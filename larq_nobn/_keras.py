"""The one door to Keras.

Larq is written for Keras 2, which lives on as the package ``tf_keras``. TensorFlow
decides between the two when ``tf.keras`` is first touched, by an environment variable;
this module sets it while that is still possible and otherwise says what to do.
"""

from __future__ import annotations

import functools
import inspect
import os
import reprlib
import sys
import weakref
from collections.abc import Callable
from copy import copy
from typing import Any, TypeVar

from ._checks import check_integer
from ._errors import InvalidType, InvalidValue, MissingPackage
from ._process import native_stderr_closed

_SWITCH = "TF_USE_LEGACY_KERAS"
_REMEDY = (
    f"Set the environment variable {_SWITCH}=1, or import larq_nobn before "
    "anything that imports tensorflow.keras."
)


def _select_legacy_keras() -> None:
    chosen = os.environ.setdefault(_SWITCH, "1")
    if chosen not in ("1", "true", "True"):
        raise MissingPackage(
            f"{_SWITCH}={chosen} selects Keras 3, but larq_nobn needs legacy Keras "
            f"(tf_keras), as Larq does. {_REMEDY}"
        )
    if "tensorflow" in sys.modules:
        layer = sys.modules["tensorflow"].keras.layers.Layer
        if not layer.__module__.startswith("tf_keras."):
            raise MissingPackage(
                "tensorflow.keras is already Keras 3 in this process, but larq_nobn "
                f"needs legacy Keras (tf_keras), as Larq does. {_REMEDY}"
            )


_select_legacy_keras()

with native_stderr_closed():
    import tensorflow  # only after the switch is set
    import tf_keras as keras
    from tensorflow.python.autograph.impl.api import autograph_artifact
    from tf_keras.src import activations
    from tf_keras.src.engine.base_layer_utils import call_context
    from tf_keras.src.layers import serialization
    from tf_keras.src.mixed_precision import policy
    from tf_keras.src.mixed_precision.autocast_variable import (
        enable_auto_cast_variables,
    )

# `from tensorflow.keras import ...`, as in Larq, searches a list that TensorFlow made
# when it was imported: if that was before this module, the switch came too late for it.
_API = os.path.join(keras.__path__[0], "api", "_v2")
if tensorflow.__path__[0] != _API:
    tensorflow.__path__.insert(0, _API)


def open_later_inputs(layer: type) -> None:
    """Lets an InputLayer that has no `optional` yet open files that contain one.

    Later versions of tf_keras save of every input that it is not optional. Earlier ones
    know no other inputs, but reject the word.
    """
    if "optional" in inspect.signature(layer).parameters:
        return

    def from_config(cls: type, config: dict[str, Any]) -> Any:
        return cls(**{k: v for k, v in config.items() if k != "optional" or v})

    layer.from_config = classmethod(from_config)  # type: ignore[attr-defined]


open_later_inputs(keras.layers.InputLayer)

PACKAGE = "larq_nobn"
dtype_policy = policy.policy_scope
_Class = TypeVar("_Class", bound=type)


def register(alias: str | None = None) -> Callable[[_Class], _Class]:
    """Makes a class loadable from files, and usable by its string `alias`.

    Three names lead to the class: `larq_nobn>Name` (what `.keras` files contain), the
    bare `Name` (what Larq layers look up when an `.h5` file is opened) and the alias,
    such as `"rsign"`. Raises a ValueError if another class owns one of them already.
    """

    def decorate(cls: _Class) -> _Class:
        objects = keras.utils.get_custom_objects()
        bare = (cls.__name__,) if alias is None else (cls.__name__, alias)
        for name in bare:
            owner = objects.get(name, cls)
            if owner is not cls:
                raise InvalidValue(
                    f"The name {name!r} already belongs to {owner!r}. A registered "
                    f"name has one owner; rename {cls.__qualname__}."
                )
        keras.utils.register_keras_serializable(PACKAGE, cls.__name__)(cls)
        objects.update(dict.fromkeys(bare, cls))
        # AutoGraph, to which Keras gives every `call` that it does not know, rewrites
        # loops and conditions over tensors. There are none here but on `training`, and
        # the search for them takes time and memory whenever a step is traced. What a
        # `call` calls of others is rewritten as ever.
        own: Any = vars(cls).get("call")
        if own is not None and "training" not in inspect.signature(own).parameters:
            autograph_artifact(own)
        return cls

    return decorate


def registered(argument: str, name: str) -> Any:
    """Returns the class of a user that is registered with Keras by a name.

    Raises:
        ValueError: If there is none, as when its module is not imported.
    """
    found = keras.utils.get_custom_objects().get(name)
    if found is None:
        module = name.partition(">")[0]
        raise InvalidValue(
            f"{argument}={name!r} is not registered with Keras. Import the module that "
            f"registers it (--import {module}), and write package>Class."
        )
    return found


def layers_in_files() -> dict[str, Any]:
    """Returns what files of the older kind may name for a layer, exported or not."""
    serialization.populate_deserializable_objects()
    return serialization.LOCAL.ALL_OBJECTS


def call_named_activations(base: type) -> None:
    """Lets the name of a class, or the class, given as `activation=`, mean an object.

    Keras would call the class, with the inputs for its first argument. That is done for
    `base` and its subclasses.
    """
    get_activation = activations.get

    @functools.wraps(get_activation)
    def get(identifier: Any) -> Any:
        activation = get_activation(identifier)
        if not (isinstance(activation, type) and issubclass(activation, base)):
            return activation
        try:
            return activation()
        except TypeError:  # it has arguments without a default
            raise InvalidValue(
                f"activation={identifier!r} is a quantizer that needs arguments. Pass "
                f"an object, {activation.__name__}(...), instead of its name."
            ) from None

    activations.get = get


def on_compile(tell: Callable[[Any, Any], None]) -> None:
    """Calls a function with optimizer and model after every `compile` of a model."""
    compile_model = keras.Model.compile

    @functools.wraps(compile_model)
    def compile(self: keras.Model, *args: Any, **kwargs: Any) -> None:
        compile_model(self, *args, **kwargs)
        for optimizer in tensorflow.nest.flatten(self.optimizer):
            tell(optimizer, self)

    keras.Model.compile = compile


def of_keras_3(given: Any) -> bool:
    """Whether something is a class or an object of Keras 3."""
    kind = given if isinstance(given, type) else type(given)
    return any(base.__module__.split(".")[0] == "keras" for base in kind.__mro__)


def why_no_model(given: Any) -> str:
    """Says of something that is not a model of legacy Keras what to pass instead."""
    if isinstance(given, (str, os.PathLike)):
        return (
            f"{os.fspath(given)!r} is not a Keras model but a path. Open the file "
            "first, with larq_nobn.training.open_model."
        )
    if of_keras_3(given):
        return (
            f"{given!r} is of Keras 3, but larq_nobn needs legacy Keras (tf_keras), as "
            "Larq does. Build the model with tf.keras, after larq_nobn is imported."
        )
    return (
        f"{reprlib.repr(given)} is not a Keras model. Pass a functional or Sequential "
        "model of legacy Keras (tf_keras)."
    )


def check_model(given: Any) -> None:
    """Raises a TypeError for what is not a model of legacy Keras."""
    if not isinstance(given, keras.Model):
        raise InvalidType(why_no_model(given))


def alias(layer: keras.layers.Layer, **attributes: Any) -> keras.layers.Layer:
    """Returns the given layer under calls of its own.

    All its attributes are those of the given layer, variables and layers inside it
    too, whatever its configuration says. What it is called on, what losses that adds
    and what is set later are not seen in the given layer, which is no model. The
    attributes that differ are set past Keras' tracking.
    """
    same = copy(layer)
    vars(same).update(
        _inbound_nodes_value=[],
        _outbound_nodes_value=[],
        _losses=[],
        _alias_of=weakref.ref(original(layer)),
    )
    vars(same).update(attributes)
    return same


def original(layer: keras.layers.Layer) -> keras.layers.Layer:
    """Returns the layer that an `alias` stands for, and others as they are."""
    given = vars(layer).get("_alias_of")
    return layer if given is None else given() or layer


def calling_layer() -> keras.layers.Layer | None:
    """The layer whose `call` is running, the innermost of them; None outside of all."""
    return call_context().layer


def uncast(variable: Any) -> tensorflow.Tensor:
    """The value of a variable as it is stored, also in a layer of mixed precision."""
    with enable_auto_cast_variables(None):
        return tensorflow.convert_to_tensor(variable)


class RandomLayer(keras.__internal__.layers.BaseRandomLayer):
    """Base of layers that draw numbers, which keeps the generator out of the weights.

    Keras' own base chooses where draws come from, and forgets the seed.
    """

    _in_config = "seed"

    def __init__(self, seed: int | None = None, **kwargs: Any):
        if seed is not None:
            seed = check_integer("seed", seed, 0, "Use None for other draws each time.")
        # Layers with the same seed draw the same only from generators of their own:
        # Keras' usual operations share a state within a process.
        super().__init__(seed=seed, **{"force_generator": seed is not None, **kwargs})
        self.seed = seed


class Configured:
    """Mixin for layers whose config has the arguments that each class names.

    Keras never casts their weights, which stay in the precision they are trained in.

    Attributes:
        _in_config: Names of arguments, which are those of the attributes that have
            them, or "argument=attribute".
    """

    _in_config = ""

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        """Returns the mask of the inputs; without this method Keras drops it."""
        return mask

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()  # type: ignore[misc]
        for cls in reversed(type(self).__mro__):
            for entry in vars(cls).get("_in_config", "").split():
                argument, _, attribute = entry.partition("=")
                value = getattr(self, attribute or argument)
                if argument.endswith("initializer"):
                    value = keras.initializers.serialize(value)
                elif argument.endswith("regularizer"):
                    value = keras.regularizers.serialize(value)
                config[argument] = value
        return config

    def add_weight(
        self, name: str, shape: Any = (), initializer: Any = None, **how: Any
    ) -> Any:
        """Adds a weight; a number as its initializer is what it starts at."""
        if isinstance(initializer, float):
            initializer = keras.initializers.Constant(initializer)
        how = {"experimental_autocast": False, **how}
        return super().add_weight(  # type: ignore[misc]
            name=name, shape=shape, initializer=initializer, **how
        )
