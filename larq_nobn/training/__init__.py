"""Training runs: settings, the run itself, and the folder it leaves."""

from .._names import (
    LATENT_INITIALIZERS,
    OPTIMIZERS,
    OWN,
    PRECISIONS,
    SCHEDULES,
    STRATEGIES,
)
from .._signals import Terminated
from ..config import RECIPES, Recipe
from ..loading import open_model
from ._evaluation import evaluate
from ._network import KERNELS
from ._settings import RunSettings
from ._stopping import NonFiniteLoss
from ._trainer import Trainer, train
from .comparison import Comparison, Outcome, compare, grid, report
from .folder import (
    Run,
    RunInUse,
    dataset_of,
    epochs_kept,
    load_record,
    load_run,
    save_model,
    write_json,
)

__all__ = [
    "KERNELS",
    "LATENT_INITIALIZERS",
    "OPTIMIZERS",
    "OWN",
    "PRECISIONS",
    "RECIPES",
    "SCHEDULES",
    "STRATEGIES",
    "Comparison",
    "NonFiniteLoss",
    "Outcome",
    "Recipe",
    "Run",
    "RunInUse",
    "RunSettings",
    "Terminated",
    "Trainer",
    "compare",
    "dataset_of",
    "epochs_kept",
    "evaluate",
    "grid",
    "load_record",
    "load_run",
    "open_model",
    "report",
    "save_model",
    "train",
    "write_json",
]
