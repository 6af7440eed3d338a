"""Training runs: settings, the run itself, and the folder it leaves."""

from ._compare import compare, grid
from ._diagnosis import NonFiniteLoss
from ._files import save_model, write_json
from ._folder import epochs_kept
from ._kernels import KERNELS
from ._opening import Run, load_record, load_run, open_model
from ._outcomes import Outcome
from ._recipe import OPTIMIZERS, SCHEDULES, Recipe
from ._recipes import RECIPES
from ._report import Comparison, report
from ._run import train
from ._scoring import evaluate, score
from ._settings import PRECISIONS, RunSettings
from ._stopping import Terminated
from ._strategy import STRATEGIES

__all__ = [
    "KERNELS",
    "OPTIMIZERS",
    "PRECISIONS",
    "RECIPES",
    "SCHEDULES",
    "STRATEGIES",
    "Comparison",
    "NonFiniteLoss",
    "Outcome",
    "Recipe",
    "Run",
    "RunSettings",
    "Terminated",
    "compare",
    "epochs_kept",
    "evaluate",
    "grid",
    "load_record",
    "load_run",
    "open_model",
    "report",
    "save_model",
    "score",
    "train",
    "write_json",
]
