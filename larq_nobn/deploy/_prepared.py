"""The function of a file as a Keras model."""

from __future__ import annotations

from collections.abc import Sequence

from .._checks import check_flag
from .._keras import keras
from ..graph import FEW, made_up
from ._checks import check_model
from ._graph import as_functional
from ._opening import with_known_sizes
from .int8 import check_int8
from .prepare import BinaryConvolution, pad_with_ones, prepare
from .verify import verify_prepared


def prepared(
    model: keras.Model,
    *,
    one_padding: bool = False,
    allow_float: bool = False,
    input_shape: Sequence[int] | None = None,
    verify: bool = True,
) -> keras.Model:
    """Returns the function of a converted file as a Keras model.

    It is what `convert` hands to the converter. Where a model has kernels of ±c in
    front of a sign, sums that should be 0 are rounding noise in Keras, and their signs
    chance; here, as in the file, kernels are ±1 with the scale behind them, so that
    such sums are 0 and their sign is +1. So accuracy is that of the file, on the
    computer that trains; a float layer in front can be trained or calibrated for it.
    Sums of real numbers still round otherwise in the last bit.

    Arguments:
        model: A Larq model that `convert` prepares. It is not changed.
        one_padding, allow_float, input_shape: As in `convert`.
        verify: Whether to compare it with the given model on a few made-up examples,
            segment by segment, as `convert` does.

    Returns:
        A functional float32 model for inference, with the inputs and outputs of the
        given one in their order, and layers of the same names. Float layers are
        trainable; binary kernels, gains and shifts are fixed. Its weights can be
        saved, the model itself cannot.

    Raises:
        ConversionError: If the model cannot be converted, or has parts that do not
            show what they are made of: such a model is converted as it computes.
        VerificationError: If it computes something else than the given model.

    Example:
        ```python
        import larq_nobn as nobn

        model = nobn.models.ReActNet18((32, 32, 3), 10, width=16)
        on_the_phone = nobn.deploy.prepared(model)
        on_the_phone.compile(metrics=["accuracy"])
        ```
    """
    check_flag("one_padding", one_padding)
    check_flag("verify", verify)
    check_flag("allow_float", allow_float)
    model = with_known_sizes(model, input_shape, None)
    if one_padding:
        model, _ = pad_with_ones(model)
    given = as_functional(model)
    check_int8(given, False)
    _, lacking = check_model(given, allow_float)
    found = prepare(given, {layer.layer for layer in lacking})
    if verify:
        verify_prepared(model, given, found, made_up(given, FEW), ending="")
    for layer in found.layers:
        # Their kernels would leave ±1.
        layer.trainable = not isinstance(layer, BinaryConvolution)
    return keras.Model(found.inputs, found.outputs, name=model.name)
