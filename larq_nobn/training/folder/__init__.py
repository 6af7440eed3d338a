"""The folder of a training run: written, claimed, and opened again."""

from ._checkpoints import Checkpoints
from ._claim import CHECKPOINTS, claimed, epochs_kept, is_finished, refuse_what_is_there
from ._curves import draw_curves, new_figure
from ._files import save_model, write_json
from ._journal import Journal, run_record
from ._opening import Run, load_record, load_run, open_model

__all__ = [
    "CHECKPOINTS",
    "Checkpoints",
    "Journal",
    "Run",
    "claimed",
    "draw_curves",
    "epochs_kept",
    "is_finished",
    "load_record",
    "load_run",
    "new_figure",
    "open_model",
    "refuse_what_is_there",
    "run_record",
    "save_model",
    "write_json",
]
