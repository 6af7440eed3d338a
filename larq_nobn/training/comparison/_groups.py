"""Runs that are compared: finished or failed, and those alike but for the seed."""

from __future__ import annotations

import json
import math
import os
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np

from ..folder import load_record, test_metrics
from ..settings import Recipe, RunSettings

# Of each epoch, by which settings are chosen; and of the end, which is reported.
ACCURACY, TEST_ACCURACY = "val_accuracy", "test_accuracy"
# In the order of a table's columns; other settings follow.
_FIRST = ("normalization", "recipe", "batch_size", "learning_rate", "epochs")
# Chance, where the images lie, and what the name of a file says already.
_POOLED = ("seed", "data_dir", "init_sha256")
_OF_RECIPES = {each.name for each in fields(Recipe)}


@dataclass(frozen=True)
class Outcome:
    """What became of one run of a comparison.

    Arguments:
        folder: Its run folder.
        settings: Its settings as plain JSON types.
        metrics: Loss and accuracy after the last epoch, on training images (`loss`,
            `accuracy`), on those of the history (`val_loss`, `val_accuracy`) and on
            test images (`test_loss`, `test_accuracy`).
        history: One row per epoch, as in `history.csv`.
        versions: What it was trained with.
        failure: Why there is no result, in a sentence; None if there is one.
        history_split: The split that `val_*` are of: `"validation"`, or `"test"` where
            the run had no validation split.
    """

    folder: str
    settings: dict[str, Any]
    metrics: dict[str, float] = field(default_factory=dict)
    history: list[dict[str, float]] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    failure: str | None = None
    history_split: str = "test"

    @classmethod
    def read(cls, folder: str | os.PathLike) -> Outcome:
        """Reads a finished run; settings that an old one lacks have their defaults.

        Raises:
            FileNotFoundError: If the folder is no finished run.
            ValueError: If one of its files is damaged.
        """
        record, history = load_record(folder)
        try:
            found = cls(
                os.fspath(folder),
                plain_settings(RunSettings()) | _plain(record["settings"]),
                {name: float(value) for name, value in record["metrics"].items()},
                history,
                dict(record["versions"]),
                history_split=str(record.get("history_split", "test")),
            )
            tested = {f"test_{n}": v for n, v in test_metrics(record).items()}
            found.metrics.update(tested)
            found._check()
            return found
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{os.fspath(folder)} is damaged: run.json or history.csv is not what "
                f"a run writes ({error!r}). Train again, or restore it from a copy."
            ) from error

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields as plain JSON types."""
        return finite(asdict(self))

    def _check(self) -> None:
        """Refuses a run without what every comparison shows."""
        rows = [[row[name] for name in _NEEDED] for row in self.history]
        if not rows or not np.isfinite([*sum(rows, []), self.metrics[ACCURACY]]).all():
            raise ValueError("accuracies are missing")


_NEEDED = ("epoch", ACCURACY, "seconds")


def plain_settings(settings: RunSettings) -> dict[str, Any]:
    """Returns settings as `run.json` holds them, whole numbers without a point."""
    return _plain(asdict(settings))


def _plain(settings: Any) -> dict[str, Any]:
    # 0 and 0.0 are the same setting.
    return dict(json.loads(json.dumps(settings), parse_float=_number))


def _number(digits: str) -> int | float:
    number = float(digits)
    return int(number) if number.is_integer() else number


def finite(value: Any) -> Any:
    """Returns `value` with None for what JSON has no number for, at any depth."""
    if isinstance(value, dict):
        return {name: finite(part) for name, part in value.items()}
    if isinstance(value, list):
        return [finite(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


@dataclass(frozen=True)
class Group:
    """Runs of the same settings, apart from the seed.

    Arguments:
        settings: Those that tell it from other groups.
        outcomes: Its runs.
        best: Whether it has the highest mean accuracy among the groups that it is
            compared with; groups with a failed run come last.
    """

    settings: dict[str, Any]
    outcomes: list[Outcome]
    best: bool

    @property
    def finished(self) -> list[Outcome]:
        """The runs that have a result."""
        return [each for each in self.outcomes if each.failure is None]

    def spread(self, metric: str) -> dict[str, Any] | None:
        """Returns mean, min, max and std of a metric over the runs; None without."""
        return spread([each.metrics[metric] for each in self.finished])

    def curve(self, name: str = ACCURACY) -> list[dict[str, Any]]:
        """Returns the same for each epoch, of a column of the history."""
        values: dict[int, list[float]] = {}
        for each in self.finished:
            for row in each.history:
                values.setdefault(int(row["epoch"]), []).append(row[name])
        return [{"epoch": e, **(spread(values[e]) or {})} for e in sorted(values)]

    def best_epoch(self) -> dict[str, Any] | None:
        """Returns the epoch with the highest mean accuracy; None without results."""
        return max(self.curve(), key=lambda row: row["mean"], default=None)

    def seconds(self) -> float | None:
        """Returns the mean time of an epoch."""
        times = [row["seconds"] for each in self.finished for row in each.history]
        return statistics.fmean(times) if times else None

    def to_dict(self) -> dict[str, Any]:
        """Returns all of this as plain types."""
        metrics = [each.metrics for each in self.finished] or [{}]
        names = [n for n in metrics[0] if all(n in each for each in metrics)]
        return {
            "settings": self.settings,
            "best": self.best,
            "seeds": [each.settings["seed"] for each in self.finished],
            "runs": [each.folder for each in self.finished],
            "failed": [each.folder for each in self.outcomes if each.failure],
            "metrics": {name: self.spread(name) for name in names},
            "best_epoch": self.best_epoch(),
            "seconds_per_epoch": self.seconds(),
            ACCURACY: self.curve(),
        }


def spread(values: Sequence[float]) -> dict[str, Any] | None:
    """Returns mean, smallest, largest, and the standard deviation of a sample.

    All are None where a value is not finite, as a test loss may be.
    """
    if not values:
        return None
    if not all(map(math.isfinite, values)):
        return dict.fromkeys(("mean", "min", "max", "std"))
    return {
        "mean": statistics.fmean(values),
        "min": min(values),
        "max": max(values),
        "std": statistics.stdev(values) if len(values) > 1 else None,
    }


def differing(outcomes: Sequence[Outcome]) -> list[str]:
    """Returns the names of the settings that tell the runs apart, seeds aside.

    What merely follows from the recipe is left out where recipes differ.
    """
    return differing_settings([each.settings for each in outcomes])


def differing_settings(settings: Sequence[dict[str, Any]]) -> list[str]:
    """The same of settings alone."""
    names = dict.fromkeys([*_FIRST, *(name for each in settings for name in each)])
    found = [
        name
        for name in names
        if name not in _POOLED and len({_key(each.get(name)) for each in settings}) > 1
    ]
    if "recipe" not in found:
        return found
    presets = [_preset(each) for each in settings]
    return [
        name
        for name in found
        if name not in _OF_RECIPES
        or any(
            name not in preset or preset[name] != each.get(name)
            for preset, each in zip(presets, settings, strict=True)
        )
    ]


def grouped(outcomes: Sequence[Outcome], by: Sequence[str]) -> list[Group]:
    """Puts runs of equal settings together, and marks the best of each choice of `by`.

    Arguments:
        outcomes: The runs, in the order in which words are to appear.
        by: Names of settings; groups that differ in others compete to be best.
    """
    names = [*by, *(name for name in differing(outcomes) if name not in by)]
    members: dict[str, list[Outcome]] = {}
    for each in _ordered(outcomes, names):
        key = _key([each.settings.get(name) for name in names])
        members.setdefault(key, []).append(each)
    groups = [
        Group({name: runs[0].settings.get(name) for name in names}, runs, best=False)
        for runs in members.values()
    ]
    winners: dict[str, Group] = {}
    for group in groups:
        key = _key([group.settings[name] for name in by])
        winners[key] = max(winners.get(key, group), group, key=_rank)
    return [
        Group(g.settings, g.outcomes, any(g is w for w in winners.values()))
        for g in groups
    ]


def _rank(group: Group) -> tuple[bool, float]:
    """Without a failed run before with one, then by accuracy."""
    found = group.spread(ACCURACY)
    accuracy = found["mean"] if found else None
    complete = len(group.finished) == len(group.outcomes)
    return complete, -1.0 if accuracy is None else accuracy


def _ordered(outcomes: Sequence[Outcome], names: Sequence[str]) -> list[Outcome]:
    """Sorts by the settings: numbers by size, words as they first appear."""
    ranks = {}
    for name in [*names, "seed"]:
        values = [each.settings.get(name) for each in outcomes]
        unique = list({_key(value): value for value in values}.values())
        if all(isinstance(value, int | float) for value in unique):
            unique.sort()
        ranks[name] = {_key(value): rank for rank, value in enumerate(unique)}
    return sorted(
        outcomes,
        key=lambda each: [ranks[n][_key(each.settings.get(n))] for n in ranks],
    )


def _preset(settings: dict[str, Any]) -> dict[str, Any]:
    """Returns what the recipe of a run says today, or nothing if there is none."""
    chosen = {name: settings.get(name) for name in ("model", "normalization", "init")}
    try:
        found = RunSettings.from_recipe(settings["recipe"], **chosen)
    except ValueError:  # a recipe or a network that this version does not have
        return {}
    return plain_settings(found)


def _key(value: object) -> str:
    """A value of JSON, lists included, as something that can be looked up."""
    return json.dumps(value, sort_keys=True)
