"""The package of the commands, imported when a command first needs it.

Only functions use these names: what stands at the top of a module is there for
`--help`, which needs none of it.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from .._errors import InvalidValue
from .._messages import first_line
from .._process import import_all

if TYPE_CHECKING:
    from .. import data as data
    from .. import deploy as deploy
    from .. import diagnostics as diagnostics
    from .. import interop as interop
    from .. import layers as layers
    from .. import loading as loading
    from .. import models as models
    from .. import population as population
    from .. import surgery as surgery
    from .. import training as training
    from .._keras import keras as keras
    from ..data import _source as images
    from ..data.folder import _overview as folder
else:

    class _Late:
        """A module or an object of the package, by its path there."""

        def __init__(self, path: str, whole: bool = True) -> None:
            self._path, self._whole = path, whole

        def __getattr__(self, name: str) -> Any:
            if self._whole:
                import_all()
            module, _, inside = self._path.partition(":")
            imported = importlib.import_module(f"larq_nobn.{module}")
            return getattr(getattr(imported, inside) if inside else imported, name)

    data, deploy, diagnostics = map(_Late, ("data", "deploy", "diagnostics"))
    interop, models, population = map(_Late, ("interop", "models", "population"))
    layers = _Late("layers")
    loading, surgery, training = map(_Late, ("loading", "surgery", "training"))
    keras = _Late("_keras:keras")
    # These need no TensorFlow: an image folder is inspected without it.
    folder, images = _Late("data.folder._overview", False), _Late("data._source", False)


def import_modules(names: Iterable[str]) -> None:
    """Imports modules of the user, in the current folder or installed.

    Raises:
        ValueError: If one cannot be imported.
    """
    import_all()  # or TensorFlow would bring another Keras
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    for name in names:
        try:
            importlib.import_module(name.removesuffix(".py"))
        except Exception as error:  # whatever the module does
            raise InvalidValue(
                f"--import {name}: {first_line(error)}. Give the name of a module in "
                "this folder, or of an installed one, as in --import my_layers."
            ) from error
