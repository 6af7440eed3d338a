"""What a training run is: its settings, the recipes, the networks."""

from ._init import OWN, weights_file
from ._kernels import KERNELS, LATENT_INITIALIZERS, scale_latents, with_kernels
from ._networks import NETWORKS
from ._recipe import OPTIMIZERS, SCHEDULES, Recipe
from ._recipes import RECIPES
from ._settings import PRECISIONS, RunSettings
from ._words import named, shown, words

__all__ = [
    "KERNELS",
    "LATENT_INITIALIZERS",
    "NETWORKS",
    "OPTIMIZERS",
    "OWN",
    "PRECISIONS",
    "RECIPES",
    "SCHEDULES",
    "Recipe",
    "RunSettings",
    "named",
    "scale_latents",
    "shown",
    "weights_file",
    "with_kernels",
    "words",
]
