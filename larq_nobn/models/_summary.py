"""Larq's summary, right about wrapped layers and the weights of quantizers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .._errors import InvalidValue
from .._keras import check_model, keras
from .._larq import lq
from ..graph import _signs
from ..layers import BatchNormalizationPreconditioning

_KERNELS = ("kernel", "depthwise_kernel", "pointwise_kernel")


class _LayerProfile(lq.models.LayerProfile):
    """The profile of one layer, or of the layer in a wrapper as it is called there."""

    op_profiles: list[Any]
    _layer: Any

    def __init__(self, layer: keras.layers.Layer):
        self._called = layer
        wrapped = isinstance(layer, BatchNormalizationPreconditioning)
        inside = layer.layer if wrapped else layer
        super().__init__(inside)
        self.name = layer.name
        # Larq takes every weight without "bias" in its name for one that multiplies.
        kernels = {id(getattr(inside, name, None)) for name in _KERNELS}
        counted = [p for p in self.weight_profiles if not p.is_bias()]
        self.op_profiles = [
            operation
            for operation, weight in zip(self.op_profiles, counted, strict=False)
            if id(weight._weight) in kernels
        ]
        if wrapped:
            averages = (layer.moving_mean, layer.moving_variance, layer.batches)
            self.weight_profiles += [
                lq.models.WeightProfile(average, trainable=False)
                for average in averages
            ]

    @property
    def input_precision(self) -> int | None:
        own = super().input_precision
        return 1 if own is None and self._reads_signs() else own

    def _reads_signs(self) -> bool:
        """Whether signs that other layers make meet the kernel, in all calls."""
        if not any(hasattr(self._layer, name) for name in _KERNELS):
            return False
        read = [x for node in self._called.inbound_nodes for x in node.keras_inputs]
        return bool(read) and all(_signs.sign_of_tensor(x) is not None for x in read)

    @property
    def output_shape(self) -> Sequence[int] | None:
        inside, self._layer = self._layer, self._called
        try:
            return super().output_shape
        finally:
            self._layer = inside


class ModelProfile(lq.models.ModelProfile):
    """The numbers of `summary`, as in Larq's class of this name.

    Arguments:
        model: A built model.
    """

    def __init__(self, model: keras.Model):
        check_model(model)
        self.name = model.name
        self.layer_profiles = [
            ModelProfile(layer)
            if isinstance(layer, keras.Model)
            else _LayerProfile(layer)
            for layer in model.layers
        ]


def summary(
    model: keras.Model,
    print_fn: Callable[[str], Any] | None = None,
    include_macs: bool = True,
) -> None:
    """Prints Larq's summary of a network, with the operations of all of its layers.

    For Larq's own layers and quantizers it is `larq.models.summary`, to the letter, but
    for kernels after a sign that is another layer, or the activation of one: they read
    one bit. Of others that one takes a gain or a shift in a quantizer for real-valued
    multiplications, one per output pixel, and knows none in a layer that
    `BatchNormalizationPreconditioning` wraps. Here a multiplication is that of a kernel
    weight with an input, at the larger precision of the two, wherever the kernel is.
    Of a subclassed model the weights are counted, not the operations: its layers do not
    show what they are called on.

    Arguments:
        model: A built model.
        print_fn: What prints, line by line or more at once; None for `print`.
        include_macs: Whether to show how many multiply-accumulate operations there are.

    Raises:
        TypeError: If it is not a model of legacy Keras.
        ValueError: If the model is not built.

    Example:
        ```python
        import larq_nobn as nobn

        nobn.models.summary(nobn.models.ResNet20((32, 32, 3), 10))
        ```
    """
    check_model(model)
    if not model.built:
        raise InvalidValue(
            f"Model {model.name!r} has no weights yet, which a summary counts. Call "
            "it on a batch, or start it with keras.Input."
        )
    profile, write = ModelProfile(model), print_fn or print
    graphless = not getattr(model, "_is_graph_network", False)
    include_macs = include_macs and not graphless
    layers = profile.generate_table(include_macs)
    totals = profile.generate_summary(include_macs)
    write(lq.models.LayersTable(layers, title=f"{model.name} stats").table)
    write(lq.models.SummaryTable(totals, title=f"{model.name} summary").table)
    if graphless:
        write(
            f"Model {model.name!r} shows no layer graph, so its operations are not "
            "counted. The report of larq_nobn.convert has those of its file."
        )
