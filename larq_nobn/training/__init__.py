"""Training runs: settings, the run itself, and the folder it leaves."""

from .._names import (
    LATENT_INITIALIZERS,
    MODEL_FROM_INIT,
    OPTIMIZERS,
    PRECISIONS,
    SCHEDULES,
    STRATEGIES,
)
from .._signals import Terminated
from ..config._presets import RECIPES
from ..config._recipe import Recipe
from ..loading import open_model
from ._evaluation import evaluate
from ._network import KERNELS
from ._settings import RunSettings
from ._stopping import NonFiniteLoss
from ._trainer import Trainer, train
from .comparison._compare import compare, grid
from .comparison._report import Comparison, Outcome, report
from .folder._lock import RunInUse
from .folder._opening import Run, load_record, load_run
from .folder._run_folder import save_model

__all__ = [
    "KERNELS",
    "LATENT_INITIALIZERS",
    "OPTIMIZERS",
    "MODEL_FROM_INIT",
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
    "evaluate",
    "grid",
    "load_record",
    "load_run",
    "open_model",
    "report",
    "save_model",
    "train",
]
