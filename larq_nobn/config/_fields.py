"""`Setting`: a dataclass field with its range, help, group and conditions."""

from __future__ import annotations

import dataclasses
import functools
import os
import textwrap
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from inspect import get_annotations
from typing import Any, TypeVar, get_args, get_type_hints

from .. import _checks
from .._errors import InvalidType, InvalidValue
from .._names import TFDS_PREFIX, check_dataset

# Headings in `--help` and in the docs, in this order.
WHAT = "Network and data"
HOW = "Training"
RESOURCES = "Precision and memory"
WHERE = "Execution and output"
GROUPS = (WHAT, HOW, RESOURCES, WHERE)
_Class = TypeVar("_Class", bound=type)


@dataclass(frozen=True)
class When:
    """A condition of a setting: that another one has, or has not, certain values.

    Attributes:
        name: The other setting.
        values: The values; None stands for all but None, 0 and False. For `dataset`,
            `"an image folder"` and `"tfds:NAME"` stand for all of their kind.
        has: True if it must have one of these values, False if it must have another.
        why: If it must have another, the reason: a relative clause about the value.
    """

    name: str
    values: tuple[Any, ...] | None = None
    has: bool = True
    why: str = ""

    def is_met(self, settings: Mapping[str, Any]) -> bool:
        """Returns whether settings meet the condition, or lack the other setting."""
        if self.name not in settings:
            return True
        value = settings[self.name]
        if self.name == "dataset":
            folder = "an image folder" if os.path.isabs(value) else value
            value = "tfds:NAME" if value.startswith(TFDS_PREFIX) else folder
        found = bool(value) if self.values is None else value in self.values
        return found is self.has

    def __str__(self) -> str:
        if self.values is None:
            return self.name if self.has else f"no {self.name}"
        said = " or ".join(map(str, self.values))
        return f"{self.name} {said}" if self.has else f"another {self.name}"


def unless(name: str, *values: Any, why: str = "") -> When:
    """Returns the condition that a setting has none of these values (or is off)."""
    return When(name, values or None, False, why)


@dataclass(frozen=True)
class Setting:
    """The definition of a setting.

    Attributes:
        help: What the setting does, in a sentence.
        group: Its heading, one of `GROUPS`.
        range: A pair: (least, most) of an integer, or the interval of a float in
            mathematical notation; and advice. None without a range.
        choices: The allowed values; None without such a list.
        offered: The choices that `--help` shows; None for all.
        kind: Kind of the value, if it is not a number, flag or word: one of `_KINDS`.
        absent: The meaning of None, in words.
        registered: Whether a class of the user is allowed, as `package>Class`.
        option: Whether it is an option of the command line.
        applies_when: Conditions of which each must be met, or one of a tuple of
            alternatives; otherwise the setting has no effect.
        default: The default value.
        name: Its name, set by `settings_of` like the following attributes.
        type: `int`, `float`, `bool`, `str`, or `object` for a kind.
        optional: Whether None is allowed.
    """

    help: str
    group: str
    range: _checks.Bounds | None = None
    choices: Collection[str] | None = None
    offered: Sequence[str] | None = None
    kind: str | None = None
    absent: str = "none"
    registered: bool = False
    option: bool = True
    applies_when: When | Sequence[When | tuple[When, ...]] = ()
    default: Any = None
    name: str = ""
    type: Any = object
    optional: bool = False

    def check(self, value: Any) -> Any:
        """Returns the value as it is stored; raises a TypeError or ValueError."""
        if value is None and self.optional:
            return None
        own = self.registered and isinstance(value, str) and ">" in value
        if self.choices is not None and not own:
            return _checks.check_choice(self.name, value, self.choices)
        if self.range is not None:
            number = _checks.check_within(self.name, value, self.range)
            # JSON cannot contain NumPy scalars.
            return value if type(value) in (int, float) else number
        return _KINDS[self.kind or self.type](self.name, value)

    def unmet(self, settings: Mapping[str, Any]) -> tuple[When, ...]:
        """Returns the alternatives that are all unmet; empty if the setting applies."""
        needed = self.applies_when
        for either in [needed] if isinstance(needed, When) else needed:
            group = either if isinstance(either, tuple) else (either,)
            if not any(each.is_met(settings) for each in group):
                return group
        return ()

    def check_used(self, settings: Mapping[str, Any]) -> None:
        """Raises a ValueError that names the unmet conditions, if there are any."""
        if not (unmet := self.unmet(settings)):
            return
        others = dict.fromkeys(f"{n}={settings[n]!r}" for n in (w.name for w in unmet))
        why = f", {unmet[0].why}" if unmet[0].why else ": nothing would use it"
        raise InvalidValue(
            f"{self.name}={settings[self.name]!r} does not go with "
            f"{' and '.join(others)}{why}. Choose {' or '.join(map(str, unmet))}, or "
            f"leave {self.name} out."
        )

    @property
    def allowed(self) -> str:
        """The allowed values, in words; empty without choices or range."""
        if self.choices is not None:
            return ", ".join([*self.choices, *["package>Class"] * self.registered])
        if self.range is None:
            return ""
        within, _ = self.range
        return within if isinstance(within, str) else f"{within[0]} to {within[1]}"


def setting(default: Any, help: str, group: str = HOW, **known: Any) -> Any:
    """Returns a dataclass field; `known` are further attributes of its `Setting`."""
    said = {"setting": Setting(help, group, default=default, **known)}
    if isinstance(default, dict):
        return dataclasses.field(default_factory=default.copy, metadata=said)
    return dataclasses.field(default=default, metadata=said)


network_setting, output_setting, resource_setting = (
    functools.partial(setting, group=group) for group in (WHAT, WHERE, RESOURCES)
)


def _settings_of(cls: Any) -> dict[str, Setting]:
    """Returns the settings of a dataclass by name, its own before inherited ones."""
    hints, fields = get_type_hints(cls), cls.__dataclass_fields__
    settings = {}
    for name in (name for base in cls.__mro__ for name in get_annotations(base)):
        parts = get_args(hints[name]) or (hints[name],)
        kinds = [kind for kind in parts if kind is not type(None)]
        plain = len(kinds) == 1 and kinds[0] in (int, float, bool, str)
        settings[name] = dataclasses.replace(
            fields[name].metadata["setting"],
            name=name,
            type=kinds[0] if plain else object,
            optional=type(None) in parts,
        )
    return settings


# Annotated, because type checkers reject classes as hashable arguments of a cache.
settings_of: Callable[[Any], dict[str, Setting]] = functools.cache(_settings_of)


def documented(cls: _Class) -> _Class:
    """Writes the section `Arguments` into a docstring, before `Raises`."""
    lines = ["    Arguments:\n"]
    for name, each in settings_of(cls).items():
        text = f"{name}: {each.help}"
        if allowed := each.allowed:
            text += f" Allowed: {allowed}."
        text += f" Default: {each.absent if each.default is None else each.default}."
        wrapper = textwrap.TextWrapper(88, " " * 8, " " * 12, break_on_hyphens=False)
        lines += [f"{line}\n" for line in wrapper.wrap(text)]
    before, raises, after = (cls.__doc__ or "").partition("    Raises:\n")
    cls.__doc__ = f"{before}{''.join(lines)}\n{raises}{after}"
    return cls


def _check_arguments(name: str, value: Any) -> Any:
    if not isinstance(value, Mapping):
        raise InvalidType(
            f"{name}={value!r} is not a mapping. Give arguments of the network's "
            "builder, such as {'alpha': 0.5}."
        )
    # JSON needs Python numbers instead of NumPy scalars.
    plain = {k: v.item() if hasattr(v, "item") else v for k, v in value.items()}
    for argument, given in plain.items():
        if not isinstance(given, (str, int, float, bool, list, tuple, type(None))):
            raise InvalidType(
                f"{name} has {argument}={given!r}, which run.json cannot contain. Give "
                "its registered name (package>Class), or build the network with it and "
                "pass that: train(settings, output, model=...)."
            )
    return plain


def _check_text(name: str, value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise InvalidType(
            f"{name}={value!r} is not a text. Give a word, or a path as text."
        )
    return value


_KINDS: dict[Any, Callable[[str, Any], Any]] = {
    bool: _checks.check_flag,
    str: _check_text,
    "arguments": _check_arguments,
    "blocks": lambda name, value: _checks.check_blocks(value),
    "dataset": check_dataset,
    "path": _checks.check_path,
    "size": lambda name, value: _checks.check_size(value),
}
