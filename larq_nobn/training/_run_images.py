"""The images of a run: checks that they fit its settings, and makes batches."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import tensorflow as tf

from .._checks import check_size
from .._errors import InvalidValue
from .._names import GIVEN
from ..data import WHOLE, Dataset, Share, open_dataset
from ..population import EXAMPLES
from ._callbacks import check_validated
from ._checkpoints import START, Position
from ._distribution import distribute
from ._run_folder import trained_on
from ._run_settings import RunSettings

_log = logging.getLogger("larq_nobn")
# Settings that only training images follow.
_OF_TRAINING = ("augment", "flip", "mixup", "cutmix")


@dataclass(frozen=True)
class RunImages:
    """The images of a run, in the batches that its settings ask for.

    Arguments:
        dataset: The data set.
        settings: The settings of the run: number, order and augmentation of images.
        strategy: The replicas that each batch is divided among.
        cache: Where decoded images are cached.
    """

    dataset: Dataset
    settings: RunSettings
    strategy: tf.distribute.Strategy
    cache: str

    @property
    def watched(self) -> str:
        """The split that the history tests: validation, or test if there is none."""
        return "validation" if self.dataset.info.validation_examples else "test"

    def batches(
        self,
        split: str,
        position: Position = START,
        share: Share = WHOLE,
        **changes: Any,
    ) -> tf.data.Dataset:
        settings, training = self.settings, split == "train"
        names = ("batch_size", "reflect", "seed", "limit", *_OF_TRAINING * training)
        options = {name: getattr(settings, name) for name in names}
        options |= {"epoch": position.epochs, "step": position.steps}
        options |= {"share": share, "cache": self.cache, **changes}
        return self.dataset.batches(split, **options)

    def distributed(
        self, batches: tf.data.Dataset, split: str, position: Position = START
    ) -> Any:
        """Returns batches that are divided among the replicas."""
        own = partial(self.batches, split, position)
        return distribute(batches, own, self.strategy)

    def few(self) -> tf.data.Dataset:
        """Returns one batch of training images, the same for the same settings."""
        count = min(EXAMPLES, self.settings.limit or EXAMPLES)
        return self.batches("train", batch_size=count, mixup=0.0, cutmix=0.0).take(1)

    def check(self) -> None:
        """Rejects splits that do not suit the settings; warns of images seen before."""
        settings, info = self.settings, self.dataset.info
        if settings.keep == "best" or settings.patience is not None:
            check_validated("the epoch to save", info)
        if settings.validation and not info.validation_examples:
            raise InvalidValue(
                f"validation={settings.validation} holds out none of the "
                f"{info.train_examples} training images. Choose a larger fraction, "
                "such as 0.1 or 0.2, or 0 for no validation split."
            )
        for split in {self.watched: 0, "test": 0}:
            count = getattr(info, f"{split}_examples")
            if repeated := self.dataset.repeated(split):
                _log.warning(
                    "%d of %d %s images are bitwise identical to training images: "
                    "their accuracy says nothing about new images.",
                    *(repeated, count, split),
                )
        if settings.init is not None and settings.validation:
            theirs = trained_on(settings.init) or {"dataset": ""}
            same = Path(theirs["dataset"]).name == Path(settings.dataset).name
            if same and theirs.get("validation") != settings.validation:
                _log.warning(
                    "The network of %s was trained on images that are held out here, "
                    "which makes val_* too good. Train it with --validation %g, too.",
                    *(settings.init, settings.validation),
                )


def check_micro_batches(batches: tf.data.Dataset, accumulate: int) -> None:
    """Rejects a batch of all training images that cannot be cut into micro-batches."""
    size = tf.nest.flatten(batches.element_spec)[0].shape[0]
    if size is not None and size % accumulate:
        raise InvalidValue(
            f"accumulate={accumulate} does not divide the {size} training images, "
            "which are fewer than a batch. Choose a divisor of their number, or a "
            "smaller batch_size."
        )


def shape_of(settings: RunSettings) -> dict[str, Any]:
    """Returns the settings that `Dataset.from_data` takes."""
    names = ("image_size", "channels", "validation")
    return {name: getattr(settings, name) for name in names}


def check_given(dataset: Dataset, settings: RunSettings) -> None:
    """Rejects a data set that does not match the settings."""
    info = dataset.info
    if info.name != GIVEN:
        if info != open_dataset(**settings.images).info:
            raise InvalidValue(
                f"dataset is {info.name}, with other images or another size than the "
                f"settings have: {settings.images}. Choose the same in both, or leave "
                "dataset out."
            )
        return
    *sides, channels = info.image_shape
    if (
        check_size(settings.image_size or sides) != tuple(sides)
        or settings.channels not in (None, channels)
        or (settings.validation and not info.validation_examples)
    ):
        said = ", ".join(f"{n}={value}" for n, value in shape_of(settings).items())
        raise InvalidValue(
            f"{said} are not those of the given images. Pass them to Dataset.from_data."
        )
