"""The folder of a training run: written, claimed, and opened again."""

from ._archives import START, Position
from ._checkpoints import Checkpoints, Stateful
from ._claim import (
    CHECKPOINTS,
    claimed,
    epochs_kept,
    is_finished,
    kept_settings,
    position_kept,
    refuse_what_is_there,
    run_that_owns,
)
from ._files import save_model, write_json
from ._journal import Journal
from ._lock import RunInUse, refuse_if_in_use
from ._opening import (
    Run,
    dataset_of,
    is_saved_model,
    load_record,
    load_run,
    open_model,
    test_metrics,
)
from ._record import finished, plain

__all__ = [
    "CHECKPOINTS",
    "START",
    "Checkpoints",
    "Journal",
    "Position",
    "Run",
    "RunInUse",
    "Stateful",
    "claimed",
    "dataset_of",
    "epochs_kept",
    "finished",
    "is_finished",
    "is_saved_model",
    "kept_settings",
    "load_record",
    "load_run",
    "open_model",
    "plain",
    "position_kept",
    "refuse_if_in_use",
    "refuse_what_is_there",
    "run_that_owns",
    "save_model",
    "test_metrics",
    "write_json",
]
