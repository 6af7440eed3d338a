"""What is compared: finished runs, read without their models, and failed ones."""

from __future__ import annotations

import json
import math
import os
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from ..folder import load_record, test_metrics
from ..settings import RunSettings

# Of each epoch, by which settings are chosen; and of the end, which is reported.
ACCURACY, TEST_ACCURACY = "val_accuracy", "test_accuracy"


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
