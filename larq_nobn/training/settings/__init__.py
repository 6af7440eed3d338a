"""What a training run is: its settings, the recipes, the networks."""

from ..._names import LATENT_INITIALIZERS, OPTIMIZERS, OWN, PRECISIONS, SCHEDULES
from ...config import RECIPES, Recipe, named, shown, words
from ._init import weights_file
from ._kernels import KERNELS, scale_latent_weights, with_kernels
from ._networks import NETWORKS
from ._precision import EXTENSIONS, PROCESSOR, best_precision, processor_flags
from ._settings import RunSettings

__all__ = [
    "EXTENSIONS",
    "KERNELS",
    "LATENT_INITIALIZERS",
    "NETWORKS",
    "OPTIMIZERS",
    "OWN",
    "PRECISIONS",
    "PROCESSOR",
    "RECIPES",
    "SCHEDULES",
    "Recipe",
    "RunSettings",
    "best_precision",
    "named",
    "processor_flags",
    "scale_latent_weights",
    "shown",
    "weights_file",
    "with_kernels",
    "words",
]
