"""The folder of a run: who may write in it, what a failure leaves, and the record."""

from __future__ import annotations

import importlib.metadata
import json
import logging
import os
import platform
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..._checks import check_path
from ..._errors import InvalidValue
from ..._figures import COLOURS, DPI, drawable, new_figure
from ..._files import check_folder, is_leftover, replacing
from ..._keras import check_model, keras
from ..._names import MODEL_FROM_INIT
from ..._version import __version__
from ...config import _run_files
from ...data import DatasetInfo, classified_images
from ...loading import write_dataset
from .._settings import RunSettings
from ._archives import Position, checkpoints_in, position_of
from ._lock import check_not_in_use, locked
from ._opening import SETTINGS, read_object

_log = logging.getLogger("larq_nobn")
# The key of a digest of the images.
_IMAGES_SHA256 = "pictures"
# A loss that falls by more is drawn on a logarithmic axis: it hides the rest.
_WIDE = 10


@contextmanager
def lock_run_folder(
    output: str | os.PathLike, settings: Mapping[str, Any], resume: bool = False
) -> Iterator[Path]:
    """Locks a folder for a run; a failure leaves it, to be resumed.

    While the run is unfinished, `settings.json` says whose folder it is, and a lock
    keeps other processes out. A finished run needs no checkpoints any more.

    Raises:
        RunInUse: If another process trains in it.
        FileExistsError: If the folder contains something else.
        NotADirectoryError: If it, or a folder above it, is a file.
        ValueError: If the run that it contains has other settings, or started with
            other images.
    """
    folder = Path(output)
    check_run_folder(folder, settings, resume)
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        # Again, for until now another process could start here, or end.
        check_output(folder, settings, resume)
        if before_first_checkpoint(folder):
            _remove(folder / _run_files.LOGS)
        _remove_leftovers(folder)
        _run_files.write_json(folder / _run_files.SETTINGS_FILE, settings)
        yield folder
        _clear(folder)


def check_run_folder(folder: Path, settings: Mapping[str, Any], resume: bool) -> None:
    """Raises what `lock_run_folder` does, and creates nothing."""
    check_not_in_use(folder)
    check_output(folder, settings, resume)


def _clear(folder: Path) -> None:
    """Removes what a run needs only while it is unfinished."""
    _remove(folder / _run_files.CHECKPOINTS)
    (folder / _run_files.SETTINGS_FILE).unlink(missing_ok=True)
    _remove_leftovers(folder)


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


def _remove_leftovers(folder: Path) -> None:
    for file in filter(is_leftover, folder.iterdir()):
        file.unlink()


def before_first_checkpoint(folder: Path) -> bool:
    """Whether a run ended before its first checkpoint: any other may start there."""
    if not (folder / _run_files.SETTINGS_FILE).is_file():
        return False
    names = {path.name for path in folder.iterdir() if not is_leftover(path)}
    return names <= {_run_files.SETTINGS_FILE, _run_files.LOGS, _run_files.LOCK}


def is_finished(output: str | os.PathLike, settings: Mapping[str, Any]) -> bool:
    """Whether a folder contains a finished run; one of other settings is an error."""
    folder = Path(output)
    if not (folder / _run_files.RECORD_FILE).is_file():
        return False
    kept = _settings_in(folder / _run_files.RECORD_FILE)
    more = settings["epochs"] - kept["epochs"]
    if more > 0 and kept == {**settings, "epochs": kept["epochs"]}:
        raise InvalidValue(
            f"{folder} is finished: over its {kept['epochs']} epochs the learning rate "
            "has fallen to 0. Train on in another output, from its weights and with a "
            f"schedule of its own: --init {folder} --recipe {kept['recipe']} --epochs "
            f"{more} (or init=...)."
        )
    _check_settings(folder, kept, settings)
    _clear(folder)  # in case the run was killed before it could do so
    return True


def kept_settings(output: str | os.PathLike) -> dict[str, Any] | None:
    """Returns the settings of the run in a folder, finished or not, if there is one."""
    if before_first_checkpoint(Path(output)):
        return None
    files = (
        Path(output, name)
        for name in (_run_files.RECORD_FILE, _run_files.SETTINGS_FILE)
    )
    return next((_settings_in(file) for file in files if file.is_file()), None)


def _settings_in(file: Path) -> dict[str, Any]:
    if file.name == _run_files.SETTINGS_FILE:
        return read_object(file, SETTINGS)
    return read_object(file, {"settings": SETTINGS})["settings"]


def position_kept(output: Path) -> Position | None:
    """Returns how far the newest checkpoint is: its epochs, and steps after them.

    It may be that of the first stage or the teacher of a run.
    """
    parts = [output, *(output / part for part in _run_files.PARTS)]
    checkpoints = (checkpoints_in(part / _run_files.CHECKPOINTS)[:1] for part in parts)
    return next((position_of(newest[0]) for newest in checkpoints if newest), None)


def check_output(folder: Path, settings: Mapping[str, Any], resume: bool) -> None:
    """Rejects a folder that does not belong to such a run alone."""
    check_folder(folder, "a run")
    occupied = folder.is_dir() and not before_first_checkpoint(folder)
    files = sorted(folder.iterdir()) if occupied else []
    there = [path for path in files if path.name != _run_files.LOCK]
    unfinished = occupied and (folder / _run_files.SETTINGS_FILE).is_file()
    if there and not resume:
        hint = "resume it by --resume (resume=True)" if unfinished else "delete it"
        raise FileExistsError(
            f"{folder} is not empty, and a run never overwrites another. "
            f"Choose another output, or {hint}."
        )
    foreign = [
        p.name for p in there if p.name not in _run_files.OURS and not is_leftover(p)
    ]
    # A run writes its settings first, so nothing else of it can be there alone.
    if foreign or (there and not unfinished and not all(map(is_leftover, there))):
        raise FileExistsError(
            f"{folder} contains {', '.join(foreign or [p.name for p in there])}, so it "
            "is not the folder of an unfinished run alone. Choose another output."
        )
    if unfinished:
        _check_settings(
            folder, _settings_in(folder / _run_files.SETTINGS_FILE), settings
        )
    elif _is_within(folder, str(settings.get("dataset"))):
        raise FileExistsError(
            f"{folder} lies within the images of {settings['dataset']}, and the plots "
            "of a run would be taken for more of them. Choose another output."
        )


def _is_within(folder: Path, dataset: str) -> bool:
    """Whether a folder is inside of that of a data set, which has its whole path."""
    images = Path(dataset)
    if not images.is_absolute():
        return False
    place = Path(os.path.realpath(folder))
    return Path(os.path.realpath(images)) in (place, *place.parents)


def _check_settings(
    folder: Path, kept: Mapping[str, Any], given: Mapping[str, Any]
) -> None:
    """Raises a ValueError if a run has other settings, or other images."""
    kept, given = dict(kept), dict(given)
    was, now = kept.pop(_IMAGES_SHA256, None), given.pop(_IMAGES_SHA256, None)
    if was and now and was != now:
        raise InvalidValue(
            f"Images in {given['dataset']} were added, removed or changed since the "
            f"run in {folder} started with them. Put them back as they were, or choose "
            "another output."
        )
    names = dict.fromkeys([*given, *kept])
    differing = [name for name in names if kept.get(name) != given.get(name)]
    if differing:
        theirs, ours = (
            ", ".join(f"{name}={settings.get(name)!r}" for name in differing)
            for settings in (kept, given)
        )
        raise InvalidValue(
            f"{folder} contains a run with {theirs}, but {ours} was given. Resume with "
            "the settings that it started with, or choose another output."
        )


def plain(settings: RunSettings, images: str | None = None) -> dict[str, Any]:
    """Settings as JSON gives them back, and a digest of images that could change."""
    content = json.loads(json.dumps(asdict(settings)))
    return {**content, _IMAGES_SHA256: images} if images else content


def write_record(
    folder: Path,
    settings: RunSettings,
    network: keras.Model,
    history: Sequence[dict[str, float]],
    metrics: Mapping[str, float],
    info: DatasetInfo,
    initial: Mapping[str, Any],
    history_of: str,
) -> dict[str, Any]:
    """Writes the last files of a run, and returns what `run.json` contains.

    `history_of` is the split that `val_*` in the history are of.
    """
    version = importlib.metadata.version
    examples = {
        "train": info.train_examples,
        "validation": info.validation_examples,
        "test": info.test_examples,
    }
    if not info.validation_examples:
        del examples["validation"]
    record = {
        "settings": asdict(settings),
        "metrics": dict(metrics),
        "seconds_per_epoch": [row["seconds"] for row in history],
        "parameters": int(network.count_params()),
        "preprocessing": {
            "image_shape": list(info.image_shape),
            "mean": [float(value) for value in info.mean],
            "std": [float(value) for value in info.std],
            "crop": info.crop,
            "class_names": list(info.class_names),
        },
        "examples": examples,
        "versions": {
            **{name: version(name) for name in ("tensorflow", "larq", "numpy")},
            "tf_keras": version("tf-keras"),
            "larq_nobn": __version__,
            "python": platform.python_version(),
        },
        **initial,
        "history_split": history_of,
    }
    save_model(network, folder / "model.keras", info if info.mean else None)
    images = Path(settings.dataset).name  # of a folder
    model = settings.model
    if settings.init is not None and model == MODEL_FROM_INIT:
        model = Path(settings.init).name
    said = (model, settings.normalization, images)
    title = ", ".join(part for part in said if part is not None)
    draw_curves(folder / "curves.png", title, history, history_of)
    # Last: its presence means finished.
    _run_files.write_json(folder / _run_files.RECORD_FILE, record)
    return record


def draw_curves(
    target: Path, title: str, history: Sequence[Mapping[str, float]], split: str
) -> None:
    """Draws loss and accuracy over the epochs, or says why there is no plot."""
    try:
        figure = new_figure(target, (6, 2.7))
    except ImportError as error:
        _log.warning("%s", error)
        return
    epochs = [row["epoch"] for row in history]
    figure.suptitle(drawable(title))
    for axes, name in zip(figure.subplots(1, 2), ("accuracy", "loss"), strict=True):
        lines = (("training", name, "--"), (split, f"val_{name}", "-"))
        for colour, (label, key, dashes) in zip(COLOURS[1::-1], lines, strict=True):
            values = [row[key] for row in history]
            axes.plot(epochs, values, dashes, color=colour, marker=".", label=label)
        shown = [row[key] for row in history for _, key, _ in lines]
        if name == "loss" and 0 < _WIDE * min(shown) < max(shown):
            axes.set_yscale("log")
        axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
        axes.set_xlabel("epoch")
        axes.set_ylabel(name)
        axes.grid(alpha=0.3)
        axes.legend()
    with replacing(target) as temporary:
        figure.savefig(temporary, dpi=DPI)


def save_model(
    model: keras.Model,
    path: str | os.PathLike,
    dataset: str | os.PathLike[str] | DatasetInfo | None = None,
) -> None:
    """Saves a model as a `.keras` file, atomically.

    Arguments:
        model: A built Keras model.
        path: A name that ends in `.keras`; an earlier file is replaced.
        dataset: Data set that the model classifies, as in `data.open_dataset`. The file
            then contains its name, class names, mean and standard deviation, so that
            commands need no `--dataset`. Keras ignores them; `model.save` leaves them
            out.

    Raises:
        ValueError: If the name ends otherwise, or the model does not classify images of
            the data set.
        OSError: If the file cannot be written; an earlier one is then left as it was.

    Example:
        ```python
        model = nobn.models.ReActNet18((8, 8, 1), 10, width=16, blocks=(1, 1))
        nobn.training.save_model(model, "model.keras", dataset="digits")
        ```
    """
    check_model(model)
    target = Path(check_path("path", path))
    if target.suffix != ".keras":
        raise InvalidValue(
            f"{target} is not a name for a Keras model. Choose one that ends in "
            ".keras, such as model.keras."
        )
    info = None if dataset is None else classified_images(model, dataset)[0]
    with replacing(target) as temporary:
        model.save(temporary)
        if info is not None:
            write_dataset(temporary, info)
