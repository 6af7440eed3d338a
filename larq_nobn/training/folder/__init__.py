"""The folder of a training run: written, claimed, and opened again."""

from ._checkpoints import Checkpoints
from ._claim import CHECKPOINTS, claimed, epochs_kept, is_finished, refuse_what_is_there
from ._files import save_model, write_json
from ._journal import Journal
from ._opening import Run, dataset_of, load_record, load_run, open_model
from ._record import finished, plain

__all__ = [
    "CHECKPOINTS",
    "Checkpoints",
    "Journal",
    "Run",
    "claimed",
    "dataset_of",
    "epochs_kept",
    "finished",
    "is_finished",
    "load_record",
    "load_run",
    "open_model",
    "plain",
    "refuse_what_is_there",
    "save_model",
    "write_json",
]
