"""The names by which patterns find a variable: its path in a model, and its own."""

from __future__ import annotations

import re
import weakref
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import tensorflow as tf

from .._keras import keras, on_compile
from ._wrapper import OptimizerWrapper

Names = tuple[str, ...]


# Knows the variable that a copy in a replica is of, without being any optimizer.
_KEYS = object.__new__(keras.optimizers.Optimizer)


def key_of(variable: Any) -> Any:
    """Returns what a variable, its latent one and its copy in a replica share."""
    return _KEYS._var_key(getattr(variable, "latent_variable", variable))


def paths_of(model: keras.Model) -> dict[Any, str]:
    """Returns the path of each variable by its key, such as "/block/conv/kernel:0".

    That is the names of the layers around it and the last part of its own. Keras builds
    the layers of a reopened `.keras` file outside their name scopes, so that a variable
    of the layer `conv` may be called `kernel:0` there.
    """
    paths: dict[Any, str] = {}
    seen = set()

    def visit(layer: keras.layers.Layer, path: str) -> None:
        seen.add(id(layer))
        for part in layer._flatten_layers(recursive=False, include_self=False):
            if id(part) not in seen:
                visit(part, f"{path}/{part.name}")
        for variable in layer.weights:
            leaf = variable.name.rpartition("/")[2]
            paths.setdefault(key_of(variable), f"{path}/{leaf}")

    visit(model, "")
    return paths


def exactly(path: str) -> str:
    """Returns the pattern of one path of a model alone."""
    return f"^{re.escape(path)}$"


def first_match(patterns: Iterable[str], names: Names) -> str | None:
    """Returns the first pattern found in a name, else in a tail that follows a slash.

    A subclassed model puts its own name in front: `^head/` finds `net/head/kernel:0`.
    The number after the colon may be left out. Where no model tells the path, the name
    is one.
    """
    for name in names if names[1:] else (f"/{names[0]}",):
        bare = re.sub(r":\d+$", "", name)
        for start in re.finditer("^|/", bare):
            tails = name[start.end() :], bare[start.end() :]
            for pattern in patterns:
                if any(re.search(pattern, tail) for tail in tails):
                    return pattern
    return None


class PatternWrapper(OptimizerWrapper):
    """An optimizer wrapper whose arguments find variables by patterns.

    They are tried on the path of a variable in the model, and on its own name. Models
    are known from `compile`, or are told. A file keeps the names of the variables that
    the wrapper has seen, in their order: what Keras numbers, such as `dense_1`, may be
    numbered otherwise when the file is opened.
    """

    _models: tuple[Any, ...]
    _names: tuple[Names, ...]
    _of_file: tuple[Names, ...]

    def __new__(cls, *arguments: Any, **named: Any) -> Any:
        self = super().__new__(cls, *arguments, **named)
        self._models, self._names, self._of_file = (), (), ()
        return self

    def get_config(self) -> dict[str, Any]:
        # No argument.
        return {"variables": [list(names) for names in self._names]}

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None
    ) -> Any:
        arguments = {key: x for key, x in config.items() if key != "variables"}
        self = super().from_config(arguments, custom_objects)
        known = config.get("variables", ())
        # Files of before have one name of each variable.
        names = [[x] if isinstance(x, str) else x for x in known]
        self._names = self._of_file = tuple(map(tuple, names))
        return self

    def _names_of(self, variables: Sequence[tf.Variable]) -> tuple[Names, ...]:
        """Returns the names of all variables of a step, paths first."""
        models = [model for model in (x() for x in self._models) if model is not None]
        paths = [paths_of(model) for model in models if model.built]
        names = []
        for variable in variables:
            key = key_of(variable)
            own = [known[key] for known in paths if key in known]
            names.append((*dict.fromkeys(own), variable.name))
        known = self._of_file
        if len(known) == len(names) and all(map(_same_variable, known, names)):
            names = list(known)
        self._names = tuple(names)
        return self._names


def _same_variable(known: Names, now: Names) -> bool:
    """Whether names of a file may be those of a variable of the opened model."""
    known, now = (
        tuple(re.sub(r"_\d+(?=[/:])", "", name) for name in names)
        for names in (known, now)
    )
    if known[:-1] and now[:-1]:
        return not {*known[:-1]}.isdisjoint(now[:-1])
    return f"/{known[-1]}".endswith(f"/{now[-1]}")


def parts_inside(optimizer: Any) -> Iterator[Any]:
    """Yields an optimizer and all optimizers in it, however they are wrapped."""
    yield optimizer
    inner = getattr(optimizer, "inner_optimizer", None)
    # Larq's CaseOptimizer has several.
    inside = getattr(optimizer, "optimizers", ()) if inner is None else (inner,)
    for part in inside:
        yield from parts_inside(part)


def tell(optimizer: Any, model: keras.Model) -> None:
    """Tells every wrapper in an optimizer of a model with paths of variables."""
    for part in parts_inside(optimizer):
        if isinstance(part, PatternWrapper):
            part._models = (*part._models, weakref.ref(model))


on_compile(tell)
