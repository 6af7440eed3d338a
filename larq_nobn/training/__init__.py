"""Training runs: settings, the run itself, and the folder it leaves."""

from ._files import save_model, write_json
from ._kernels import KERNELS
from ._opening import Run, load_run, open_model
from ._recipe import OPTIMIZERS, SCHEDULES, Recipe
from ._recipes import RECIPES
from ._run import train
from ._scoring import evaluate, score
from ._settings import PRECISIONS, RunSettings

__all__ = [
    "KERNELS",
    "OPTIMIZERS",
    "PRECISIONS",
    "RECIPES",
    "SCHEDULES",
    "Recipe",
    "Run",
    "RunSettings",
    "evaluate",
    "load_run",
    "open_model",
    "save_model",
    "score",
    "train",
    "write_json",
]
