"""Training runs that are not repeated where their log is kept.

The log of an experiment is two files: `runs.json`, with what all runs share and what
each has of its own, and `curves.csv`, with a row for each epoch of each run.
"""

from __future__ import annotations

import csv
import io
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import larq_nobn as nobn
import tensorflow as tf
from _results import write_text

_CALIBRATION = "test_calibration_error"


def history(settings, run, kept, data=lambda: None, around=nullcontext):
    """The epochs of a run, which is trained, or resumed, where its log is not kept.

    A log in `kept` may be that of another machine, which has the folder of the run.

    Arguments:
        kept: The folder of the experiment, and the name of the run in it.
        data: Called for the images only where something is trained.
        around: Makes the context of a training from its settings.
    """
    if kept.name not in kept_runs(kept.parent):
        tf.keras.backend.clear_session()
        with around(settings):
            nobn.training.train(settings, run, resume=True, data=data())
        keep_run(run, kept, settings)
    return kept_runs(kept.parent)[kept.name][1]


def kept_runs(place):
    """The record and the epochs of every run that is kept, by name."""
    if not (place / "runs.json").exists():
        return {}
    stored = json.loads((place / "runs.json").read_text(encoding="utf-8"))
    shared = stored["shared"]
    epochs = {name: [] for name in stored["runs"]}
    with (place / "curves.csv").open(newline="", encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            rows = epochs[row.pop("run")]
            rows.append({name: float(value) for name, value in row.items() if value})
    return {
        name: (
            {**shared, **own, "settings": {**shared["settings"], **own["settings"]}},
            epochs[name],
        )
        for name, own in stored["runs"].items()
    }


def logged(numbers):
    """Metrics as the logs call them: `val_*` of what is tested after each epoch."""
    names = {f"test_{name}": f"val_{name}" for name in ("loss", "accuracy")}
    if "val_accuracy" in numbers:
        return numbers
    return {names.get(name, name): value for name, value in numbers.items()}


def keep_run(run, kept, settings=None):
    """Adds the log of a finished run to that of its experiment.

    `settings` have the place of an image folder, which the run does not.
    """
    record, rows = nobn.training.load_record(run)
    record = {n: each for n, each in record.items() if n != "seconds_per_epoch"}
    record["metrics"] = logged(record["metrics"]) | record["metrics"]
    rows = [logged(row) for row in rows]
    runs = kept_runs(kept.parent)
    before = runs[kept.name][0]["metrics"] if kept.name in runs else {}
    given = record["settings"]["dataset"] == "given"  # images that are stored nowhere
    if not given and _CALIBRATION not in record["metrics"]:
        error = before.get(_CALIBRATION) or calibration_error(run, settings)
        record["metrics"] = {**record["metrics"], _CALIBRATION: error}
    # As JSON gives it back, so that what is equal is found to be.
    record = json.loads(json.dumps(record))
    if runs.get(kept.name) != (record, rows):
        write_runs(kept.parent, {**runs, kept.name: (record, rows)})


def calibration_error(run, settings=None):
    """On all test images; a run without a validation split does not log it."""
    record, _ = nobn.training.load_record(run)
    settings = settings or nobn.training.RunSettings(**record["settings"])
    images = nobn.data.open_dataset(**settings.images).batches("test", 256)
    scores = nobn.training.evaluate(nobn.training.open_model(run), images)
    return scores["calibration_error"]


def write_runs(place, runs):
    """Writes both files of an experiment."""
    records = {name: record for name, (record, _) in sorted(runs.items())}
    shared = in_common(list(records.values()))
    shared["settings"] = in_common([each["settings"] for each in records.values()])
    own = {
        name: {
            **without(record, shared),
            "settings": without(record["settings"], shared["settings"]),
        }
        for name, record in records.items()
    }
    lines = [f"  {json.dumps(name)}: {json.dumps(each)}" for name, each in own.items()]
    text = ",\n".join(lines)
    write_text(
        f'{{\n "shared": {json.dumps(shared)},\n "runs": {{\n{text}\n }}\n}}\n',
        place / "runs.json",
    )
    epochs = [
        {"run": name, **row, "epoch": int(row["epoch"])}
        for name in records
        for row in runs[name][1]
    ]
    stream = io.StringIO()
    columns = list(dict.fromkeys(column for row in epochs for column in row))
    writer = csv.DictWriter(stream, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(epochs)
    write_text(stream.getvalue(), place / "curves.csv")


def in_common(records):
    first, *others = records
    return {
        name: value
        for name, value in first.items()
        if all(name in each and each[name] == value for each in others)
    }


def without(record, shared):
    return {name: value for name, value in record.items() if name not in shared}


@contextmanager
def as_folders(place) -> Iterator[list[Path]]:
    """The kept runs as run folders, which `training.report` reads.

    Those of before there were validation splits have a history of the test images.
    """
    with tempfile.TemporaryDirectory() as scratch:
        folders = []
        for name, (record, rows) in kept_runs(place).items():
            folder = Path(scratch) / name
            folder.mkdir()
            last = {
                f"test_{key}": rows[-1][f"val_{key}"] for key in ("loss", "accuracy")
            }
            record = {
                "history_split": "test",
                **record,
                "metrics": last | record["metrics"],
            }
            (folder / "run.json").write_text(json.dumps(record), encoding="utf-8")
            with (folder / "history.csv").open("w", newline="") as stream:
                writer = csv.DictWriter(stream, list(rows[0]))
                writer.writeheader()
                writer.writerows(rows)
            folders.append(folder)
        yield folders


def reached(history):
    """The last accuracy in %."""
    return round(100 * logged(history[-1])["val_accuracy"], 2)
