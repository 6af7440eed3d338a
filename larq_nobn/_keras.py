"""Selects legacy Keras; all other modules import Keras from here.

Larq is written for Keras 2, whose successor is the package ``tf_keras``. TensorFlow
chooses between Keras 2 and 3 at the first use of ``tf.keras``, by an environment
variable. This module sets the variable in time, or raises an error with a remedy.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import os
import reprlib
import sys
import warnings
import weakref
from collections.abc import Callable
from contextlib import suppress
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

# `from tensorflow.keras import ...`, as in Larq, searches a list that TensorFlow makes
# when it is imported. If that was before this module, the list lacks legacy Keras.
_API = os.path.join(keras.__path__[0], "api", "_v2")
if tensorflow.__path__[0] != _API:
    tensorflow.__path__.insert(0, _API)


def open_later_inputs(layer: type) -> None:
    """Lets an InputLayer without the argument `optional` open files that contain it.

    Later versions of tf_keras save `optional=False` for every input. Earlier versions
    have no optional inputs, and reject the argument.
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

    The class has three names: `larq_nobn>Name` (in `.keras` files), `Name` (which Larq
    layers look up when they open an `.h5` file) and the alias, such as `"rsign"`.
    Raises a ValueError if another class already has one of these names.
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
        # Keras applies AutoGraph to `call`, which rewrites loops and conditions over
        # tensors. Classes of this package have none except on `training`, and the
        # search takes time and memory whenever a step is traced. Functions of others
        # that a `call` uses are still rewritten.
        own: Any = vars(cls).get("call")
        if own is not None and "training" not in inspect.signature(own).parameters:
            autograph_artifact(own)
        return cls

    return decorate


def registered(argument: str, name: str) -> Any:
    """Returns the class of a user that is registered with Keras by a name.

    Raises:
        ValueError: If there is none, such as if its module is not imported.
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
    """Returns all classes, exported or not, that `.h5` files may name as layers."""
    serialization.populate_deserializable_objects()
    return serialization.LOCAL.ALL_OBJECTS


def call_named_activations(base: type) -> None:
    """Lets `activation=` take classes, or their names, in place of objects.

    Keras would call the class with the inputs as its first argument. This changes
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
    """Calls `tell` with optimizer and model after every `compile` of a model."""
    compile_model = keras.Model.compile

    @functools.wraps(compile_model)
    def compile(self: keras.Model, *args: Any, **kwargs: Any) -> None:
        compile_model(self, *args, **kwargs)
        for optimizer in tensorflow.nest.flatten(self.optimizer):
            tell(optimizer, self)

    keras.Model.compile = compile


def of_keras_3(value: Any) -> bool:
    """Tells whether a value is a class or an object of Keras 3."""
    kind = value if isinstance(value, type) else type(value)
    return any(base.__module__.split(".")[0] == "keras" for base in kind.__mro__)


def keras_3() -> Any:
    """Returns Keras 3, which is imported for its own models and files only."""
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    return importlib.import_module("keras")


def why_no_model(value: Any) -> str:
    """Returns the message for a value that is not a model of legacy Keras."""
    if isinstance(value, (str, os.PathLike)):
        return (
            f"{os.fspath(value)!r} is not a Keras model but a path. Open the file "
            "first, with larq_nobn.training.open_model."
        )
    if of_keras_3(value):
        named = getattr(value, "name", None)
        return (
            f"{type(value).__name__} {named!r} is of Keras 3, but larq_nobn needs "
            "legacy Keras (tf_keras), as Larq does. Only deploy, convert, evaluate and "
            "the weights of init take it. Build the same layers with tf.keras, after "
            "larq_nobn is imported, and carry the weights over: "
            "legacy.set_weights(model.get_weights()); legacy.save('legacy.keras')."
        )
    return (
        f"{reprlib.repr(value)} is not a Keras model. Pass a functional or Sequential "
        "model of legacy Keras (tf_keras)."
    )


def check_model(value: Any) -> None:
    """Raises a TypeError for a value that is not a model of legacy Keras."""
    if not isinstance(value, keras.Model):
        raise InvalidType(why_no_model(value))


def alias(layer: keras.layers.Layer, **attributes: Any) -> keras.layers.Layer:
    """Returns a copy of a layer (not of a model) with the same attributes.

    It has the same variables and inner layers, even if the configuration says
    otherwise. Calls of the copy, their losses and later attributes do not change the
    given layer. `attributes` are set without Keras' tracking.
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
    """Returns the layer that an `alias` copies, and other layers unchanged."""
    reference = vars(layer).get("_alias_of")
    return layer if reference is None else reference() or layer


def calling_layer() -> keras.layers.Layer | None:
    """Returns the innermost layer whose `call` is running; None outside of calls."""
    return call_context().layer


def uncast(variable: Any) -> tensorflow.Tensor:
    """Returns the stored value of a variable, also in a layer of mixed precision."""
    with enable_auto_cast_variables(None):
        return tensorflow.convert_to_tensor(variable)


def once_positional(*names: str) -> Callable[[Any], Any]:
    """Lets `__init__` take keywords by position, after the first argument, and warns.

    `names` are in the order in which earlier versions took them.
    """

    def decorate(init: Any) -> Any:
        @functools.wraps(init)
        def __init__(self: Any, *arguments: Any, **options: Any) -> None:
            moved = dict(zip(names, arguments[1:], strict=False))
            if moved:
                warnings.warn(
                    f"{type(self).__name__} will take only its first argument by "
                    f"position: write {'=..., '.join(moved)}=... for the others.",
                    FutureWarning,
                    stacklevel=2,
                )
            rest = arguments[:1] + arguments[1 + len(moved) :]
            init(self, *rest, **moved, **options)

        return __init__

    return decorate


def weight_of(name: str) -> Any:
    """Returns a property for a weight that replaces an argument of the same name."""

    def weight(self: Any) -> Any:
        value = getattr(self, name)
        return value if isinstance(value, tensorflow.Variable) else None

    return property(weight, doc=f"The weight `{name}`; None before `build`.")


def check_seed(seed: Any) -> int | None:
    """Returns a seed of a layer; None for that of Keras."""
    if seed is None:
        return None
    return check_integer("seed", seed, 0, "Use None for other draws each time.")


class RandomLayer(keras.__internal__.layers.BaseRandomLayer):
    """Base of layers that draw random numbers; saves the seed in the configuration."""

    _in_config = "seed"

    def __init__(self, seed: int | None = None, **kwargs: Any):
        seed = check_seed(seed)
        # With a seed, the layer needs a generator of its own to repeat its draws, since
        # Keras' usual operations share one state in a process.
        super().__init__(seed=seed, **{"force_generator": seed is not None, **kwargs})
        self.seed = seed


# Keras' options of a weight: the module of each, and an example of its names.
_OPTIONS = {
    "initializer": (keras.initializers, "'zeros' or Constant(0.1)"),
    "regularizer": (keras.regularizers, "'l2', or None"),
    "constraint": (keras.constraints, "'non_neg', or None"),
}


def check_option(argument: str, value: Any) -> Any:
    """Returns the Keras object that `value` is or names.

    The argument is called like a weight and its option, such as `gamma_initializer`.
    """
    kind = argument.rpartition("_")[2]
    module, example = _OPTIONS[kind]
    made = None
    # Keras may return a name that it does not know.
    with suppress(TypeError, ValueError):
        made = module.get(value)
    if callable(made) or (value is None and kind != "initializer"):
        return made
    raise InvalidValue(
        f"{argument}={value!r} is not {'an' if kind == 'initializer' else 'a'} {kind}. "
        f"Pass a Keras {kind} or its name, such as {example}."
    )


class Configured:
    """Mixin that adds the arguments in `_in_config` to the configuration of a layer.

    Keras does not cast the weights of these layers in mixed precision.

    Attributes:
        _in_config: Names of arguments that are also names of attributes, or
            "argument=attribute".
        _tunable: Names of weights that have Keras' options as further arguments, such
            as `gamma_initializer`, `gamma_regularizer` and `gamma_constraint`.
    """

    _in_config = ""
    _tunable = ""

    def __init__(self, **options: Any) -> None:
        given = {name: options.pop(name, None) for name in self._options_of_weights()}
        super().__init__(**options)
        for name, value in given.items():
            setattr(self, name, None if value is None else check_option(name, value))

    @classmethod
    def _options_of_weights(cls) -> list[str]:
        return [f"{name}_{kind}" for name in cls._tunable.split() for kind in _OPTIONS]

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        """Returns the mask of the inputs, which Keras would drop otherwise."""
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
        for name in self._options_of_weights():
            # Files of layers without them remain as they were.
            if (value := getattr(self, name)) is not None:
                module, _ = _OPTIONS[name.rpartition("_")[2]]
                config[name] = module.serialize(value)
        return config

    def add_weight(
        self, name: str, shape: Any = (), initializer: Any = None, **how: Any
    ) -> Any:
        """Adds a weight; the initializer may be a number, its initial value."""
        if isinstance(initializer, float):
            initializer = keras.initializers.Constant(initializer)
        how = {"experimental_autocast": False, **how}
        for kind in _OPTIONS if name in self._tunable.split() else ():
            if (own := getattr(self, f"{name}_{kind}")) is not None:
                how[kind] = own
        initializer = how.pop("initializer", initializer)
        return super().add_weight(  # type: ignore[misc]
            name=name, shape=shape, initializer=initializer, **how
        )
