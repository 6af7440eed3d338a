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
from ..config._presets import RECIPES, register_recipe
from ..config._recipe import Recipe
from ..loading import open_model, save_model
from ._compare import compare, grid
from ._comparison import Comparison, Outcome, report
from ._evaluation import evaluate
from ._network import KERNELS
from ._run_folder import Run, RunInUse, load_record, load_run
from ._run_settings import RunSettings
from ._stopping import NonFiniteLoss
from ._trainer import Trainer, train

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
    "register_recipe",
    "report",
    "save_model",
    "train",
]
