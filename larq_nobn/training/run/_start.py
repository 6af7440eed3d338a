"""A network that is ready for its first step: built, filled with weights, compiled."""

from __future__ import annotations

import tensorflow as tf

from ... import data
from ..._keras import dtype_policy, keras
from ...calibration import calibrate
from ..settings import NETWORKS, OWN, RunSettings, scale_latents, with_kernels
from ..start import carry, opened, with_head
from ._images import class_weights, few_images
from ._optimizer import optimizer_for
from ._randomness import own_generators
from ._step import Probabilities, Trainee


def started(
    settings: RunSettings,
    schedule: keras.optimizers.schedules.LearningRateSchedule,
    before: keras.Model | None,
    teacher: Probabilities | None,
    strategy: tf.distribute.Strategy,
    cache: str,
    trust: bool = False,
) -> tuple[keras.Model, Trainee]:
    """Returns the network of a run, and what trains it.

    Arguments:
        settings: What to train, and how.
        schedule: The learning rate of every step.
        before: The network of the first stage, whose weights this one begins with.
        teacher: Whose outputs are learned; None for the labels.
        strategy: The devices that hold the variables.
        cache: Where decoded pictures are kept.
        trust: Whether code from the file of `init` may run.
    """
    with dtype_policy(settings.precision), own_generators(), strategy.scope():
        network = _build(settings, trust)
        if before is not None:
            carry(before, network)
        else:
            _fill(network, settings, cache)
        _compile(network, optimizer_for(settings, schedule, network))
        trainee = Trainee(
            network,
            settings.accumulate,
            teacher,
            settings.label_smoothing,
            class_weights(settings),
        )
        _compile(trainee, network.optimizer)
    return network, trainee


def _build(settings: RunSettings, trust: bool) -> keras.Model:
    info = data.describe(**settings.images)
    if settings.model == OWN:
        source = opened(settings, trust)
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
    return with_kernels(
        network,
        settings.kernel,
        settings.weight_decay,
        settings.temperature,
        settings.latent_initializer,
        settings.standardize_activations,
    )


def _fill(network: keras.Model, settings: RunSettings, cache: str) -> None:
    """Sets the weights that the recipe or the data decide."""
    scale_latents(network, settings.latent_scale)
    if settings.calibrate:
        calibrate(network, few_images(settings, cache))


def _compile(model: keras.Model, optimizer: keras.optimizers.Optimizer) -> None:
    model.compile(
        optimizer=optimizer,
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        # As an object, whose variables exist before the step is traced: by its name,
        # they would be made in the first trace, and TensorFlow would trace again.
        metrics=[keras.metrics.SparseCategoricalAccuracy("accuracy", "float32")],
        jit_compile=False,
    )
