from __future__ import annotations

from typing import Any

from .._errors import InvalidValue
from .._keras import keras


def check_initializer(name: str, value: object, example: str) -> Any:
    """Returns the Keras initializer that `value` is or names."""
    try:
        return keras.initializers.get(value)
    except (TypeError, ValueError) as error:
        raise InvalidValue(
            f"{name}={value!r} is not an initializer. Pass a Keras initializer or its "
            f"name, such as 'zeros' or {example}."
        ) from error
