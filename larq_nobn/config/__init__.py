"""The settings of a training, each said once: default, range, help and group.

A field of `Recipe` or `Settings` is all that a setting is; the options of the command
line, the checks, `run.json`, the docstrings and the table in the docs follow from it.
Nothing here needs TensorFlow.
"""

from ._fields import GROUPS, WHERE, Setting, documented, grouped, setting, settings_of
from ._presets import IMPLIED, OF_KERNELS, RECIPES
from ._recipe import Recipe
from ._settings import Settings, named, shown, words

__all__ = [
    "GROUPS",
    "IMPLIED",
    "OF_KERNELS",
    "RECIPES",
    "WHERE",
    "Recipe",
    "Setting",
    "Settings",
    "documented",
    "grouped",
    "named",
    "setting",
    "settings_of",
    "shown",
    "words",
]
