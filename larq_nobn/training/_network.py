"""The network of a run, built with its kernels or that of `init` with a classifier; the
optimizer that trains it, and the network that teaches it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from functools import partial
from typing import Any

import numpy as np
import tensorflow as tf

from .._errors import InvalidValue
from .._keras import keras
from .._larq import lq, without_starvation_warning
from .._names import FLOAT_MODEL, MODEL_FROM_INIT
from .._names import KERNELS as NAMES
from ..config._recipe import Recipe
from ..data import DatasetInfo
from ..graph import _errors, _graph, _models, _operation, _signs
from ..layers import ActivationStandardization, SymmetricHead
from ..optimizers import (
    AdaptiveGradientClipping,
    BayesianLearningRule,
    ParameterGroups,
)
from ..quantizers import (
    BernoulliSign,
    BinaryRegularized,
    BiPer,
    ScaledStdSign,
    SignSwish,
)
from ._initial_weights import open_init
from ._settings import NETWORKS, RunSettings
from ._training_model import Probabilities

_layers = keras.layers
# The argument that says how many classes a layer tells apart.
_SIZES: tuple[tuple[Any, str], ...] = (
    (SymmetricHead, "classes"),
    (_layers.Dense, "units"),
    (_layers.Conv2D, "filters"),
)
_SOFTMAX = (keras.activations.softmax, tf.nn.softmax)
# Quantizers are registered under these names. A fresh one for each layer, because some
# own weights.
_REGISTERED = {
    **keras.utils.get_custom_objects(),
    "bnn_plus": lambda: BinaryRegularized(SignSwish(), order=1, strength=1e-7),
}
KERNELS: dict[str, Callable[[], Any]] = {name: _REGISTERED[name] for name in NAMES}
# These bring the weights to scale themselves, or look at more than [-1, 1] of them.
_UNCLIPPED = {"scaled_std_sign", "recu", "reste", "biper"}
# Beyond, a weight of this natural parameter is of the other sign once in 22,000 draws,
# and each time takes a step that no other step could undo.
_LARGEST_NATURAL = 5.0
# Shifts of signs, the biases of convolutions in their place, and gains of kernels.
_SHIFTS_AND_GAINS = r"(^|/)(shift|gain)(:|$)|_conv/bias(:|$)"
_GAINS = r"(^|/)gain(:|$)"
# What a residual network with batch norm is commonly trained with.
_TEACHER = Recipe(
    optimizer="sgd",
    learning_rate=0.1,
    schedule="cosine",
    weight_decay=5e-4,
    clip_factor=0.0,
)
# As the student's, like all that is not part of a recipe.
_SHARED = ("epochs", "batch_size", "accumulate", "reflect")


def build_network(
    settings: RunSettings, info: DatasetInfo, trust: bool = False
) -> keras.Model:
    if settings.model == MODEL_FROM_INIT:
        source = open_init(settings, trust)
        network = with_head(source, info.image_shape, info.classes, str(settings.init))
    else:
        chosen = {"width": settings.width, "blocks": settings.blocks}
        network = NETWORKS[settings.model](
            info.image_shape,
            info.classes,
            normalization=settings.normalization,
            **{name: value for name, value in chosen.items() if value is not None},
            **settings.network,
        )
    return with_kernels(network, settings)


def with_kernels(network: keras.Model, recipe: Recipe) -> keras.Model:
    """Builds a new network again, with what a recipe says of its kernels and signs."""
    kernel, weight_decay = recipe.kernel, recipe.weight_decay
    initializer, standardize = recipe.latent_initializer, recipe.standardize_activations
    if not any((kernel, weight_decay, initializer, standardize)):
        return network
    kernels: dict[str, Callable[[], Any]] = {
        **KERNELS,
        "bernoulli_sign": partial(BernoulliSign, recipe.temperature),
    }

    def same_but(layer: keras.layers.Layer) -> keras.layers.Layer:
        changes: dict[str, Any] = {}
        if weight_decay and hasattr(layer, "kernel_regularizer"):
            # The gradient of half the square is the kernel itself.
            changes["kernel_regularizer"] = keras.regularizers.L2(weight_decay / 2)
        binary = _signs.is_binary(getattr(layer, "kernel_quantizer", None))
        if initializer is not None and binary:
            changes["kernel_initializer"] = initializer
        if kernel is not None and binary:
            own = layer.kernel_quantizer
            made = kernels[kernel]()
            if kernel == "biper" and isinstance(own, ScaledStdSign):
                made = BiPer(scale=own.scale, variance_preserving=True, name=own.name)
            changes["kernel_quantizer"] = made
            if kernel in _UNCLIPPED:
                changes["kernel_constraint"] = None
            elif kernel == "bernoulli_sign":
                clip = lq.constraints.WeightClip(_LARGEST_NATURAL)
                changes["kernel_constraint"] = clip
        return _operation.rebuild(layer, **changes)

    done = {
        node.layer.name
        for layer in network.layers
        if isinstance(layer, ActivationStandardization)
        for node in layer.outbound_nodes
    }

    def standardized(call: _graph.Call) -> Any:
        """A layer after an `ActivationStandardization`, if it starts with a sign."""
        layer = same_but(call.layer)
        sign = _signs.is_binary(layer) or _signs.is_binary(
            getattr(layer, "input_quantizer", None)
        )
        if not sign or layer.name in done:
            return layer
        before = ActivationStandardization(name=f"{layer.name}_standardization")
        return lambda x: layer(before(x))

    with without_starvation_warning():
        if standardize:
            return _models.replace_layers(network, standardized)
        return keras.models.clone_model(network, clone_function=same_but)


def scale_latent_weights(network: keras.Model, factor: float) -> None:
    for layer in network.layers:
        if _signs.is_binary(getattr(layer, "kernel_quantizer", None)):
            latent = layer.kernel.latent_variable
            latent.assign(factor * latent)


def compile_network(model: keras.Model, optimizer: keras.optimizers.Optimizer) -> None:
    """Compiles a network, or its `TrainingModel`, for labels that are numbers."""
    model.compile(
        optimizer=optimizer,
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        # As an object, whose variables exist before the step is traced: by its name,
        # they would be made in the first trace, and TensorFlow would trace again.
        metrics=[keras.metrics.SparseCategoricalAccuracy("accuracy", "float32")],
        jit_compile=False,
    )


def head_name(model: keras.Model) -> str | None:
    """Name of the layer that makes classes of features; None if there is none.

    What follows it (an activation, a norm, a pool) has one input.
    """
    layers = _ending(model)
    return layers[-1].name if layers and _size(layers[-1]) else None


def with_head(
    model: keras.Model, image_shape: Sequence[int], classes: int, name: str
) -> keras.Model:
    """Builds a network again, with new weights, for other images and classes.

    A softmax at its end goes, since training takes logits. What ends in a feature map
    gets an average pool and a dense classifier. A ValueError tells, of the network
    `name`, why it cannot be built, or has no classifier that could be replaced.
    """
    called = f"The network of init={name!r}"
    advice = "Choose a model (--model) that takes its weights."
    try:
        made = _built(model, image_shape, classes)
    except _errors.ModelError as error:
        raise InvalidValue(f"{called} cannot be trained as it is: {error}") from error
    if tuple(made.output_shape) != (None, classes):
        raise InvalidValue(
            f"{called} gives outputs of shape {made.output_shape[1:]} instead of "
            f"{classes} classes, and ends in no Dense, Conv2D or SymmetricHead that "
            f"could be replaced. {advice}"
        )
    if ends_in_softmax(made, image_shape):
        raise InvalidValue(
            f"{called} ends in a softmax that is not a layer of its own, but training "
            f"takes logits. {advice}"
        )
    return made


def ends_in_softmax(model: keras.Model, image_shape: Sequence[int]) -> bool:
    """Whether noise comes out as probabilities, which logits do only by a miracle."""
    noise = np.random.default_rng(0).normal(size=(4, *image_shape))
    before = model.get_weights()
    outputs = np.asarray(model(noise.astype(np.float32), training=False), np.float64)
    model.set_weights(before)  # some count their calls
    return bool((outputs >= 0).all() and np.allclose(outputs.sum(1), 1, atol=1e-2))


def _built(model: keras.Model, image_shape: Sequence[int], classes: int) -> keras.Model:
    _models.check_readable(model)
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise _errors.ModelError(
            f"It has {len(model.inputs)} inputs and {len(model.outputs)} outputs, but "
            "a classifier of images has one of each. Choose another network."
        )
    plain = keras.Model(model.inputs, model.outputs, name=model.name)
    ending = _ending(plain)

    def rebuilt(layer: keras.layers.Layer) -> keras.layers.Layer:
        """Returns a copy; at the end without softmax, and for other classes."""
        changes: dict[str, Any] = {}
        if any(layer is last for last in ending):
            if isinstance(layer, _layers.Softmax):
                return _layers.Activation("linear", name=layer.name, dtype="float32")
            if getattr(layer, "activation", None) in _SOFTMAX:
                changes["activation"] = "linear"
            if layer is ending[-1] and (size := _size(layer)):
                changes[size] = classes
        return _operation.rebuild(layer, float32=True, **changes)

    start = keras.Input(tuple(image_shape), name=plain.input_names[0])
    what = f"cannot be built for images of {tuple(image_shape)}"
    taken = model.input_shape[1:]
    advice = f"It takes images of {taken}: choose their size (--image-size)."
    with _errors.raised_by(plain, what, advice, InvalidValue):
        made = keras.models.clone_model(plain, start, clone_function=rebuilt)
    if made.outputs[0].shape.rank != 4:
        return made
    x = _layers.GlobalAveragePooling2D(name="pool")(made.outputs[0])
    logits = _layers.Dense(classes, name="head", dtype="float32")(x)
    return keras.Model(made.inputs, logits, name=made.name)


def _ending(model: keras.Model) -> list[keras.layers.Layer]:
    """The layers from the output back to the classifier, which is the last of them.

    Without one they end where a layer has several inputs, or is a model; there are none
    after a feature map.
    """
    graph, (end,) = _graph.Graph(model), model.outputs
    layers: list[keras.layers.Layer] = []
    call = graph.producer(end) if end.shape.rank == 2 else None
    while call is not None:
        layers.append(call.layer)
        inputs = _graph.inputs_of(call.node)
        inside = isinstance(call.layer, keras.Model)
        if _size(call.layer) or inside or len(inputs) != 1:
            break
        call = graph.producer(inputs[0])
    return layers


def _size(layer: keras.layers.Layer) -> str | None:
    """The argument of a classifier for the number of classes; None for other layers."""
    if isinstance(layer, _layers.Conv2D):
        quantized = getattr(layer, "kernel_quantizer", None) is not None
        if quantized or tuple(layer.kernel_size) != (1, 1):
            return None  # of the features
    return next((name for kind, name in _SIZES if isinstance(layer, kind)), None)


def schedule_for(
    settings: RunSettings, steps: int
) -> keras.optimizers.schedules.LearningRateSchedule:
    """The learning rate over a run of so many steps per epoch."""
    schedules = keras.optimizers.schedules
    rate, total = settings.learning_rate, steps * settings.epochs
    if settings.schedule == "linear":
        return schedules.PolynomialDecay(rate, total, end_learning_rate=0.0)
    if not settings.warmup_epochs:
        return schedules.CosineDecay(rate, total)
    warmup = settings.warmup_epochs
    return schedules.CosineDecay(
        rate / (warmup + 1),
        total - warmup * steps,
        warmup_target=rate,
        warmup_steps=warmup * steps,
    )


def optimizer_for(
    settings: RunSettings,
    schedule: keras.optimizers.schedules.LearningRateSchedule,
    network: keras.Model,
) -> keras.optimizers.Optimizer:
    """Adam or SGD, with what the recipe wraps around it."""
    if settings.optimizer == "adam":
        optimizer = keras.optimizers.Adam(schedule, beta_2=settings.beta_2)
    else:
        optimizer = keras.optimizers.SGD(schedule, momentum=settings.momentum)
    if multipliers := _multipliers(settings, network):
        optimizer = ParameterGroups(optimizer, multipliers)
    if settings.clip_factor != 0:
        optimizer = _clipped(settings, optimizer, network)
    if not any(map(BayesianLearningRule.is_bayesian_variable, network.weights)):
        return optimizer
    # The same schedule of another height.
    natural = settings.backbone_multiplier * settings.natural_learning_rate
    config = schedule.get_config()
    for name in ("initial_learning_rate", "warmup_target"):
        if config.get(name) is not None:
            config[name] *= natural / settings.learning_rate
    return BayesianLearningRule(
        optimizer, type(schedule).from_config(config), settings.prior_weight
    )


def _multipliers(settings: RunSettings, network: keras.Model) -> dict[str, float]:
    """Learning-rate factors by patterns, of which the first that fits counts."""
    groups = {}
    rest = settings.backbone_multiplier
    if rest != 1 and (head := head_name(network)) is not None:
        groups[_below(head)] = 1.0
    if settings.shift_multiplier != 1:
        groups[_SHIFTS_AND_GAINS] = rest * settings.shift_multiplier
    if rest != 1:
        groups["."] = rest
    names = [variable.name for variable in network.trainable_variables]
    return {
        pattern: factor
        for pattern, factor in groups.items()
        if any(re.search(pattern, name) for name in names)
    }


def _clipped(
    settings: RunSettings,
    optimizer: keras.optimizers.Optimizer,
    network: keras.Model,
) -> keras.optimizers.Optimizer:
    factor = settings.clip_factor
    units: dict[str, tuple[int, ...]] = {_GAINS: ()} if settings.clip_each_gain else {}
    if settings.model != MODEL_FROM_INIT:
        return AdaptiveGradientClipping(optimizer, factor, unit_axes=units)
    # Its layers have any names, which may not tell their roles.
    head = head_name(network)
    return AdaptiveGradientClipping.for_model(
        network,
        optimizer,
        factor,
        exclude=[] if head is None else [_below(head)],
        unit_axes=units,
    )


def _below(layer: str) -> str:
    return f"(^|/){re.escape(layer)}/"


def teacher_settings(settings: RunSettings) -> RunSettings:
    """The run of a float ResNet that teaches the network of these settings.

    It has as many channels in its first stage, as many stages, and blocks of two
    convolutions where the student has blocks of one.
    """
    recipe = {field.name: getattr(_TEACHER, field.name) for field in fields(Recipe)}
    recipe |= {name: getattr(settings, name) for name in _SHARED}
    blocks = settings.blocks and tuple(max(1, count // 2) for count in settings.blocks)
    return replace(
        settings,
        **recipe,
        model=FLOAT_MODEL,
        normalization="batch_norm",
        blocks=blocks,
        recipe="plain",
        init=None,
        init_sha256=None,
    )


def probabilities_of(
    teacher: keras.Model, name: str, image_shape: Sequence[int], classes: int
) -> Probabilities:
    """What a classifier, in inference, takes for the probabilities of the classes.

    It may end in logits or in a softmax, but has to take the student's images, and tell
    its classes apart.
    """
    wanted = ([None, *image_shape], [None, classes])
    shapes = (teacher.input_shape, teacher.output_shape)
    if not all(isinstance(shape, tuple) for shape in shapes) or not all(
        tf.TensorShape(theirs).is_compatible_with(ours)
        for theirs, ours in zip(shapes, wanted, strict=True)
    ):
        raise InvalidValue(
            f"The teacher {name} maps {shapes[0]} to {shapes[1]}, but it has to map "
            f"images of {tuple(image_shape)} to {classes} classes. Choose one that was "
            "trained on this data set."
        )
    in_logits = not ends_in_softmax(teacher, image_shape)

    def probabilities(images: tf.Tensor) -> tf.Tensor:
        outputs = tf.cast(teacher(images, training=False), tf.float32)
        return tf.nn.softmax(outputs) if in_logits else outputs

    return probabilities
