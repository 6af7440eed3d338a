"""The one layer that the weights of a quantizer belong to."""

from __future__ import annotations

from weakref import ReferenceType, WeakKeyDictionary, ref

import tensorflow as tf

from .._errors import InvalidValue
from .._keras import keras, original

# Kept outside of the quantizers, in which it would be copied and pickled with them.
_OWNERS: WeakKeyDictionary[keras.layers.Layer, ReferenceType] = WeakKeyDictionary()


@tf.autograph.experimental.do_not_convert
def check_owner(quantizer: keras.layers.Layer, host: keras.layers.Layer) -> None:
    """Raises if a quantizer with weights is called by a second layer.

    A layer that only reads the kernel of another is none, and neither is a model, in
    which a quantizer may stand as a layer that is called more than once, as any other.

    Arguments:
        quantizer: A built quantizer that owns weights or metrics.
        host: The layer that calls it.

    Raises:
        ValueError: If it belongs to another layer, or twice to this one.
    """
    found = _OWNERS.get(quantizer)
    owner, host = None if found is None else found(), original(host)
    if owner is host:
        return
    places = [name for name, value in vars(host).items() if value is quantizer]
    if not places:
        return
    if len(places) > 1:
        raise InvalidValue(
            _shared(quantizer, f"layer {host.name!r} as {' and '.join(places)}")
        )
    if owner is None:
        _OWNERS[quantizer] = ref(host)
    else:
        raise InvalidValue(
            _shared(quantizer, f"layers {owner.name!r} and {host.name!r}")
        )


def _shared(quantizer: keras.layers.Layer, places: str) -> str:
    kind = type(quantizer).__name__
    return (
        f"One {kind} object is given to {places}, but its weights and metrics belong "
        f"to one layer. Give each layer a quantizer of its own: write {kind}(...) for "
        "each, or pass its alias."
    )
