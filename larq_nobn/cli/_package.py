"""Modules of the package, imported when a command first uses them.

Commands use these names only inside functions, so that `--help` imports none of them.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

from .._errors import InvalidValue
from .._messages import first_line
from .._process import Late, import_all

if TYPE_CHECKING:
    from .. import data as data
    from .. import deploy as deploy
    from .. import diagnostics as diagnostics
    from .. import interop as interop
    from .. import loading as loading
    from .. import models as models
    from .. import population as population
    from .. import surgery as surgery
    from .. import training as training
    from .._keras import keras as keras
else:
    keras = None  # only annotations use it
    names = "data deploy diagnostics interop loading models population surgery training"
    globals().update({name: Late(f"larq_nobn.{name}") for name in names.split()})


def import_modules(names: Iterable[str]) -> None:
    """Imports the user's modules, from the current folder or installed."""
    import_all()  # first, or a module could import TensorFlow with another Keras
    sys.path.insert(0, os.getcwd())
    for name in names:
        try:
            importlib.import_module(name.removesuffix(".py"))
        except Exception as error:  # the module may raise anything
            raise InvalidValue(
                f"--import {name}: {first_line(error)}. Give the name of a module in "
                "this folder, or of an installed one, as in --import my_layers."
            ) from error
