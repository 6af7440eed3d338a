"""Defaults by hand and in networks and recipes: equal, or said at both places."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import larq_nobn as nobn
from larq_nobn import layers, models, optimizers, quantizers, training

PAGE = (Path(__file__).parents[2] / "docs" / "training.md").read_text("utf-8")
# What each place of a network decides for itself, or an argument of its builder.
DECIDED = {"name", "scale", "shift", "estimator", "activation", "power_of_two", "axis"}
DECIDED |= {"learned_epsilon", "trainable", "dtype", "quantizer", "groups"}
DECIDED |= {"exclude", "unit_axes"}


def used() -> list[object]:
    """A part of each kind, as networks and recipes have it."""
    parts: list[object] = []
    for normalization in models.NORMALIZATIONS:
        model = models.ReActNet18((8, 8, 1), 3, normalization, width=32, blocks=(1, 1))
        parts += model.submodules
    parts += [make() for make in training.KERNELS.values()]
    recipe = training.Recipe()
    parts.append(quantizers.BernoulliSign(recipe.temperature))
    for name, steps in (("nobn", 1), ("bnn_plus", 1)):
        settings = training.RunSettings(name, dataset="digits")
        parts.append(training._network.optimizer_for(settings, steps, model))
    free = training.RunSettings(kernel="biper", dataset="digits", blocks=(1,), width=4)
    info = nobn.data.open_dataset("digits").info
    return parts + [*training._network.build_network(free, info).submodules]


def differences() -> dict[tuple[str, str], set[tuple[object, object]]]:
    """The default and the used value, of each class and argument that differs."""
    public = {getattr(space, n) for space in SPACES for n in space.__all__}
    found: dict[tuple[str, str], set[tuple[object, object]]] = {}
    for part in used():
        kind = next((cls for cls in type(part).__mro__ if cls in public), None)
        if kind is None:
            continue
        config = part.get_config()
        for name, parameter in inspect.signature(kind.__init__).parameters.items():
            if name not in config or name in DECIDED or "initializer" in name:
                continue
            if (usual := parameter.default) not in (inspect._empty, config[name]):
                key = kind.__name__, name
                found.setdefault(key, set()).add((usual, config[name]))
    return found


SPACES = (layers, quantizers, optimizers)


def test_defaults_that_differ_are_said_at_both_places():
    """In the class, and in the table on the page of recipes, which has no other."""
    section = PAGE.split("\n## Other defaults by hand\n")[1].split("\n## ")[0]
    cells = r"^\| `(\w+)` \| `(\w+)` \| ([^|]+) \| ([^|]+) \|"
    rows = re.findall(cells, section, re.M)
    said = {(cls, name): (hand.strip(), here.strip()) for cls, name, hand, here in rows}
    found = differences()
    assert said.keys() == found.keys()
    for (cls, name), pairs in found.items():
        hand, here = said[cls, name]
        ((usual, _), *_) = pairs
        assert str(usual) == hand.split(",")[0], (cls, name)
        values = {str(value) for _, value in pairs}
        assert values <= {*re.split(r"[ ,;]+", here)}, (cls, name, values)
        kind = next(vars(space)[cls] for space in SPACES if cls in space.__all__)
        arguments = inspect.getdoc(kind).partition("Arguments:")[2]
        (text,) = re.findall(rf"^    {name}: ((?:.|\n {{5,}})+)", arguments, re.M)
        words = {*re.split(r"[ \n,;]+", text.replace("e-", "e-0").replace(".\n", " "))}
        assert values <= {word.rstrip(".") for word in words}, (cls, name, values)
        assert "etworks" in text or "ecipe" in text
