"""Parts of a user's own in the networks: by name, class or object."""

from __future__ import annotations

from typing import Any

from .._errors import InvalidType, InvalidValue
from .._keras import keras, registered
from ..graph._operation import rebuild


def found(argument: str, part: Any) -> Any:
    """Returns what a name stands for: a class or a function; objects unchanged.

    Names are registered ones, aliases of quantizers and, for activations, Keras' names.

    Raises:
        ValueError: If nothing has this name.
    """
    known = keras.utils.get_custom_objects()
    if not isinstance(part, str) or part in known:
        return known.get(part) if isinstance(part, str) else part
    if argument == "activation" and ">" not in part:
        try:
            return keras.activations.get(part)
        except ValueError as error:
            raise InvalidValue(
                f"activation={part!r} is not known. Pass the name of a Keras "
                "activation, a registered name (package>Class), a layer or a function."
            ) from error
    return registered(argument, part)


def fresh(argument: str, part: Any, name: str) -> Any:
    """Returns a new layer or quantizer of this name; a function is returned unchanged.

    Arguments:
        argument: The argument of a network that the part was given as.
        part: A name, a class or a layer. A layer is made again from its configuration,
            with new weights, since two places of a network cannot share it.
        name: The name of the new layer.
    """
    part = found(argument, part)
    if isinstance(part, keras.layers.Layer):
        return rebuild(part, name=name)
    if isinstance(part, type) and issubclass(part, keras.layers.Layer):
        return part(name=name)
    if callable(part) and not isinstance(part, type):
        return part
    raise InvalidType(
        f"{argument}={part!r} is neither a name nor a Keras layer. Pass a name, or an "
        "object or class of a layer or quantizer."
    )


def is_own(part: Any) -> bool:
    """Whether a part is a user's own: an object, a class or `package>Class`."""
    return ">" in part if isinstance(part, str) else callable(part)
