"""How a network is trained, apart from what it is and what it learns from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from ..._checks import BOUNDS, check_bounds, check_choice, check_flag
from ._kernels import KERNELS, LATENT_INITIALIZERS

OPTIMIZERS = ("adam", "sgd")
SCHEDULES = ("linear", "cosine")


@dataclass(frozen=True)
class Recipe:
    """How a network is trained: the part of the settings that presets fill in.

    Arguments:
        epochs: Passes over the training images; with two stages, of each.
        batch_size: Images per step, over all replicas.
        optimizer: `"adam"` or `"sgd"`.
        learning_rate: At the first step, behind the warm-up.
        beta_2: Adam's decay of the second moment, in [0, 1).
        momentum: Of SGD, in [0, 1).
        schedule: `"linear"` to zero over all steps, or half a `"cosine"`.
        warmup_epochs: Epochs in which the learning rate rises from a small value; for
            `"cosine"` only.
        weight_decay: Factor on the kernels that is added to their gradient.
        stage_one_decay: The same in the first of two stages.
        clip_factor: Largest gradient norm of a unit relative to its weights; 0 for no
            clipping.
        clip_each_gain: Whether each gain of a kernel is a unit in clipping, as in the
            published code of "BNN - BN = ?"; else those of a layer are one.
        shift_multiplier: Learning-rate factor of the shifts of signs and of the gains
            of kernels.
        backbone_multiplier: Learning-rate factor of all weights but the classifier's,
            on top of other factors; 0 freezes them. For networks that start from the
            weights of another one.
        calibrate: Whether `larq_nobn.calibrate` sets shifts and gains before the first
            step; for `normalization="nobn"`, and in ReActNets for all that look at no
            batch.
        latent_scale: Factor on the latent binary kernels of the fresh network: the
            larger they are, the later their signs flip.
        latent_initializer: Where the latent binary kernels of the fresh network start,
            one of `LATENT_INITIALIZERS`; None for the network's own start.
        standardize_activations: Whether `ActivationStandardization` stands before the
            signs, which changes their pseudo-gradient, as in ReCU's published code;
            not for `normalization="kalman"`.
        reflect: Whether augmentation pads with mirror images instead of black.
        accumulate: Parts of a batch whose gradients are added up one after the other,
            which saves memory; 1 for the batch as a whole.
        stages: 2 trains with real-valued kernels first, and goes on with binary ones.
        teacher: Whose outputs are learned instead of the labels: a run folder, a
            `.keras` file, or `"train"` for a float ResNet that is trained first. None:
            the labels.
        kernel: What makes the binary kernels, one of `KERNELS`; None for the network's
            own. With `"bernoulli_sign"` they follow `BayesianLearningRule`.
        natural_learning_rate: Of that rule at the first step; it falls as the other
            one does.
        prior_weight: Of that rule.
        temperature: Of `BernoulliSign`.
        label_smoothing: Share of a label that goes to all classes alike, in [0, 1).
        mixup: Parameter α of Beta(α, α), which draws how two images are mixed; 0 for no
            mixing.
        network: Further arguments of the network's builder, such as `alpha`.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument lies outside what is allowed.

    Example:
        >>> Recipe(epochs=5, learning_rate=3e-3).optimizer
        'adam'
    """

    epochs: int = 20
    batch_size: int = 128
    optimizer: str = "adam"
    learning_rate: float = 1e-3
    beta_2: float = 0.999
    momentum: float = 0.9
    schedule: str = "linear"
    warmup_epochs: int = 0
    weight_decay: float = 0.0
    stage_one_decay: float = 0.0
    clip_factor: float = 0.02
    clip_each_gain: bool = False
    shift_multiplier: float = 1.0
    backbone_multiplier: float = 1.0
    calibrate: bool = False
    latent_scale: float = 1.0
    latent_initializer: str | None = None
    standardize_activations: bool = False
    reflect: bool = False
    accumulate: int = 1
    stages: int = 1
    teacher: str | None = None
    kernel: str | None = None
    natural_learning_rate: float = 100.0
    prior_weight: float = 1e-5
    temperature: float = 0.3
    label_smoothing: float = 0.0
    mixup: float = 0.0
    network: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_choice("optimizer", self.optimizer, OPTIMIZERS)
        check_choice("schedule", self.schedule, SCHEDULES)
        for each in fields(Recipe):
            if each.name in BOUNDS:
                check_bounds(each.name, getattr(self, each.name))
        for name in ("calibrate", "reflect", "clip_each_gain"):
            check_flag(name, getattr(self, name))
        check_flag("standardize_activations", self.standardize_activations)
        if self.latent_initializer is not None:
            given = self.latent_initializer
            check_choice("latent_initializer", given, LATENT_INITIALIZERS)
        if self.kernel is not None:
            check_choice("kernel", self.kernel, KERNELS)
        if not isinstance(self.network, Mapping):
            raise TypeError(
                f"network={self.network!r} is no mapping. Give arguments of the "
                "network's builder, such as {'alpha': 0.5}."
            )
        self._refuse_what_does_not_fit()

    def _refuse_what_does_not_fit(self) -> None:
        if self.warmup_epochs and self.schedule != "cosine":
            raise ValueError(
                f"warmup_epochs={self.warmup_epochs} needs the schedule 'cosine', but "
                f"schedule={self.schedule!r}. Choose that, or no warm-up."
            )
        if self.warmup_epochs >= self.epochs:
            raise ValueError(
                f"warmup_epochs={self.warmup_epochs} leaves nothing of "
                f"epochs={self.epochs}. Warm up for less, or train for longer."
            )
        if self.weight_decay and self.kernel == "bernoulli_sign":
            raise ValueError(
                f"weight_decay={self.weight_decay} would be divided by the spread of "
                "the weights of kernel='bernoulli_sign'. Use prior_weight in its place."
            )
        if self.label_smoothing and self.teacher is not None:
            raise ValueError(
                f"label_smoothing={self.label_smoothing} changes labels, but "
                f"teacher={self.teacher!r} takes their place. Leave one of them out."
            )
        if self.batch_size % self.accumulate:
            raise ValueError(
                f"accumulate={self.accumulate} does not divide "
                f"batch_size={self.batch_size}. Choose a divisor of it."
            )
