"""The run folder: its lock, its files, and how they are written and read."""

from __future__ import annotations

import csv
import importlib.metadata
import json
import logging
import math
import os
import platform
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from .. import data
from .._checks import check_path
from .._errors import InvalidValue
from .._figures import COLOURS, DPI, drawable, new_figure
from .._files import check_folder, check_shape, is_leftover, replacing
from .._keras import keras
from .._names import GIVEN, SPLITS, find_pretrained
from .._version import __version__
from ..config import _run_files
from ..config._fields import settings_of
from ..config._settings import Settings, complete, stored_settings
from ..loading import open_model, read_dataset, save_model
from ..models import pretrained
from . import _checkpoints
from ._callbacks import WeightAverages, tested
from ._checkpoints import NETWORK, Checkpoints, CheckpointValue
from ._run_settings import RunSettings

_log = logging.getLogger("larq_nobn")
_LISTS = ("image_shape", "mean", "std", "class_names")
# Keys that a `run.json` must have.
_METRICS = ("test_loss", "test_accuracy")
_RECORD = {
    "settings": {},
    "metrics": dict.fromkeys(_METRICS, object),
    "versions": {},
    "history_split": str,
}
_COLUMNS = dict.fromkeys(("epoch", "seconds"), float)
# Files that a run folder may contain before the run: of a desktop, and log files.
_LITTER = re.compile(
    r"\..*|Thumbs\.db|desktop\.ini|.*\.log|(log|nohup|stdout|stderr)\.(txt|out)", re.I
)


class RunInUse(FileExistsError):
    """Another process trains in a run folder."""


@contextmanager
def lock_run_folder(
    output: str | os.PathLike, settings: Mapping[str, Any], resume: bool = False
) -> Iterator[Path]:
    """Locks the folder of a run, which keeps its files for a resume after a failure.

    An unfinished run keeps its settings in `settings.json`, and a lock, which ends with
    the process, keeps other processes out. At the end, checkpoints are removed.
    """
    folder = Path(output)
    check_output(folder, settings, resume)
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / _run_files.LOCK
    lock = FileLock(file, timeout=0, thread_local=False)
    try:
        lock.acquire()
    except Timeout as error:
        raise RunInUse(
            f"{folder} is in use: another process trains in it. Wait until it ends, or "
            "choose another output."
        ) from error
    try:
        # Check again: until the lock, another process could start or end here.
        check_output(folder, settings, resume)
        if before_first_checkpoint(folder):
            shutil.rmtree(folder / _run_files.LOGS, ignore_errors=True)
        _remove_leftovers(folder)
        _run_files.write_json(folder / _run_files.SETTINGS_FILE, settings)
        yield folder
        _clear(folder)
    finally:
        file.unlink(missing_ok=True)
        lock.release()


def _clear(folder: Path) -> None:
    """Removes the files that only an unfinished run needs."""
    shutil.rmtree(folder / _run_files.CHECKPOINTS, ignore_errors=True)
    (folder / _run_files.SETTINGS_FILE).unlink(missing_ok=True)
    _remove_leftovers(folder)


def _remove_leftovers(folder: Path) -> None:
    for file in filter(is_leftover, folder.iterdir()):
        file.unlink()


def before_first_checkpoint(folder: Path) -> bool:
    """Returns whether any run may start here, as in a folder without a checkpoint."""
    paths = [*folder.iterdir()] if folder.is_dir() else []
    litter = [p for p in paths if _LITTER.fullmatch(p.name) and p.is_file()]
    names = {p.name for p in paths if p not in litter and not is_leftover(p)}
    settings = _run_files.SETTINGS_FILE
    return not names or (settings in names and names <= {settings, _run_files.LOGS})


def check_output(folder: Path, settings: Mapping[str, Any], resume: bool) -> None:
    """Rejects a folder that contains something else, or a run of other settings."""
    check_folder(folder, "a run")
    if before_first_checkpoint(folder):
        source = str(settings.get("dataset"))  # a folder has its whole path
        place = Path(os.path.realpath(folder))
        if os.path.isabs(source) and place.is_relative_to(os.path.realpath(source)):
            raise FileExistsError(
                f"{folder} is inside the image folder {source}, and the plots of the "
                "run would count as images. Choose another output."
            )
        return
    file = folder / _run_files.SETTINGS_FILE
    if not (resume and file.is_file()):
        hint = ", or resume it by --resume (resume=True)" if file.is_file() else ""
        raise FileExistsError(
            f"{folder} is not empty, and a run never overwrites another. Choose "
            f"another output{hint}."
        )
    _check_settings(folder, complete(_run_files.read_object(file, {})), settings)


def is_finished(output: str | os.PathLike, settings: Mapping[str, Any]) -> bool:
    """Returns whether a folder contains a finished run; rejects other settings."""
    folder = Path(output)
    file = folder / _run_files.RECORD_FILE
    if not file.is_file():
        return False
    stored = complete(_run_files.read_object(file, {"settings": {}})["settings"])
    more = settings["epochs"] - stored["epochs"]
    if more > 0 and stored == {**settings, "epochs": stored["epochs"]}:
        raise InvalidValue(
            f"{folder} is finished: its learning-rate schedule ends after "
            f"{stored['epochs']} epochs. To train longer, start another run from its "
            f"weights, with a schedule of its own: --init {folder} --recipe "
            f"{stored['recipe']} --epochs {more} (or init=...)."
        )
    _check_settings(folder, stored, settings)
    _clear(folder)  # which a run that was killed at its end leaves
    return True


def _check_settings(
    folder: Path, stored: Mapping[str, Any], new: Mapping[str, Any]
) -> None:
    """Raises a ValueError if the stored run has other settings, or other images."""
    digest, place = _run_files.IMAGES_SHA256, str(new["dataset"])
    was, now = stored.get(digest), new.get(digest)
    if was and now and was != now:
        said = "The given images" if place == GIVEN else f"Images in {place}"
        raise InvalidValue(
            f"{said} were added, removed or changed after the run in {folder} started. "
            "Restore them, or choose another output."
        )
    if (was and was == now) or stored["dataset"] == Path(place).name:
        new = {**new, "dataset": stored["dataset"]}  # the same images, moved
    # A resumed run does not need the file of init any more.
    known = None not in (stored.get("init_sha256"), new.get("init_sha256"))
    names = {**new, **stored}.keys() - {digest, "" if known else "init_sha256"}
    unused = {n for n, each in settings_of(Settings).items() if each.unmet(new)}
    differing = sorted(n for n in names - unused if stored.get(n) != new.get(n))
    if differing:
        theirs, ours = (
            ", ".join(f"{name}={settings.get(name)!r}" for name in differing)
            for settings in (stored, new)
        )
        raise InvalidValue(
            f"{folder} contains a run with {theirs}, but {ours} was given. Resume with "
            "the settings that it started with, or choose another output."
        )


def plain(settings: RunSettings, digest: str | None = None) -> dict[str, Any]:
    """Returns settings as plain JSON types, with the digest of images, if given."""
    content = json.loads(json.dumps(asdict(settings)))
    return {**content, _run_files.IMAGES_SHA256: digest} if digest else content


def trained_on(init: str) -> dict[str, Any] | None:
    """Returns the settings of the images that an `init` was trained on, if known."""
    path, trained = Path(init), find_pretrained(init)
    if path.is_dir():
        return stored_settings(path)
    if trained is not None:
        (row,) = (row for row in pretrained() if row.name == trained.stem)
        return {"dataset": row.dataset}
    info = read_dataset(path) if path.is_file() else None
    return None if info is None else {"dataset": info.name}


# The files.


@dataclass(frozen=True)
class Run:
    """A finished training run.

    Arguments:
        folder: The run folder.
        model: The trained model.
        history: One row per epoch, as in `history.csv`.
        record: The content of `run.json`: settings, versions, metrics.
    """

    folder: Path
    model: keras.Model
    history: list[dict[str, float]] = field(repr=False)
    record: dict[str, Any] = field(repr=False)

    @property
    def dataset(self) -> data.DatasetInfo:
        """Class names, image size, mean and standard deviation of the training data.

        They are stored in the run; the images need not exist any more.
        """
        settings, steps = self.record["settings"], self.record["preprocessing"]
        name, names = settings["dataset"], steps["class_names"]
        lists: dict[str, Any] = {part: tuple(steps[part]) for part in _LISTS}
        counts = self.record["examples"].items()
        return data.DatasetInfo(
            name=name,
            classes=len(names) or data.open_dataset(name).info.classes,
            holdout=None if name in data.NAMES else settings["holdout"],
            crop=steps["crop"],
            **lists,
            **{f"{split}_examples": count for split, count in counts},
        )


def load_run(folder: str | os.PathLike, trust: bool = False) -> Run:
    """Opens a run folder, with its model compiled; no code from its files is run.

    An unfinished run has the weights of its newest checkpoint; its record contains
    `finished` False, and the metrics of the last epoch in its history.

    Arguments:
        folder: The run folder, `output` of `train`.
        trust: Whether to open its model as Keras does, which runs code from the file.
            Only for runs of your own.

    Raises:
        FileNotFoundError: If the folder, or one of its files, is missing.
        ValueError: If one of its files is damaged or contains code.

    Example:
        ```python
        run = nobn.training.load_run("runs/digits")
        print(run.record["metrics"]["test_accuracy"])
        ```
    """
    place = Path(check_path("folder", folder))
    network = place / _run_files.CHECKPOINTS / NETWORK
    if (place / _run_files.RECORD_FILE).exists() or not network.exists():
        record, history = load_record(folder)
        return Run(place, open_model(folder, True, trust), history, record)
    model, info = open_model(network, True, trust), read_dataset(network)
    settings = complete(_run_files.read_object(place / _run_files.SETTINGS_FILE, {}))
    journal, averages = CheckpointValue([]), None
    if settings["ema"] is not None:
        averages = WeightAverages(model, settings["ema"])
    variables = averages.variables if averages else ()
    Checkpoints(network.parent, {"journal": journal}, averages=variables).restore(model)
    if averages:
        averages.swap()
    history = [dict(row) for row in journal.value]
    last = history[-1] if history else {}
    metrics = {n: v for n, v in last.items() if n.endswith(("loss", "accuracy"))}
    record = {"settings": settings, "metrics": metrics, "finished": False}
    if info is not None:
        record |= {"preprocessing": _preprocessing(info), "examples": {}}
    return Run(place, model, history, record)


def load_record(
    folder: str | os.PathLike,
) -> tuple[dict[str, Any], list[dict[str, float]]]:
    """Returns the content of `run.json` and the rows of `history.csv` of a run folder.

    Arguments:
        folder: The run folder, `output` of `train`.

    Raises:
        FileNotFoundError: If the folder, or one of the two files, is missing.
        ValueError: If one of them is damaged.

    Example:
        ```python
        record, history = nobn.training.load_record("runs/digits")
        print(record["settings"]["learning_rate"], history[-1]["test_accuracy"])
        ```
    """
    place = Path(check_path("folder", folder))
    file = place / _run_files.RECORD_FILE
    try:
        record = _run_files.read_object(file, _RECORD)
        with _run_files.intact(file):  # JSON has no number for NaN
            record["settings"] = complete(record["settings"])
            if unknown := record["settings"].keys() - settings_of(Settings):
                said = "%s has settings that this version does not know: %s."
                _log.warning(said, file, ", ".join(sorted(unknown)))
            record["metrics"] = {
                name: math.nan if value is None else float(value)
                for name, value in record["metrics"].items()
            }
        history = rows_of(place / _run_files.HISTORY_FILE)
        if record["history_split"] == "test":  # earlier versions wrote val_*
            record["metrics"] = {**tested(record["metrics"]), **record["metrics"]}
            for name in ("val_loss", "val_accuracy"):
                record["metrics"].pop(name, None)
            history = [tested(row) for row in history]
    except (FileNotFoundError, NotADirectoryError) as error:
        if (place / _run_files.SETTINGS_FILE).exists():
            raise FileNotFoundError(
                f"The training in {folder} is not finished. Resume it: larq-nobn train "
                f"--resume {folder} (resume=True)."
            ) from error
        raise FileNotFoundError(
            f"{folder} is not a finished run: {Path(error.filename).name} not found. "
            "Give the --output folder of a training run."
        ) from error
    return record, history


def rows_of(file: Path) -> list[dict[str, float]]:
    with _run_files.intact(file):
        read = csv.DictReader(file.read_text(encoding="utf-8").splitlines())
        rows = [{name: float(value) for name, value in row.items()} for row in read]
        check_shape(rows[0] if rows else {}, _COLUMNS)
    return rows


def write_record(
    folder: Path,
    settings: RunSettings,
    network: keras.Model,
    history: Sequence[dict[str, float]],
    metrics: Mapping[str, float],
    info: data.DatasetInfo,
    initial: Mapping[str, Any],
    history_of: str,
    others: Mapping[str, list[np.ndarray] | None],
) -> dict[str, Any]:
    """Writes the last files of a run, and returns the content of `run.json`.

    `others` are the weights of further model files by name; None stands for those of
    the network.
    """
    version, name = importlib.metadata.version, settings.dataset
    if os.path.isabs(name):
        (folder / _run_files.PLACE_FILE).write_text(name, encoding="utf-8")
        name = Path(name).name
        info = replace(info, name=name)
    record = {
        "settings": {**asdict(settings), "dataset": name},
        "sources": settings.sources,
        "metrics": dict(metrics),
        "seconds_per_epoch": [row["seconds"] for row in history],
        "parameters": int(network.count_params()),
        "preprocessing": _preprocessing(info),
        "examples": {split: getattr(info, f"{split}_examples") for split in SPLITS},
        "versions": {
            **{n: version(n) for n in ("tensorflow", "larq", "numpy", "tf_keras")},
            "larq_nobn": __version__,
            "python": platform.python_version(),
        },
        **initial,
        "history_split": history_of,
    }
    described = info if info.mean else None
    save_model(network, folder / _run_files.MODEL_FILE, described)
    for name, weights in others.items():
        file = folder / f"{name}.keras"
        if weights is None:
            with replacing(file) as temporary:
                shutil.copyfile(folder / _run_files.MODEL_FILE, temporary)
            continue
        own = [weight.numpy() for weight in _checkpoints.latent_weights(network)]
        _checkpoints.set_weights(network, weights)
        save_model(network, file, described)
        _checkpoints.set_weights(network, own)
    title = ", ".join(filter(None, (settings.model, settings.normalization, name)))
    draw_curves(folder / "curves.png", title, history, history_of)
    # Last, because a run with this file counts as finished.
    _run_files.write_json(folder / _run_files.RECORD_FILE, record)
    return record


def _preprocessing(info: data.DatasetInfo) -> dict[str, Any]:
    lists = {part: np.array(getattr(info, part)).tolist() for part in _LISTS}
    return {"crop": info.crop, **lists}


def draw_curves(
    target: Path, title: str, history: Sequence[Mapping[str, float]], split: str
) -> None:
    """Plots loss and accuracy over the epochs, or warns if matplotlib is missing."""
    try:
        figure = new_figure(target, (6, 2.7))
    except ImportError as error:
        _log.warning("%s", error)
        return
    epochs = [row["epoch"] for row in history]
    figure.suptitle(drawable(title))
    parts = ("accuracy", "accuracy, %", 100, 100), ("loss", "loss", 1, None)
    for axes, part in zip(figure.subplots(1, 2), parts, strict=True):
        name, label_of, scale, top = part
        tested = f"{'val' if split == 'validation' else 'test'}_{name}"
        lines = (("training", name, "--"), (split, tested, "-"))
        for colour, (label, key, dashes) in zip(COLOURS[1::-1], lines, strict=True):
            values = [row[key] * scale for row in history]
            axes.plot(epochs, values, dashes, color=colour, marker=".", label=label)
        # All of the axis: noise at chance is no rising curve.
        axes.set_ylim(0, top)
        axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
        axes.set_xlabel("epoch")
        axes.set_ylabel(label_of)
        axes.grid(alpha=0.3)
        axes.legend()
    with replacing(target) as temporary:
        figure.savefig(temporary, dpi=DPI)
