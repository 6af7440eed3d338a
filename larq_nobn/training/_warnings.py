"""What a run warns of before it starts."""

from __future__ import annotations

import logging
from pathlib import Path

import tensorflow as tf

from .. import models
from .settings import EXTENSIONS, PROCESSOR, RunSettings, processor_flags

_log = logging.getLogger("larq_nobn")
# Batches smaller than this have statistics that are mostly noise.
_SMALLEST_BATCH = 4


def warn_of_small_batches(settings: RunSettings, replicas: int) -> None:
    """Says what statistics of batches suffer from, where there are such."""
    if settings.normalization not in models.BATCH_STATISTICS:
        return
    part = settings.batch_size // (replicas * settings.accumulate)
    free = [n for n in models.NORMALIZATIONS if n not in models.BATCH_STATISTICS]
    if part < _SMALLEST_BATCH:
        _log.warning(
            "normalization=%r takes its statistics from batches, and those of %d "
            "images are mostly noise. Use %d images a batch or more, or one of %s, "
            "which do not look at the batch.",
            settings.normalization,
            part,
            _SMALLEST_BATCH,
            ", ".join(free),
        )
    elif part < settings.batch_size:
        _log.warning(
            "normalization=%r takes its statistics from the %d images that are "
            "computed together, and not from all of batch_size=%d, so that results "
            "differ from those of whole batches, unlike with %s.",
            settings.normalization,
            part,
            settings.batch_size,
            ", ".join(free),
        )


def warn_of_imitation(precision: str, processor: Path = PROCESSOR) -> None:
    """Says where 16 bits take more time than 32, as far as Linux tells."""
    if precision not in EXTENSIONS or tf.config.list_physical_devices("GPU"):
        return
    found = processor_flags(processor)
    if found is not None and EXTENSIONS[precision].isdisjoint(found):
        _log.warning(
            "precision=%r is imitated by this processor, which has no instructions "
            "for it, and takes longer than 32 bits. Use 'float32', or a GPU.",
            precision,
        )
