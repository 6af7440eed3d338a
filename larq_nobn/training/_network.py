"""Builds the network of a run, loads the weights of `init`, and makes the optimizer,
the learning-rate schedule and the outputs of a teacher.
"""

from __future__ import annotations

import logging
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import tensorflow as tf

from .._errors import InvalidValue
from .._files import sha256_of
from .._keras import keras
from .._larq import lq, without_starvation_warning
from .._names import GIVEN
from .._names import KERNELS as NAMES
from ..config._recipe import Recipe
from ..data import DatasetInfo
from ..graph import _errors, _graph, _models, _operation, _signs
from ..layers import ActivationStandardization, SymmetricHead
from ..loading import open_model
from ..models._own import fresh
from ..models._weight_names import weights_by_name
from ..optimizers import AdaptiveGradientClipping, BayesianLearningRule, ParameterGroups
from ..optimizers._unit_axes import classifier_patterns, last_with_kernel
from ..optimizers._variable_names import first_match, key_of, paths_of, tell
from ..quantizers import (
    BernoulliSign,
    BinaryRegularized,
    BiPer,
    ScaledStdSign,
    SignSwish,
)
from ..quantizers._kernel_quantizer import ScaledKernel
from ._run_settings import NETWORKS, TAKEN, RunSettings, weights_file
from ._training_model import Probabilities, with_feature_maps

_layers = keras.layers
# A logger of its own, so that a program can show these lines alone.
_log = logging.getLogger("larq_nobn.start")
# Longest list of weight names in a log line, in characters.
_ROOM = 200
_SOFTMAX = (keras.activations.softmax, tf.nn.softmax)
# Each layer gets a new quantizer, because some have weights.
_REGISTERED = {
    **keras.utils.get_custom_objects(),
    "bnn_plus": lambda: BinaryRegularized(SignSwish(), order=1, strength=1e-7),
}
KERNELS: dict[str, Callable[[], Any]] = {name: _REGISTERED[name] for name in NAMES}
# Thresholds, the biases of convolutions in their place, and gains.
_SHIFTS_AND_GAINS = r"(^|/)(shift|gain)(:|$)|_conv/bias(:|$)"
_GAINS = r"(^|/)gain(:|$)"


def check_init(
    settings: RunSettings, resume: bool, trust: bool, given: keras.Model | None = None
) -> None:
    """Raises if `init` or `given` is missing but needed by a new run."""
    new = settings.init is None and given is None
    if new and settings.model == GIVEN:
        raise InvalidValue(
            f"model={GIVEN!r} is a network that only the caller has. Pass it again: "
            "train(settings, output, model=...)."
        )
    if new and settings.backbone_multiplier != 1:
        raise InvalidValue(
            f"backbone_multiplier={settings.backbone_multiplier} is for the weights of "
            "another network, but init is not given. Add --init RUN_OR_FILE "
            "(init=...), or train with backbone_multiplier=1."
        )
    if settings.init is not None and settings.init_sha256 is None and not resume:
        open_model(settings.init, trust=trust)  # raises if the file does not exist


def open_init(settings: RunSettings, trust: bool = False) -> keras.Model:
    """Opens the network of `init`; raises if its file has changed since the start."""
    init = str(settings.init)
    model = open_model(init, trust=trust)
    digest = sha256_of(weights_file(init))
    if settings.init_sha256 is not None and digest != settings.init_sha256:
        raise InvalidValue(
            f"init={init!r} is not the file that the run started from: its SHA-256 is "
            f"{digest}, and init_sha256={settings.init_sha256!r}. Restore the file, or "
            "start another run."
        )
    return model


def take_init(
    settings: RunSettings,
    network: keras.Model,
    trust: bool,
    given: keras.Model | None = None,
) -> Any:
    """Loads the weights of `init` or `given`; logs and returns their names."""
    name = str(settings.init) if given is None else "model"
    source = open_init(settings, trust) if given is None else given
    record = transfer(source, network, name)
    taken, fresh = record["taken"], record["fresh"]
    said = f"{len(taken)} of {len(taken) + len(fresh)} weights are from {name}."
    unused = [name for name in record["left"] if name not in fresh]
    for what, names in (("New", fresh), ("Not used", unused)):
        if names:
            said += f" {what}: {textwrap.shorten(', '.join(names), _ROOM)}."
    _log.info("%s", said)
    return record


def transfer(source: keras.Model, target: keras.Model, name: str) -> dict[str, Any]:
    """Copies the weights that fit by name and shape from `source` to `target`.

    Layers are matched by name, also in nested models, and weights by the last part of
    their names. If a weight of a layer has another shape, as in a classifier of other
    classes, the whole layer keeps its new weights. Latent weights are copied, not their
    signs. Returns the names of weights that were `taken`, that stay `fresh`, and that
    are `left`: the target has no such weight, or one of another shape.
    """
    weights, places = weights_by_name(source), weights_by_name(target)
    layers = {key: key.rpartition("/")[0] for key in places if key in weights}
    other = {layers[key] for key in layers if weights[key].shape != places[key].shape}
    fitting = [key for key in layers if layers[key] not in other]
    if not fitting:
        raise InvalidValue(
            f"No weight of init={name!r} fits the network {target.name} by name and "
            "shape. Give the model, width and blocks that it was trained with, or "
            "leave the model out to train the network of init itself."
        )
    for key in fitting:
        places[key].assign(weights[key].numpy())
    _operation.finalize(target)
    return {
        "source": name,
        "taken": fitting,
        "fresh": [key for key in places if key not in fitting],
        "left": [key for key in weights if key not in fitting],
    }


def build_network(
    settings: RunSettings,
    info: DatasetInfo,
    trust: bool = False,
    given: keras.Model | None = None,
) -> keras.Model:
    if settings.model in TAKEN:
        source, of = given, "that is given"
        if source is None:
            source, of = open_init(settings, trust), f"of init={settings.init!r}"
        network = with_head(source, info.image_shape, info.classes, of)
    else:
        chosen = {"width": settings.width, "blocks": settings.blocks}
        chosen = {name: value for name, value in chosen.items() if value is not None}
        how = {"normalization": settings.normalization, **chosen, **settings.network}
        network = NETWORKS[settings.model](info.image_shape, info.classes, **how)
    network = with_kernels(network, settings)
    rate = settings.stochastic_depth
    return with_stochastic_depth(network, rate) if rate else network


def with_kernels(network: keras.Model, recipe: Recipe) -> keras.Model:
    """Returns a new network with the kernels and standardization of a recipe."""
    kernel, weight_decay = recipe.kernel, recipe.weight_decay
    if recipe.optimizer == "adamw":
        weight_decay = 0.0  # the optimizer applies it
    initializer, standardize = recipe.latent_initializer, recipe.standardize_activations
    if not any((kernel, weight_decay, initializer, standardize)):
        return network

    def same_but(layer: keras.layers.Layer) -> keras.layers.Layer:
        changes: dict[str, Any] = {}
        if weight_decay and hasattr(layer, "kernel_regularizer"):
            # Half: the gradient of w²/2 is w.
            changes["kernel_regularizer"] = keras.regularizers.L2(weight_decay / 2)
        binary = _signs.is_binary(getattr(layer, "kernel_quantizer", None))
        if initializer is not None and binary:
            changes["kernel_initializer"] = initializer
        if kernel is not None and binary:
            own = layer.kernel_quantizer
            make = KERNELS.get(kernel) or partial(fresh, "kernel", kernel, own.name)
            made = make()
            if kernel == "biper" and isinstance(own, ScaledStdSign):
                made = BiPer(scale=own.scale, variance_preserving=True, name=own.name)
            elif kernel == "bernoulli_sign":
                made = BernoulliSign(recipe.temperature)
            elif isinstance(own, ScaledKernel) and kernel not in KERNELS:
                made = _operation.rebuild(made, scale=own.scale)
            if (limit := getattr(made, "latent_limit", 1.0)) != 1.0:
                clip = None if limit is None else lq.constraints.WeightClip(limit)
                changes["kernel_constraint"] = clip
            changes["kernel_quantizer"] = made
        return _operation.rebuild(layer, **changes)

    done = {
        node.layer.name
        for layer in network.layers
        if isinstance(layer, ActivationStandardization)
        for node in layer.outbound_nodes
    }

    def standardized(call: _graph.Call) -> Any:
        """Puts `ActivationStandardization` before a layer that starts with a sign."""
        layer = same_but(call.layer)
        signs = layer, getattr(layer, "input_quantizer", None)
        if not any(map(_signs.is_binary, signs)) or layer.name in done:
            return layer
        before = ActivationStandardization(name=f"{layer.name}_standardization")
        return lambda x: layer(before(x))

    with without_starvation_warning():
        if standardize:
            return _models.replace_layers(network, standardized)
        return keras.models.clone_model(network, clone_function=same_but)


def with_stochastic_depth(network: keras.Model, rate: float) -> keras.Model:
    r"""Returns a new network whose training steps drop residual branches.

    Of the branches \(f_1, ..., f_L\), the first inputs of additions, an image skips
    each at random in training; files and inference do not change:

    \[ y = x + \frac{m_l}{1 - p_l} f_l(x), \qquad P(m_l = 0) = p_l = p\, l / L . \]

    Raises:
        ValueError: If the network has no additions.

    References:
        G. Huang, Y. Sun, Z. Liu, D. Sedra, K. Weinberger, "Deep Networks with
        Stochastic Depth", ECCV 2016, arXiv:1603.09382.

    Differences from the paper:
        Each image has its own m instead of each batch. Branches are scaled up in
        training instead of down at inference, so that files need no factor.
    """
    adds = [x.name for x in network.layers if isinstance(x, _layers.Add)]
    if not adds:
        raise InvalidValue(
            f"stochastic_depth={rate} needs residual branches, which the network "
            f"{network.name} does not have. Choose another model, or leave it out."
        )

    def dropping(call: _graph.Call) -> Any:
        layer = _operation.rebuild(call.layer)
        if layer.name not in adds:
            return layer
        share = rate * (adds.index(layer.name) + 1) / len(adds)
        drop = _layers.Dropout(share, (None, 1, 1, 1), name=f"{layer.name}_drop")
        return lambda given: layer([drop(given[0]), *given[1:]])

    with without_starvation_warning():
        return _models.replace_layers(network, dropping)


def scale_latent_weights(network: keras.Model, factor: float) -> None:
    for layer in network.layers:
        if _signs.is_binary(getattr(layer, "kernel_quantizer", None)):
            latent = layer.kernel.latent_variable
            latent.assign(factor * latent)


def compile_network(model: keras.Model, optimizer: keras.optimizers.Optimizer) -> None:
    """Compiles a network, or its `TrainingModel`, for integer labels."""
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    # An object has its variables before the step is traced. By its name, the first
    # trace would make them, and TensorFlow would trace again.
    accuracy = keras.metrics.SparseCategoricalAccuracy("accuracy", "float32")
    model.compile(optimizer, loss, metrics=[accuracy], jit_compile=False)


def with_head(
    model: keras.Model, image_shape: Sequence[int], classes: int, of: str
) -> keras.Model:
    """Returns a network with new weights for other images and classes.

    A final softmax is removed, because training needs logits. A network that ends in a
    feature map gets average pooling and a dense classifier. `of` is for messages.
    """
    called = f"The network {of}"
    _models.check_readable(model)
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise InvalidValue(
            f"{called} has {len(model.inputs)} inputs and {len(model.outputs)} "
            "outputs, but an image classifier has one of each. Choose another network."
        )
    plain = keras.Model(model.inputs, model.outputs, name=model.name)
    (end,) = plain.outputs
    last = end._keras_history.layer
    head = last_with_kernel(end) if end.shape.rank == 2 else None

    def rebuilt(layer: keras.layers.Layer) -> keras.layers.Layer:
        """Returns a copy; a last layer has no softmax, a classifier the new classes."""
        changes: dict[str, Any] = {}
        if layer is last and isinstance(layer, _layers.Softmax):
            return _layers.Activation("linear", name=layer.name, dtype="float32")
        if layer is last and getattr(layer, "activation", None) in _SOFTMAX:
            changes["activation"] = "linear"
        if layer is head and (size := _size(layer)):
            changes[size] = classes
        return _operation.rebuild(layer, float32=True, **changes)

    start = keras.Input(tuple(image_shape), name=plain.input_names[0])
    what, shape = f"cannot be built for images of {start.shape[1:]}", model.input_shape
    advice = f"It takes images of {shape[1:]}: choose their size (--image-size)."
    with _errors.raised_by(plain, what, advice, InvalidValue):
        made = keras.models.clone_model(plain, start, clone_function=rebuilt)
    if made.outputs[0].shape.rank == 4:
        x = _layers.GlobalAveragePooling2D(name="pool")(made.outputs[0])
        logits = _layers.Dense(classes, name="head", dtype="float32")(x)
        made = keras.Model(made.inputs, logits, name=made.name)
    ends = f"outputs of shape {made.output_shape[1:]} instead of {classes} classes"
    if tuple(made.output_shape) == (None, classes):
        if not ends_in_softmax(made, image_shape):
            return made
        ends = "probabilities instead of logits"
    raise InvalidValue(
        f"{called} gives {ends}, and its last layer cannot be replaced. Choose a model "
        "(--model) that takes its weights."
    )


def ends_in_softmax(model: keras.Model, image_shape: Sequence[int]) -> bool:
    """Returns whether the outputs for noise are probabilities, and so no logits."""
    noise = np.random.default_rng(0).normal(size=(4, *image_shape))
    before = model.get_weights()
    outputs = np.asarray(model(noise.astype(np.float32), training=False), np.float64)
    model.set_weights(before)  # some layers count their calls
    return bool((outputs >= 0).all() and np.allclose(outputs.sum(1), 1, atol=1e-2))


def _size(layer: keras.layers.Layer) -> str | None:
    """Returns a classifier's argument for the number of classes; None if it is none."""
    if isinstance(layer, (SymmetricHead, _layers.Dense)):
        return "classes" if isinstance(layer, SymmetricHead) else "units"
    pointwise = isinstance(layer, _layers.Conv2D) and {*layer.kernel_size} == {1}
    quantized = getattr(layer, "kernel_quantizer", None) is not None
    return "filters" if pointwise and not quantized else None


def schedule_for(
    settings: RunSettings, steps: int
) -> keras.optimizers.schedules.LearningRateSchedule:
    """Returns the learning-rate schedule of a run with so many steps per epoch."""
    schedules, final = keras.optimizers.schedules, settings.final_rate
    rate, total = settings.learning_rate, steps * settings.epochs
    if settings.schedule in ("linear", "polynomial"):
        # The power 2 as in You et al. 2017, "Large Batch Training of Convolutional
        # Networks", arXiv:1708.03888.
        power = 1.0 if settings.schedule == "linear" else 2.0
        return schedules.PolynomialDecay(rate, total, final, power)
    if settings.schedule != "cosine":
        # As in He et al. 2016, "Deep Residual Learning for Image Recognition",
        # arXiv:1512.03385, for CIFAR-10. Each rate includes the step of its boundary.
        falls = [total // 2 - 1, 3 * total // 4 - 1]
        down = [rate / 10, rate / 100] if settings.schedule == "step" else [rate] * 2
        return schedules.PiecewiseConstantDecay(falls, [rate, *down])
    warmup = settings.warmup_epochs
    return schedules.CosineDecay(
        *(rate / (warmup + 1), total - warmup * steps, final / rate),
        warmup_target=rate if warmup else None,
        warmup_steps=warmup * steps,
    )


def optimizer_for(
    settings: RunSettings, steps: int, network: keras.Model
) -> keras.optimizers.Optimizer:
    """Returns Adam, AdamW or SGD, inside the optimizer wrappers of the recipe."""
    schedule = schedule_for(settings, steps)
    if settings.optimizer == "adam":
        optimizer = keras.optimizers.Adam(schedule, beta_2=settings.beta_2)
    elif settings.optimizer == "adamw":
        decay, beta_2 = settings.weight_decay, settings.beta_2
        optimizer = keras.optimizers.AdamW(schedule, decay, beta_2=beta_2)
        # Decay kernels alone, as the penalty of the other optimizers does.
        optimizer.exclude_from_weight_decay(var_names=["^(?!.*kernel:)"])
    else:
        optimizer = keras.optimizers.SGD(schedule, momentum=settings.momentum)
    if multipliers := _multipliers(settings, network):
        optimizer = ParameterGroups(optimizer, multipliers)
    if factor := settings.clip_factor:
        units: dict[str, Any] = {_GAINS: ()} if settings.clip_each_gain else {}
        clipping: Any = AdaptiveGradientClipping
        if settings.model in TAKEN:
            # Names of its layers need not tell their roles, so inspect the network.
            clipping = partial(AdaptiveGradientClipping.for_model, network)
        bounds = {n: getattr(settings, n) for n in ("lower_factor", "silent_decay")}
        optimizer = clipping(optimizer, factor, unit_axes=units, **bounds)
    tell(optimizer, network)
    if not any(map(BayesianLearningRule.is_bayesian_variable, network.weights)):
        return optimizer
    natural = settings.backbone_multiplier * settings.natural_learning_rate
    final = settings.final_rate * natural / settings.learning_rate
    scaled = replace(settings, learning_rate=natural, final_rate=final)
    schedule = schedule_for(scaled, steps)
    return BayesianLearningRule(optimizer, schedule, settings.prior_weight)


def _multipliers(settings: RunSettings, network: keras.Model) -> dict[str, float]:
    """Returns learning-rate factors by pattern; the first pattern that fits counts."""
    rest = settings.backbone_multiplier
    groups = dict.fromkeys(classifier_patterns(network), 1.0) if rest != 1 else {}
    if settings.shift_multiplier != 1:
        groups[_SHIFTS_AND_GAINS] = rest * settings.shift_multiplier
    if rest != 1:
        groups["."] = rest
    paths = paths_of(network)
    names = [(paths[key_of(v)], v.name) for v in network.trainable_variables]
    return {
        pattern: factor
        for pattern, factor in groups.items()
        if any(first_match([pattern], own) for own in names)
    }


def probabilities_of(
    teacher: keras.Model,
    name: str,
    image_shape: Sequence[int],
    classes: int,
    maps: bool = False,
) -> Probabilities:
    """Returns a function from images to the probabilities of a teacher.

    With `maps` it returns these and the maps of `with_feature_maps`. The teacher may
    end in logits or in a softmax.
    """
    wanted = ([None, *image_shape], [None, classes])
    shapes = (teacher.input_shape, teacher.output_shape)
    if not all(
        isinstance(theirs, tuple) and tf.TensorShape(theirs).is_compatible_with(ours)
        for theirs, ours in zip(shapes, wanted, strict=True)
    ):
        raise InvalidValue(
            f"The teacher {name} maps {shapes[0]} to {shapes[1]}, but it has to map "
            f"images of {tuple(image_shape)} to {classes} classes. Choose a teacher "
            "that was trained on this data set."
        )
    in_logits = not ends_in_softmax(teacher, image_shape)
    if maps:
        teacher = with_feature_maps(teacher)

    def probabilities(images: tf.Tensor) -> Any:
        outputs = teacher(images, training=False)
        outputs, *more = outputs if maps else [outputs]
        outputs = tf.cast(outputs, tf.float32)
        outputs = tf.nn.softmax(outputs) if in_logits else outputs
        return (outputs, *more) if maps else outputs

    return probabilities
