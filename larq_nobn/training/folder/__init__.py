"""The folder of a training run: locked, written, and opened again."""

from ...config._run_files import CHECKPOINTS, write_json
from ._archives import START, Position
from ._lock import RunInUse, check_not_in_use, locked
from ._opening import (
    Run,
    check_compared,
    dataset_of,
    load_record,
    load_run,
    test_metrics,
)
from ._run_folder import (
    check_output,
    check_run_folder,
    epochs_kept,
    is_finished,
    kept_settings,
    lock_run_folder,
    plain,
    position_kept,
    save_model,
    write_record,
)

__all__ = [
    "CHECKPOINTS",
    "START",
    "Position",
    "Run",
    "RunInUse",
    "check_compared",
    "dataset_of",
    "epochs_kept",
    "is_finished",
    "kept_settings",
    "load_record",
    "load_run",
    "lock_run_folder",
    "locked",
    "plain",
    "position_kept",
    "check_not_in_use",
    "check_output",
    "check_run_folder",
    "save_model",
    "test_metrics",
    "write_json",
    "write_record",
]
