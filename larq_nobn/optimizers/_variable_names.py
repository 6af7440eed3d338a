"""The names of variables that patterns match: paths in models, and names of Keras."""

from __future__ import annotations

import re
import weakref
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import tensorflow as tf

from .._keras import keras, on_compile
from ._wrapper import OptimizerWrapper

Names = tuple[str, ...]


# Used only for `_var_key`, which finds the variable that a replica's copy belongs to.
_KEYS = object.__new__(keras.optimizers.Optimizer)


def key_of(variable: Any) -> Any:
    """Returns a key that a variable, its latent variable and its copies share."""
    return _KEYS._var_key(getattr(variable, "latent_variable", variable))


def paths_of(model: keras.Model) -> dict[Any, str]:
    """Returns the path of each variable by its key, such as "/block/conv/kernel:0".

    A path is the names of the layers around the variable and the last part of its name.
    The name alone is not enough: Keras builds the layers of a reopened `.keras` file
    outside their name scopes, so a variable of the layer `conv` may be `kernel:0`.
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
    """Returns a pattern that matches only this path."""
    return f"^{re.escape(path)}$"


def first_match(patterns: Iterable[str], names: Names) -> str | None:
    """Returns the first pattern found in a name, else in a tail that follows a slash.

    So `^head/` matches `net/head/kernel:0`, as variables of subclassed models are
    named. The number after the colon is optional. If the model is unknown, `names` has
    only the name that Keras gives, which is used as the path.
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
    """An optimizer wrapper whose arguments select variables by patterns.

    Patterns are matched against the path of a variable in the models that were compiled
    with the optimizer or passed to `tell`, and against its own name. Files contain the
    names of all variables, in order, since Keras may number names such as `dense_1`
    differently when it opens the file.
    """

    _models: tuple[Any, ...]
    _names: tuple[Names, ...]
    _names_in_file: tuple[Names, ...]

    def __new__(cls, *arguments: Any, **named: Any) -> Any:
        self = super().__new__(cls, *arguments, **named)
        self._models, self._names, self._names_in_file = (), (), ()
        return self

    def get_config(self) -> dict[str, Any]:
        # Not an argument; `from_config` reads it.
        return {"variables": [list(names) for names in self._names]}

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None
    ) -> Any:
        arguments = {key: x for key, x in config.items() if key != "variables"}
        self = super().from_config(arguments, custom_objects)
        variables = config.get("variables", ())
        # Older files have one name per variable.
        names = [[x] if isinstance(x, str) else x for x in variables]
        self._names = self._names_in_file = tuple(map(tuple, names))
        return self

    def _names_of(self, variables: Sequence[tf.Variable]) -> tuple[Names, ...]:
        """Returns the names of all variables of a step, paths first."""
        models = [model for model in (x() for x in self._models) if model is not None]
        paths = [paths_of(model) for model in models if model.built]
        names = []
        for variable in variables:
            key = key_of(variable)
            own = [by_key[key] for by_key in paths if key in by_key]
            names.append((*dict.fromkeys(own), variable.name))
        in_file = self._names_in_file
        if len(in_file) == len(names) and all(map(_same_variable, in_file, names)):
            names = list(in_file)
        self._names = tuple(names)
        return self._names


def _same_variable(in_file: Names, now: Names) -> bool:
    """Tells whether names of a file may be those of a variable of the opened model."""
    in_file, now = (
        tuple(re.sub(r"_\d+(?=[/:])", "", name) for name in names)
        for names in (in_file, now)
    )
    if in_file[:-1] and now[:-1]:
        return not {*in_file[:-1]}.isdisjoint(now[:-1])
    return f"/{in_file[-1]}".endswith(f"/{now[-1]}")


def parts_inside(optimizer: Any) -> Iterator[Any]:
    """Yields an optimizer and all optimizers inside it, at any depth."""
    yield optimizer
    inner = getattr(optimizer, "inner_optimizer", None)
    # Larq's CaseOptimizer has several.
    inside = getattr(optimizer, "optimizers", ()) if inner is None else (inner,)
    for part in inside:
        yield from parts_inside(part)


def tell(optimizer: Any, model: keras.Model) -> None:
    """Gives every wrapper in an optimizer a model, for the paths of its variables."""
    for part in parts_inside(optimizer):
        if isinstance(part, PatternWrapper):
            part._models = (*part._models, weakref.ref(model))


on_compile(tell)
