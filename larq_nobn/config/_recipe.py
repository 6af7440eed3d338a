"""`Recipe`: the training hyperparameters, without architecture and data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .. import _names
from .._checks import BOUNDS
from .._errors import InvalidValue
from .._names import GIVEN, MODEL_FROM_INIT, OPTIMIZERS
from . import _fields
from ._fields import When, documented, setting, settings_of, unless

# Meaning of None in many settings.
NETWORKS_OWN = "the network's own"
# Conditions of several settings.
_BAYESIAN = When("kernel", ("bernoulli_sign",))
_NEW_WEIGHTS = unless(
    *("model", MODEL_FROM_INIT, GIVEN), why="whose kernels have weights already"
)


@documented
@dataclass(frozen=True)
class Recipe:
    """The training hyperparameters: the settings that a preset can change.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument is outside its range.

    Example:
        >>> Recipe(epochs=5, learning_rate=3e-3).optimizer
        'adam'

    Differences from the papers:
        The learning rate falls at every step instead of every epoch, and ε of Adam is
        Keras' 1e-7 instead of PyTorch's 1e-8. Weight decay applies to kernels alone. A
        second stage starts from the last weights of the first, not from the best.
    """

    epochs: int = setting(
        20,
        "Passes over the training images, in each stage.",
        range=((1, 1_000_000), "Train for one epoch or more."),
    )
    batch_size: int = setting(
        128, "Images in a training step, over all replicas.", range=BOUNDS["batch_size"]
    )
    optimizer: str = setting("adam", "Optimizer of the weights.", choices=OPTIMIZERS)
    learning_rate: float = setting(
        1e-3,
        "Learning rate at the first step, after any warm-up.",
        range=("(0, 1e6]", "0.001 is a good start."),
    )
    beta_2: float = setting(
        0.999,
        "Decay rate of the second moment of the optimizers adam and adamw.",
        range=("[0, 1)", "0.999 is usual, 0.99 forgets sooner."),
        applies_when=When("optimizer", ("adam", "adamw")),
    )
    momentum: float = setting(
        0.9,
        "Momentum of the optimizer sgd.",
        range=("[0, 1)", "0.9 is usual."),
        applies_when=When("optimizer", ("sgd",)),
    )
    schedule: str = setting(
        "linear",
        "Learning-rate schedule. linear, cosine and polynomial (power 2) decay to "
        "final_rate; step divides by 10 after half and three quarters of all steps.",
        choices=_names.SCHEDULES,
    )
    final_rate: float = setting(
        0.0,
        "Learning rate after the last step.",
        range=("[0, 1e6]", "0 is usual."),
        applies_when=When("schedule", ("linear", "cosine", "polynomial")),
    )
    warmup_epochs: int = setting(
        0,
        "Epochs of warm-up, in which the learning rate rises; for the schedule cosine.",
        range=((0, 1_000_000), "0 is none."),
        applies_when=When("schedule", ("cosine",)),
    )
    weight_decay: float = setting(
        0.0,
        "Weight decay: adds this fraction of each kernel to its gradient. With the "
        "optimizer adamw, subtracts this fraction times the learning rate from each "
        "kernel, by default 0.01.",
        range=("[0, 1e6]", "0 is none."),
        applies_when=unless(
            "kernel", "bernoulli_sign", why="which has prior_weight for that"
        ),
    )
    stage_one_decay: float = setting(
        0.0,
        "Weight decay in the first of two stages.",
        range=("[0, 1e6]", "0 is none."),
        applies_when=When("stages", (2,)),
    )
    clip_factor: float = setting(
        0.02,
        "Clip factor of adaptive gradient clipping: the largest norm of a unit's "
        "gradient, relative to its weights; 0 turns clipping off.",
        range=("[0, 1e6]", "0.02 is usual, 0 is off."),
    )
    clip_each_gain: bool = setting(
        False,
        "Clip the gradient of each gain separately, as the published code of BNN - BN "
        "does, instead of all gains of a layer together.",
        applies_when=When("clip_factor"),
    )
    lower_factor: float = setting(
        0.0,
        "Smallest norm of the gradient of a binary filter, relative to its weights: "
        "smaller gradients are scaled up, as in OvSW; at most clip_factor.",
        range=("[0, 1e6]", "0 is none."),
        applies_when=When("clip_factor"),
    )
    silent_decay: float = setting(
        0.0,
        "Weight decay of binary weights whose signs have not changed for long, as in "
        "OvSW.",
        range=("[0, 1e6]", "0 is none, 0.001 is usual."),
        applies_when=When("clip_factor"),
    )
    shift_multiplier: float = setting(
        1.0,
        "Factor on the learning rate of thresholds, biases and gains.",
        range=("(0, 1e6]", "1 treats all weights alike."),
    )
    backbone_multiplier: float = setting(
        1.0,
        "Factor on the learning rate of all weights except the classifier; 0 freezes "
        "them. For networks that start from the weights of init.",
        range=("[0, 1e6]", "0.1 is usual, 0 freezes, 1 has no effect."),
    )
    calibrate: bool = setting(
        False,
        "Initialize thresholds, biases and gains from 512 training images.",
        applies_when=unless(
            "init", why="whose thresholds, biases and gains it would overwrite"
        ),
    )
    latent_scale: float = setting(
        1.0,
        "Multiplier for initial latent weights of binary kernels; larger weights flip "
        "later.",
        range=("(0, 1e6]", "1 keeps those of the network."),
        applies_when=[_NEW_WEIGHTS, When("stages", (1,))],
    )
    latent_initializer: str | None = setting(
        None,
        "Initializer of the latent weights of binary kernels.",
        choices=_names.LATENT_INITIALIZERS,
        absent=NETWORKS_OWN,
        applies_when=_NEW_WEIGHTS,
    )
    standardize_activations: bool = setting(
        False,
        "Divide each example by its standard deviation before signs, in training "
        "only, as the published code of ReCU does. Not for the normalization kalman.",
        applies_when=unless(
            *("normalization", "kalman"),
            why="which propagates moments of activations that are not scaled",
        ),
    )
    stochastic_depth: float = setting(
        0.0,
        "Stochastic depth: fraction of the images of a training step that skip the "
        "last residual branch; falls linearly to the first one. Not for the "
        "normalization kalman.",
        range=("[0, 1)", "0 is none, 0.1 is usual."),
        applies_when=[
            unless(
                *("normalization", "kalman"),
                why="which propagates moments of all branches",
            ),
            unless("model", MODEL_FROM_INIT, GIVEN, why="whose branches are unknown"),
        ],
    )
    reflect: bool = setting(
        False,
        "Pad crops by reflection instead of zeros.",
        applies_when=[
            unless("augment", "none", "random_resized_crop"),
            (
                unless("dataset", "imagenet"),
                When("augment", ("crop", "standard", "strong", "randaugment")),
            ),
        ],
    )
    accumulate: int = _fields.resource_setting(
        1,
        "Gradient accumulation: compute each batch in this many micro-batches, to "
        "save memory.",
        range=((1, 1_000_000), "1 is no accumulation."),
    )
    stages: int = setting(
        1,
        "Training stages. 2: train real-valued kernels first, then binarize and train.",
        range=((1, 2), "Choose 1 or 2."),
        applies_when=unless(
            *("kernel", "biper"),
            why="whose signs differ from those of the real-valued kernels of the "
            "first stage",
        ),
    )
    teacher: str | None = setting(
        None,
        "Distillation: learn the outputs of this run folder or .keras file instead of "
        "labels. train: those of a float ResNet, which is trained first. consecutive: "
        "that teaches the first of two stages, which teaches the second.",
        absent="the labels",
    )
    attention: float = setting(
        0.0,
        "Attention distillation: weight of the distance between the attention maps of "
        "network and teacher, the sums of squares over channels of the last feature "
        "map of each size.",
        range=("[0, 1e6]", "0 is none."),
        applies_when=When("teacher"),
    )
    kernel: str | None = _fields.network_setting(
        None,
        "Kernel quantizer of the binary layers. The normalization nobn allows only "
        "biper.",
        choices=_names.KERNELS,
        registered=True,
        absent=NETWORKS_OWN,
    )
    natural_learning_rate: float = setting(
        100.0,
        "For the kernel bernoulli_sign: the posterior's learning rate at the first "
        "step.",
        range=("(0, 1e6]", "30 suits digits, 100 to 1000 CIFAR-10."),
        applies_when=_BAYESIAN,
    )
    prior_weight: float = setting(
        1e-5,
        "For the kernel bernoulli_sign: weight of the prior, which pulls the "
        "probability of +1 towards one half.",
        range=("[0, 1e6]", "0 is none, 1e-5 is usual."),
        applies_when=_BAYESIAN,
    )
    temperature: float = setting(
        0.3,
        "For the kernel bernoulli_sign: temperature; lower values are closer to "
        "binary in training.",
        range=("[1e-12, 1e6]", "0.3 is usual, 1 is smooth."),
        applies_when=_BAYESIAN,
    )
    label_smoothing: float = setting(
        0.0,
        "Label smoothing: fraction of a label that is spread over all classes.",
        range=("[0, 1)", "0 is none, 0.1 is usual."),
        applies_when=unless("teacher", why="which takes the place of the labels"),
    )
    mixup: float = setting(
        0.0,
        "Mix pairs of images, with weights drawn from Beta(mixup, mixup); 0 turns "
        "mixup off.",
        range=BOUNDS["mixup"],
    )
    cutmix: float = setting(
        0.0,
        "Put a rectangle of one image into another, with an area from Beta(cutmix, "
        "cutmix); 0 turns CutMix off. With mixup, half of the images get each.",
        range=BOUNDS["cutmix"],
    )
    ema: float | None = setting(
        None,
        "Test and save exponential moving averages of the weights, with this decay per "
        "step; binary kernels are the signs of the averaged latent weights.",
        range=("(0, 1)", "0.999 is usual, 0.99 suits short trainings."),
        applies_when=unless(
            *("kernel", "bernoulli_sign"),
            why="which learns by moving averages already",
        ),
    )
    keep: str = setting(
        "last",
        "Save the weights of the last epoch, or of the best one on the validation "
        "split.",
        choices=_names.KEPT,
    )
    monitor: str = setting(
        "val_accuracy",
        "Metric that decides which epoch is best, for keep and patience.",
        choices=_names.MONITORS,
        applies_when=[(When("keep", ("best",)), When("patience"))],
    )
    patience: int | None = setting(
        None,
        "Early stopping: stop after this many epochs without a better one on the "
        "validation split. The learning-rate schedule still covers all epochs.",
        range=((1, 1_000_000), "10 is usual."),
        absent="train all epochs",
    )
    network: Mapping[str, Any] = _fields.network_setting(
        {},
        "Argument of the network's builder, such as alpha=0.5; may be repeated.",
        kind="arguments",
    )

    def __post_init__(self) -> None:
        for name, each in settings_of(type(self)).items():
            object.__setattr__(self, name, each.check(getattr(self, name)))
        self._check_combinations()

    def _check_combinations(self, usual: Mapping[str, Any] | None = None) -> None:
        """Rejects contradictions, and values without effect that are not `usual`."""
        values = vars(self)
        for name, each in settings_of(type(self)).items():
            unmet, value = each.unmet(values), values[name]
            idle = usual is not None and value == usual.get(name)
            if unmet and value != each.default and (unmet[0].why or not idle):
                each.check_used(values)
        if self.warmup_epochs >= self.epochs:
            raise InvalidValue(
                f"warmup_epochs={self.warmup_epochs} leaves nothing of "
                f"epochs={self.epochs}. Warm up for less, or train for longer."
            )
        if self.final_rate > self.learning_rate:
            raise InvalidValue(
                f"final_rate={self.final_rate} is above learning_rate="
                f"{self.learning_rate}. Choose a lower one, or the schedule constant."
            )
        if self.teacher == _names.CONSECUTIVE and self.stages != 2:
            raise InvalidValue(
                f"teacher={_names.CONSECUTIVE!r} is for two stages (stages=2): the "
                "first teaches the second."
            )
        if self.lower_factor > self.clip_factor:
            raise InvalidValue(
                f"lower_factor={self.lower_factor} is above clip_factor="
                f"{self.clip_factor}. Choose a lower one."
            )
        if self.batch_size % self.accumulate:
            raise InvalidValue(
                f"accumulate={self.accumulate} does not divide "
                f"batch_size={self.batch_size}. Choose a divisor of it."
            )
