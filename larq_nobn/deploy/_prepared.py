"""Rebuilds in Keras the function that a file computes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import tensorflow as tf

from .._checks import check_flag
from .._keras import alias, keras
from .._larq import lq, unmeasured
from ..graph import _examples, _signs
from ..loading._foreign import layers_of
from ..quantizers._rsign import ThresholdSign
from ._binary_layers import check_float, check_model
from ._errors import VerificationError, conversion_errors
from ._opening import in_float32, opened, range_batches, with_known_sizes
from .int8._conversion import check_int8
from .lite._converter import in_batches, io_spec
from .operations import Stages, lower, outputs_of, stages_of
from .operations._kinds import Constant, Kernel, Node, Pad, Sign, Value
from .operations._program import Program, binary_kernels, key_of
from .trace._operation_names import layer_name
from .trace._signs import TracedSign, signs_of
from .trace._trace import Trace
from .verify._lowered import verify_operations
from .verify._same import FEW, matched
from .verify._segments import Recording, by_example, compare

# The names of nodes' fields as weights, if they differ.
_NAMES = {"k": "scale", "b": "bias", "weights": "kernel", "value": "constant"}
_ONE = ("k", "scale")
# The tolerance for comparing batches with single examples.
_EQUAL = 1e-4


@conversion_errors()
def prepared(
    model: keras.Model,
    *,
    allow_float: bool = False,
    input_shape: Sequence[int] | None = None,
    verify: bool = True,
) -> keras.Model:
    """Returns the function of a TFLite model, in Keras.

    It computes the operations from which `convert` writes files. If a Keras model has
    kernels of ±c before a sign, sums that should be 0 are rounding noise, and their
    signs are random. Here, as in the file, kernels are ±1 and scaled afterwards, so
    these sums are 0 and their sign is +1. The accuracy of this model is that of the
    float file, except that signs of sums of real numbers may differ in the last bit.
    Float layers before signs can be trained for it.

    Arguments:
        model: A Larq model that `convert` can read. It is not changed.
        allow_float, input_shape: As in `convert`.
        verify: Whether to compare it with the given model on a few generated examples,
            from sign to sign, as `convert` does.

    Returns:
        A functional float32 model for inference, with the given model's inputs and
        outputs in their order. Its one layer has the numbers of all given layers as
        weights, named after them, such as `head/kernel`. Weights of float layers are
        trainable; binary kernels and their scales are fixed. A sign has the gradient of
        its quantizer, or of Larq's `SteSign` if it has none. The weights can be saved;
        the model itself cannot.

    Raises:
        ConversionError: If the model cannot be converted.
        VerificationError: If it computes something else than the given model.

    Example:
        ```python
        import larq_nobn as nobn

        model = nobn.models.ReActNet18((32, 32, 3), 10, width=16)
        optimized = nobn.deploy.prepared(model)
        optimized.compile(metrics=["accuracy"])
        ```
    """
    check_flag("verify", verify)
    check_flag("allow_float", allow_float)
    whole, given, _ = opened_model(model, input_shape)
    stages = lowered_model(whole, given)
    check_float(stages, "lce", allow_float, lambda: few_examples(given))
    traced = stages.traced.model
    # The batch size is that of the model, perhaps unknown.
    pairs = zip(traced.inputs, stages.io.inputs, strict=True)
    specs = [tf.TensorSpec(x.shape, s.dtype, s.name) for x, s in pairs]
    open_batch = stages.io._replace(inputs=specs)
    trace = Trace(traced, open_batch)

    def key(node: Node) -> Any:
        """Returns a key that nodes with numbers share only within a layer."""
        call = trace.owners.get(node.name)
        own = call is not None and (node.reals or isinstance(node, Sign))
        return key_of(node), id(call.layer) if call and own else None

    lowered = lower(trace, key)
    operations = _Operations(lowered.program, trace)
    starts = [
        keras.Input(batch_shape=x.shape, dtype=x.dtype, name=name)
        for x, name in zip(open_batch.inputs, traced.input_names, strict=True)
    ]
    made = keras.Model(starts, operations(starts), name=whole.name)
    if verify:
        examples = few_examples(given)
        verify_operations(whole, stages, examples, ending="")
        signs = signs_of(trace.operations, traced.inputs[0].shape[0])
        cuts, others = matched(stages.traced.signs(), signs)
        values = [lowered.value(sign.value) for sign in others]
        _verify(stages, cuts, operations.program, values, examples)
    return made


def _verify(
    stages: Stages,
    signs: Sequence[TracedSign],
    program: Program,
    values: Sequence[Value],
    examples: Sequence[np.ndarray],
) -> None:
    """Compares a program for whole batches with the stages for single examples."""
    pairs = zip(signs, values, strict=True)
    known = [pair for pair in pairs if program.maker(pair[1]) is not None]
    cuts, ends = [sign for sign, _ in known], [value for _, value in known]
    shown = tf.function(lambda x: outputs_of(program, x, ends), autograph=False)
    count = len(program.outputs)

    def read(part: Sequence[np.ndarray]) -> Recording:
        size = stages.traced.model.inputs[0].shape[0] or len(part[0])
        made = in_batches(lambda x: [y.numpy() for y in shown([*x])], part, size)
        inner = [by_example(x, len(part[0])) for x in made[count:]]
        return Recording(made[:count], inner, {})

    segments = compare(stages.exact, stages.io, cuts, read, examples, _EQUAL)
    if segments.finding:
        raise VerificationError(
            f"The operations of model {stages.traced.model.name!r} compute something "
            f"else for a batch than for one example: {segments.finding}. Look "
            "for a layer whose output for an example depends on the others."
        )


def opened_model(
    model: Any, input_shape: Sequence[int] | None, data: Any = None, int8: bool = False
) -> tuple[keras.Model, keras.Model, str | None]:
    """Returns the model with known sizes, it in one graph, and why it has none."""
    whole = with_known_sizes(model, input_shape, data)
    given, reason = opened(whole)
    if reason is None:
        check_int8(given, int8)
    check_model(given)
    return whole, given, reason


def lowered_model(
    model: keras.Model,
    given: keras.Model,
    batch_size: int = 1,
    int8: bool = False,
    runtime: str = "lce",
    calibrate: Any = None,
) -> Stages:
    """Returns the stages of an opened model, up to the program of its file."""
    traced, io = in_float32(given), io_spec(model, batch_size)
    batches = None if calibrate is None else range_batches(traced, calibrate)
    return stages_of(Trace(traced, io), runtime, int8, batches)


def few_examples(given: keras.Model) -> list[np.ndarray]:
    """Returns generated examples for a quick comparison."""
    return _examples.with_far(given, _examples.made_up(given, FEW))


class _Operations(keras.layers.Layer):
    """A layer that computes the lowered program of a model, with weights."""

    def __init__(self, program: Program, trace: Trace):
        super().__init__(dtype="float32", name="operations")
        self._autocast = False
        # Outer layers come last, since inner ones may have the same name.
        model = trace.model
        inside = [*layers_of(model)][::-1]
        layers = {layer.name: layer for layer in (*inside, *model.layers)}
        known: dict[Any, tf.Variable] = {}  # shared by the uses of a layer
        places: dict[Any, dict[str, int]] = defaultdict(dict)
        scales = {f"{kernel.name}_scale" for kernel in binary_kernels(program)}
        nodes = []
        for node in program.nodes:
            # Two calls of a layer share a variable for nodes at the same place, as
            # copies of a node do.
            call = trace.owners.get(node.name)
            key = (id(call), type(node)) if call else (node.name, type(node))
            at = places[key].setdefault(node.name, len(places[key]))
            place = (id(call.layer) if call else node.name, type(node), at)
            readers = program.readers(node.y)
            # Numbers that pad a map or are only compared have no gradient.
            moves = any(reader.y.dtype.is_floating for reader in readers)
            fixed = isinstance(node, Pad if moves else Pad | Constant)
            fixed = fixed or node.name in scales
            owned = call is not None
            nodes.append(self._with_weights(node, place, layers, known, fixed, owned))
        self.program = own = Program(program.inputs, nodes, program.outputs)
        self._function = tf.function(lambda x: outputs_of(own, x), autograph=False)
        self._shapes = [value.shape for value in program.outputs]

    def call(self, inputs: Any) -> Any:
        made = self._function(tf.nest.flatten(inputs))
        for tensor, shape in zip(made, self._shapes, strict=True):
            tensor.set_shape(shape)
        return made if len(made) > 1 else made[0]

    def _with_weights(
        self,
        node: Node,
        place: Any,
        layers: Mapping[str, keras.layers.Layer],
        known: dict[Any, tf.Variable],
        fixed: bool,
        owned: bool,
    ) -> Node:
        name = layer_name(node.name)
        if isinstance(node, Constant):
            name = name.rpartition("/")[0]
        layer = layers.get(name)
        if isinstance(node, Sign):
            return replace(node, quantizer=_quantizer_of(layer))
        made: dict[str, Any] = {}
        fixed = fixed or (isinstance(node, Kernel) and node.binary)
        trainable = not fixed and bool(layer and layer.trainable_weights)
        for key in node.reals:
            value, label = np.asarray(getattr(node, key)), _NAMES.get(key, key)
            nothing = float(key in _ONE) if key != "value" else np.nan
            # What rules add after a map has no bias to train.
            idle = np.all(value == nothing) and not (key == "b" and trainable and owned)
            # A constant of one number may be an epsilon, which is no weight.
            small = isinstance(node, Constant) and value.size < 2
            if value.dtype.kind != "f" or small or idle:
                continue
            what = f"{name}/{label}", place, key, value.tobytes()
            if what not in known:
                number = sum(other[0] == what[0] for other in known)
                known[what] = self.add_weight(
                    f"{name}/{label}" + f"_{number}" * bool(number),
                    value.shape,
                    initializer=keras.initializers.Constant(value),
                    trainable=trainable,
                )
            made[key] = known[what]
        return replace(node, **made)


def _quantizer_of(layer: keras.layers.Layer | None) -> Callable[[Any], Any]:
    """Returns a sign with the gradient of that in a layer, for threshold 0."""
    sign = getattr(layer, "input_quantizer", None)
    if layer is not None and not _signs.is_binary(sign):
        sign = _signs.sign_of_layer(layer)
    if sign is None:
        return lq.quantizers.ste_sign
    if isinstance(sign, ThresholdSign):
        sign = alias(sign, shift=None, offset=0.0)

    with unmeasured(sign):  # its values are -1 and 1, or 0 and 1
        low, high = (float(np.min(sign(tf.fill((1, 1), x)))) for x in (-1.0, 1.0))
    times = 2 / (high - low) if high != low else 1.0

    def function(x: Any) -> Any:
        with unmeasured(sign):
            own = times * sign(x)
        return own + tf.stop_gradient(tf.where(x >= 0, 1.0, -1.0) - own)

    return function
