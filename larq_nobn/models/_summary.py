"""Larq's summary, corrected for wrapped layers and for weights of quantizers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .._errors import InvalidValue
from .._keras import check_model, keras, keras_3, of_keras_3
from .._larq import lq
from .._names import MODELS
from ..graph import _signs
from ..layers import BatchNormalizationPreconditioning

_KERNELS = ("kernel", "depthwise_kernel", "pointwise_kernel")


class _LayerProfile(lq.models.LayerProfile):
    """The profile of a layer, or of the layer inside a wrapper."""

    op_profiles: list[Any]
    _layer: Any

    def __init__(self, layer: keras.layers.Layer):
        self._called = layer
        wrapped = isinstance(layer, BatchNormalizationPreconditioning)
        inside = layer.layer if wrapped else layer
        super().__init__(inside)
        self.name = layer.name
        # Larq counts multiplications for every weight without "bias" in its name.
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
        """Tells whether the kernel reads signs of other layers, in all calls."""
        if not any(hasattr(self._layer, name) for name in _KERNELS):
            return False
        inputs = [x for node in self._called.inbound_nodes for x in node.keras_inputs]
        return bool(inputs) and all(
            _signs.sign_of_tensor(x) is not None for x in inputs
        )

    @property
    def output_shape(self) -> Sequence[int] | None:
        inside, self._layer = self._layer, self._called
        try:
            return super().output_shape
        finally:
            self._layer = inside


class ModelProfile(lq.models.ModelProfile):
    """The numbers of `summary`, like Larq's class of this name.

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
    """Prints Larq's summary of a network, with the operations of all layers.

    It counts a multiplication per kernel weight and input, at the larger precision of
    the two. Unlike `larq.models.summary`, it also takes inputs for binary after a sign
    in another layer, counts no multiplications for gains and shifts of quantizers, and
    counts layers in `BatchNormalizationPreconditioning`. For subclassed models only
    the weights are counted, since their layer graph is unknown. For models of Keras 3
    it prints the summary of Keras.

    Arguments:
        model: A built model.
        print_fn: Function that prints one or more lines; None for `print`.
        include_macs: Whether to show the number of multiply-accumulate operations.

    Raises:
        TypeError: If it is not a model of legacy Keras.
        ValueError: If the model is not built.

    Example:
        ```python
        import larq_nobn as nobn

        nobn.models.summary(nobn.models.ResNet20((32, 32, 3), 10))
        ```
    """
    if of_keras_3(model) and isinstance(model, keras_3().Model):
        model.summary(print_fn=print_fn)
        return
    check_model(model)
    if not model.built:
        raise InvalidValue(
            f"Model {model.name!r} has no weights yet, so they cannot be counted. Call "
            "it on a batch, or start it with keras.Input."
        )
    profile, write = ModelProfile(model), print_fn or print
    graphless = not getattr(model, "_is_graph_network", False)
    include_macs = include_macs and not graphless
    layers = profile.generate_table(include_macs)
    totals = profile.generate_summary(include_macs)
    name = next((name for name in MODELS if name.lower() == model.name), model.name)
    write(lq.models.LayersTable(layers, title=f"{name} stats").table)
    write(lq.models.SummaryTable(totals, title=f"{name} summary").table)
    if graphless:
        write(
            f"Model {model.name!r} has no layer graph, so its operations are not "
            "counted. The report of larq_nobn.convert has those of its file."
        )
