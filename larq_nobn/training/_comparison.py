"""`Comparison` of runs: statistics over seeds, as JSON, a table and a plot."""

from __future__ import annotations

import json
import logging
import math
import os
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table

from .._checks import check_kind, check_list, check_path
from .._errors import InvalidValue
from .._figures import COLOURS, DPI, check_plot, drawable, new_figure
from .._files import replacing
from .._tables import FEW_EXAMPLES, as_text, wilson_interval
from ..config import _run_files
from ..config._recipe import Recipe
from ..config._settings import named, shown, words
from ._run_folder import load_record, plain
from ._run_settings import RunSettings

_log = logging.getLogger("larq_nobn")
# The first columns of a table, in this order; other settings follow.
_FIRST = ("label", "normalization", "recipe", "batch_size", "learning_rate", "epochs")
# Settings that make no difference between methods: init has the name of its file.
_POOLED = ("seed", "data_dir", "init_sha256")
_IN_TITLE = ("model", "normalization", "dataset", "width", "epochs", "limit")
# Columns after those of the settings.
_RESULTS = (
    *("runs", "failed", "test accuracy (%)", "± of 95 %", "test loss"),
    *("best epoch", "seconds per epoch"),
)
# Table cells break words that are longer than this.
_WIDEST = 24
# Files that `compare` writes next to the run folders.
COMPARED_FILES = ("compare.json", "compare.png")


@dataclass(frozen=True)
class Outcome:
    """Outcome of one run of a comparison.

    Arguments:
        folder: Its run folder.
        settings: Its settings as plain JSON types.
        metrics: Loss and accuracy of the saved weights: on training images (`loss`,
            `accuracy`), on the validation split if there is one (`val_loss`,
            `val_accuracy`), and on test images (`test_loss`, `test_accuracy`; with a
            validation split, also `test_calibration_error`).
        history: One row per epoch, as in `history.csv`.
        versions: Versions of Python and packages in the training.
        failure: The error message of a failed run; None if there is a result.
        history_split: The split that is tested after each epoch: `"validation"`
            (`val_*`), or `"test"` (`test_*`) if the run had no validation split.
        examples: The number of test images; None if they are not counted.
    """

    folder: str
    settings: dict[str, Any]
    metrics: dict[str, float] = field(default_factory=dict)
    history: list[dict[str, float]] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    failure: str | None = None
    history_split: str = "test"
    examples: int | None = None

    @classmethod
    def read(cls, folder: str | os.PathLike) -> Outcome:
        """Reads a finished run.

        Raises:
            FileNotFoundError: If the folder is not a finished run.
            ValueError: If one of its files is damaged.
        """
        record, history = load_record(folder)
        count = record.get("examples", {}).get("test") or None
        limit = record["settings"].get("limit")
        return cls(
            os.fspath(folder),
            _run_files.with_place(Path(folder), record["settings"]),
            record["metrics"],
            history,
            record["versions"],
            history_split=record["history_split"],
            examples=count and min(count, limit or count),
        )

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields as plain JSON types."""
        return dict(json.loads(_run_files.as_json(asdict(self))))


@dataclass(frozen=True)
class Group:
    """Runs that differ only in the seed.

    Of the groups that appear in one row of the table, the one with the highest mean
    accuracy is `best`; groups with a failed run come last.
    """

    settings: dict[str, Any]
    outcomes: list[Outcome]
    best: bool = False

    @property
    def finished(self) -> list[Outcome]:
        return [outcome for outcome in self.outcomes if outcome.failure is None]

    @property
    def watched(self) -> str:
        """Name of the accuracy after each epoch, which settings are selected by."""
        return "val_accuracy" if _validated([self]) else "test_accuracy"

    def told_by(self, compared: Sequence[str]) -> list[str]:
        """Returns the settings that a legend shows: only the label, if there is one."""
        labelled = "label" in compared and self.settings["label"] is not None
        return ["label"] if labelled else [n for n in compared if n != "label"]

    @cached_property
    def numbers(self) -> dict[str, Any]:
        """Statistics of metrics, of the accuracy after each epoch, and of time."""
        runs = self.finished
        histories = [run.history for run in runs]
        curve = [
            {"epoch": epoch, **_spread([row[self.watched] for row in rows])}
            for epoch, rows in enumerate(zip(*histories, strict=False), 1)
        ]
        times = [row["seconds"] for rows in histories for row in rows]
        return {
            "metrics": {
                name: _spread([run.metrics[name] for run in runs])
                for name in (runs[0].metrics if runs else ())
                if all(name in run.metrics for run in runs)
            },
            "best_epoch": max(curve, key=lambda row: row["mean"], default=None),
            "seconds_per_epoch": statistics.median(times) if times else None,
            self.watched: curve,
        }

    def to_dict(self) -> dict[str, Any]:
        return {
            "settings": self.settings,
            "best": self.best,
            "seeds": [run.settings["seed"] for run in self.finished],
            "runs": [run.folder for run in self.finished],
            "failed": [outcome.folder for outcome in self.outcomes if outcome.failure],
            "test_accuracy_interval": self.interval,
            **self.numbers,
        }

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % interval of the mean test accuracy, given the number of images."""
        mean = self.numbers["metrics"].get("test_accuracy", {}).get("mean")
        counts = [run.examples for run in self.finished if run.examples]
        known = mean is not None and counts
        return wilson_interval(mean, min(counts)) if known else None

    def _rank(self) -> tuple[bool, float]:
        """Returns the key of the order: groups without failures first, by accuracy."""
        accuracy = self.numbers["metrics"].get(self.watched, {}).get("mean")
        complete = len(self.finished) == len(self.outcomes)
        return complete, -1.0 if accuracy is None else accuracy

    def _row(self) -> dict[str, str]:
        """Returns the cells of the table, by heading."""
        row, count = dict.fromkeys(_RESULTS, "-"), len(self.finished)
        row |= {"runs": str(count), "failed": str(len(self.outcomes) - count)}
        if ends := self.interval:
            row["± of 95 %"] = f"{50 * (ends[1] - ends[0]):.1f}"
        if not count:
            return row
        metrics, best = self.numbers["metrics"], self.numbers["best_epoch"]
        last, loss = metrics["test_accuracy"], metrics["test_loss"]["mean"]
        mean, low, high = (f"{100 * last[name]:.1f}" for name in ("mean", "min", "max"))
        return row | {
            "test accuracy (%)": f"{mean} ({low} to {high})" if count > 1 else mean,
            "test loss": "-" if loss is None else f"{loss:.3f}",
            "best epoch": f"{best['epoch']} ({100 * best['mean']:.1f})",
            "seconds per epoch": f"{self.numbers['seconds_per_epoch']:.1f}",
        }


def _spread(values: Sequence[float]) -> dict[str, Any]:
    """Returns mean, smallest, largest, and the standard deviation of a sample.

    All are None if a value is not finite, which a test loss may be.
    """
    if not all(map(math.isfinite, values)):
        return dict.fromkeys(("mean", "min", "max", "std"))
    return {
        "mean": statistics.fmean(values),
        "min": min(values),
        "max": max(values),
        "std": statistics.stdev(values) if len(values) > 1 else None,
    }


def differing(settings: Sequence[dict[str, Any]]) -> list[str]:
    """Returns the names of the settings that differ between runs, without the seed.

    Settings that the label determines, or the recipe if recipes differ, are left out.
    """
    names = dict.fromkeys([*_FIRST, *(name for own in settings for name in own)])
    apart = [
        name
        for name in names
        if name not in _POOLED
        and any(own.get(name) != settings[0].get(name) for own in settings)
    ]
    if any(own.get("label") for own in settings):
        apart = ["label", *(name for name in apart if not _follows(name, settings))]
    if "recipe" not in apart:
        return apart
    follows = {field.name for field in fields(Recipe)}
    for own in settings:
        chosen = {name: own.get(name) for name in ("model", "normalization", "init")}
        try:
            preset = plain(RunSettings.from_recipe(own["recipe"], **chosen))
        except ValueError:  # a recipe or a network of another version
            preset = {}
        follows &= {n for n in preset if preset[n] == own.get(n)}
    return [name for name in apart if name not in follows]


def _follows(name: str, settings: Sequence[dict[str, Any]]) -> bool:
    """Returns whether the label determines a setting; a label covers any `init`."""
    first: dict[str | None, Any] = {}
    return all(
        first.setdefault(own.get("label"), own.get(name)) == own.get(name)
        for own in settings
        if name != "init" or own.get("label") is None
    )


def named_apart(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Returns outcomes with the image folders as short, but different, paths."""
    names = {outcome.settings["dataset"] for outcome in outcomes}
    paths = {n: Path(n).parts if os.path.isabs(n) else (n,) for n in names}
    short: dict[str, str] = {}
    length = 0
    while len({*short.values()}) < len(names):
        length += 1
        short = {n: os.path.join(*path[-length:]) for n, path in paths.items()}
    changed = [x.settings | {"dataset": short[x.settings["dataset"]]} for x in outcomes]
    return [replace(x, settings=y) for x, y in zip(outcomes, changed, strict=True)]


@dataclass(frozen=True)
class Comparison:
    """A comparison of runs, in groups that differ only in the seed.

    Arguments:
        outcomes: The runs, in the order of the table.
        by: Names of the settings that table and plot have one row for; None for all
            that differ. Of groups that differ in other settings, such as the learning
            rate, they show the one with the highest mean accuracy, on the validation
            split if there is one. Different data sets always have rows of their own.

    Raises:
        ValueError: If there are no runs, or a name in `by` is not a setting.

    Example:
        ```python
        comparison = nobn.training.report(["runs/a-0", "runs/a-1", "runs/b-0"])
        print(comparison)
        comparison.draw("runs.png")
        ```
    """

    outcomes: Sequence[Outcome]
    by: Sequence[str] | None = None

    def __post_init__(self) -> None:
        for outcome in check_list("outcomes", self.outcomes):
            check_kind("an outcome", outcome, Outcome, "a run. Make it with report")
        if not self.outcomes:
            raise InvalidValue("There is nothing to compare. Give one run or more.")
        known = self.outcomes[0].settings
        for name in self.compared:
            if name not in known:
                raise InvalidValue(
                    f"by={','.join(self.compared)}: {name!r} is not a setting. "
                    f"Choose from {', '.join(known)}."
                )

    @property
    def compared(self) -> list[str]:
        """Names of the settings that table and plot compare."""
        names = differing([outcome.settings for outcome in self.outcomes])
        if self.by is None:
            return names
        return list(dict.fromkeys([*self.by, *({"dataset"} & {*names})]))

    @property
    def groups(self) -> list[Group]:
        """All groups, in the order of the runs."""
        settings, by = [outcome.settings for outcome in self.outcomes], self.compared
        names = list(dict.fromkeys([*by, *differing(settings)]))
        groups: list[Group] = []
        for outcome in self.outcomes:
            own = {name: outcome.settings.get(name) for name in names}
            alike = (group for group in groups if group.settings == own)
            if (group := next(alike, None)) is None:
                groups.append(group := Group(own, []))
            group.outcomes.append(outcome)
        winners: dict[str, Group] = {}
        for group in groups:
            key = str([group.settings[name] for name in by])
            winners[key] = max(winners.get(key, group), group, key=Group._rank)
        return [replace(g, best=any(g is w for w in winners.values())) for g in groups]

    def to_dict(self) -> dict[str, Any]:
        """Returns all groups and runs as plain JSON types.

        A group has mean, smallest and largest value and the standard deviation of a
        sample (None for a single run): of the metrics of the saved weights, and of the
        accuracy after each epoch that all its runs have. `best` marks the groups that
        the table shows.
        """
        content = {
            "by": self.compared,
            "shared": self._common(),
            "groups": [group.to_dict() for group in self.groups],
            "runs": [outcome.to_dict() for outcome in self.outcomes],
        }
        return dict(json.loads(_run_files.as_json(content)))  # lists, and None for NaN

    def to_json(self, path: str | os.PathLike) -> None:
        """Writes `to_dict()` to a file, atomically."""
        _run_files.write_json(Path(path), self.to_dict())

    def draw(self, path: str | os.PathLike) -> None:
        """Plots accuracy over epochs: mean lines, with bands from lowest to highest.

        It is that of the validation split, or of the test images without a split.

        Raises:
            ImportError: If matplotlib is not installed.
            ValueError: If the name does not end in .png, or no run has a result.
            OSError: If the file cannot be written; an earlier file then stays.
        """
        groups = [group for group in self.groups if group.best and group.finished]
        target = check_plot(path)
        if not groups:
            raise InvalidValue("No run has a result to plot. Repair the failed runs.")
        figure = new_figure(target, (3.1, 2.9))
        draw_groups(figure, self._title(), self.compared, groups)
        with replacing(target) as temporary:
            figure.savefig(temporary, dpi=DPI, bbox_inches="tight")

    def table(self) -> Table:
        """Returns a `rich` table with a row for each of the best groups."""
        compared = self.compared
        groups = [group for group in self.groups if group.best]
        names = list(groups[0].settings)
        table = Table(title=self._title(), title_justify="left")
        table.box, table.pad_edge, table.collapse_padding = box.SIMPLE_HEAD, False, True
        for name in names:
            heading = words(name) if name in compared else f"best {words(name)}"
            said = " ".join([heading, *(shown(g.settings[name]) for g in groups)])
            # As wide as the longest word, so that it is not broken.
            width = min(_WIDEST, max(map(len, said.split())))
            lines = heading.replace(" ", "\n")
            table.add_column(lines, overflow="fold", min_width=width)
        tested = [run.examples for group in groups for run in group.finished]
        few = any(count is not None and count < FEW_EXAMPLES for count in tested)
        rows = [group._row() for group in groups]
        failed = any(row["failed"] != "0" for row in rows)
        shows = {"failed": failed, "± of 95 %": few}
        results = [name for name in _RESULTS if shows.get(name, True)]
        for heading in results:
            # Results never wrap; settings do if the table is too wide.
            lines = heading.replace(" ", "\n").replace("95\n%", "95 %")
            table.add_column(lines, justify="right", no_wrap=True)
        for group, row in zip(groups, rows, strict=True):
            cells = [*map(shown, group.settings.values()), *(row[h] for h in results)]
            table.add_row(*cells)
        validated, remarks = _validated(groups), []
        if len(names) > len(compared):
            where = "validation split" if validated else "test images"
            remarks = [f"Best: highest mean accuracy, chosen on the {where}."]
        if not validated and any(group.finished for group in groups):
            remarks.append("Best epochs are those on test images (no --validation).")
        table.caption, table.caption_justify = "\n".join(remarks) or None, "left"
        return table

    def __str__(self) -> str:
        return as_text(self.table())

    def _common(self) -> dict[str, Any]:
        first, *others = (outcome.settings.items() for outcome in self.outcomes)
        return dict(item for item in first if all(item in other for other in others))

    def _title(self) -> str:
        common = self._common()
        names = [n for n in _IN_TITLE if common.get(n) is not None]
        return ", ".join(named(name, common[name]) for name in names)


def _validated(groups: Sequence[Group]) -> bool:
    splits = {run.history_split for group in groups for run in group.finished}
    return splits == {"validation"}


def report(
    folders: Sequence[str | os.PathLike], by: Sequence[str] | None = None
) -> Comparison:
    """Returns the comparison of finished runs, without opening their models.

    Other files and folders, which a pattern such as `runs/*` may contain, are skipped
    with a warning; the two files of `compare` without one.

    Arguments:
        folders: Run folders, or the folder of `compare` for all of its runs; a folder
            that is given twice counts once.
        by: Names of the settings to compare by; None for all that differ.

    Raises:
        FileNotFoundError: If none is a finished run.
        ValueError: If a run is damaged, or a name in `by` is not a setting.

    Example:
        ```python
        print(nobn.training.report(["runs/nobn-0", "runs/nobn-1"]))
        ```
    """
    unique = {
        os.path.realpath(run): run
        for folder in check_list("folders", folders)
        for run in _runs_in(check_path("a folder", folder))
    }
    paths = list(unique.values())
    runs = [folder for folder in paths if Path(folder, _run_files.RECORD_FILE).exists()]
    if not runs:
        raise FileNotFoundError(
            f"{', '.join(paths) or 'An empty list'} contains no finished run: there is "
            "no run.json. Give the folders of finished runs, such as runs/*."
        )
    others = [x for x in paths if x not in runs and Path(x).name not in COMPARED_FILES]
    if others:
        said = "Skipped, because there is no run.json of a finished run: %s."
        _log.warning(said, ", ".join(others))
    return Comparison(named_apart([Outcome.read(folder) for folder in runs]), by)


def _runs_in(folder: str) -> list[str]:
    """Returns the run folders in the folder of `compare`; else the folder itself."""
    if Path(folder, _run_files.RECORD_FILE).exists():
        return [folder]
    names = (_run_files.RECORD_FILE, _run_files.SETTINGS_FILE)
    files = [file for name in names for file in Path(folder).glob(f"*/{name}")]
    return sorted({os.fspath(file.parent) for file in files}) or [folder]


# Line styles show this setting, if it is compared; colors show the others.
_DASHED = "batch_size"
_DASHES = ("-", "--", ":", "-.")
# Smallest distance of two values next to the curves, as a fraction of the axis.
_APART = 0.055


def draw_groups(
    figure: Any, title: str, compared: Sequence[str], groups: Sequence[Group]
) -> None:
    """Plots a mean line in a band for each group, with its last value next to it."""
    figure.suptitle(drawable(title))
    axes = figure.subplots()
    axes.set_xlabel("epoch")
    split = "validation" if _validated(groups) else "test"
    axes.set_ylabel(f"{split} accuracy, %")
    axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    axes.grid(alpha=0.3)
    methods = [name for name in compared if name != _DASHED] or ["normalization"]
    dashed = [_DASHED] * (_DASHED in compared)
    colours: dict[str, str] = {}
    dashes: dict[str, str] = {}
    ends = []
    for group in groups:
        known = {**group.outcomes[0].settings, **group.settings}
        method, size = (
            ", ".join(shown(known[name]) for name in group.told_by(names))
            for names in (methods, dashed)
        )
        colour = colours.setdefault(method, COLOURS[len(colours) % len(COLOURS)])
        dash = dashes.setdefault(size, _DASHES[len(dashes) % len(_DASHES)])
        curve = group.numbers[group.watched]
        epochs = [row["epoch"] for row in curve]
        names = ("min", "mean", "max")
        low, mean, high = ([100 * row[name] for row in curve] for name in names)
        axes.fill_between(epochs, low, high, color=colour, alpha=0.2, linewidth=0)
        look = dict(color=colour, linestyle=dash, marker=".", markersize=4)
        axes.plot(epochs, mean, **look)
        ends.append((mean[-1], colour))
    _write_ends(axes, sorted(ends))
    blank = {"color": "none"}
    of_colours = [(name, {"color": each}) for name, each in colours.items()]
    of_dashes = [(n, {"color": "0.4", "linestyle": d}) for n, d in dashes.items()]
    columns = [
        [(", ".join(map(words, names)), blank), *looks]
        for names, looks in ((methods, of_colours), (dashed, of_dashes))
        if names
    ]
    rows = max(map(len, columns))
    entries = [x for own in columns for x in own + [("", blank)] * (rows - len(own))]
    figure.legend(
        [axes.plot([], [], **look)[0] for _, look in entries],
        [drawable(said) for said, _ in entries],
        # Outside of the figure: saving enlarges it to everything that is drawn.
        **dict(loc="upper left", bbox_to_anchor=(1, 0.92), ncols=len(columns)),
        **dict(handlelength=2.2, columnspacing=1.2),
    )


def _write_ends(axes: Any, ends: Sequence[tuple[float, str]]) -> None:
    """Writes the last values of curves next to the axes, without overlap."""
    low, high = axes.get_ylim()
    place = -math.inf
    for value, colour in ends:
        place = max(value, place + _APART * (high - low))
        axes.annotate(
            f"{value:.1f}",
            (1, place),
            **dict(xycoords=axes.get_yaxis_transform(), va="center"),
            **dict(xytext=(3, 0), textcoords="offset points"),
            **dict(color=colour, fontsize="x-small", annotation_clip=False),
        )
