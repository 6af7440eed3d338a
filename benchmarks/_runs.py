"""Training runs that are not repeated where their log is kept."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from unittest import mock

import larq_nobn as nobn
import tensorflow as tf
from _results import keep_run
from larq_nobn.models import _parts

# To be set behind batch norm, which has the first as built, the second by its recipe.
AS_BUILT, OF_BATCH_NORM = "magnitude_aware_sign", "scaled_std_sign"
KERNELS = [
    name for name in nobn.training.KERNELS if name not in (AS_BUILT, OF_BATCH_NORM)
]


def history(settings, run, kept, train=True, data=lambda: None, progress=None):
    """The epochs of a run; None if its log is not there.

    A log in `kept` may be that of another machine, which has the folder of the run.
    Without one, and with `train`, it is trained, or goes on, unless another process has
    it.

    Arguments:
        data: Called for the images only where something is trained.
    """
    if train and not is_kept(run, kept):
        tf.keras.backend.clear_session()
        with suppress(nobn.training.RunInUse):
            nobn.training.train(settings, run, progress, resume=True, data=data())
    return nobn.training.load_record(kept)[1] if is_kept(run, kept) else None


def is_kept(run, kept):
    """Keeps the log of a run that is finished here, and tells whether one is kept."""
    if (run / "run.json").exists():
        keep_run(run, kept)
    return (kept / "run.json").exists()


def reached(history):
    """The last accuracy in %."""
    return round(100 * history[-1]["val_accuracy"], 2)


def accuracy(settings, run, output, images):
    """In %, and says so; None if it is not there.

    Without images nothing is trained, and with them not what another process trains.
    """
    found = history(
        settings, run, output / run.name, images is not None, lambda: images
    )
    if found is None:
        return None
    print(run.name, reached(found), flush=True)
    return reached(found)


@contextmanager
def norms_in(branches):
    """Networks with norms in branches only, or behind stems and projections too.

    The networks themselves have what suits their normalization.
    """
    chosen = frozenset(nobn.models.NORMALIZATIONS if branches else ())
    with mock.patch.object(_parts, "IN_BRANCHES", chosen):
        yield
