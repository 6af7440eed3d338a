"""Whatever a user gets wrong: exit code 2 and one sentence on stderr."""

from __future__ import annotations

import builtins
import errno
import io
import json
import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import larq_nobn
import pytest
import tensorflow as tf
from larq_nobn import training
from cli.answers import one_sentence
from cli.conftest import Invoke
from larq_nobn._keras import keras
from larq_nobn.config._run_files import write_json

ASK = " Ask its owner for the permission, or choose another path."


def raises(error: Exception) -> Callable[..., None]:
    def function(*_: object, **__: object) -> None:
        raise error

    return function


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of models that are not what the commands want."""
    folder = tmp_path_factory.mktemp("models")
    inputs = keras.Input((4, 4, 1))
    logits = keras.layers.Dense(10)(keras.layers.Flatten()(inputs))
    keras.Model(inputs, logits).save(folder / "float.keras")
    opened = keras.layers.Lambda(lambda x: x)(logits)
    keras.Model(inputs, opened).save(folder / "lambda.keras")
    first = keras.layers.BatchNormalization(axis=1, name="first")
    keras.Model(inputs, first(inputs)).save(folder / "channels.keras")
    return folder


@pytest.fixture
def place(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with them, and with other things of the kind."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(models, tmp_path, dirs_exist_ok=True)
    Path("full").mkdir()
    Path("full", "notes.txt").write_text("mine")
    Path("empty").mkdir()
    Path("notes.txt").write_text("text")
    Path("damaged.keras").write_bytes(b"PK\3\4 cut off")
    Path("damaged.tflite").write_bytes(b"\x1c\0\0\0TFL3 cut off")
    Path("loop").symlink_to("loop")
    return tmp_path


# A line for each kind of message; the bounds of numbers are in `test_numbers.py`.
@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("fly", "No such command 'fly'. See larq-nobn --help."),
        ("--loud", "No such option '--loud'"),
        ("train", "Missing option '--output'. See larq-nobn train --help."),
        ("train --output r --checkpoint-step 2", "Did you mean '--checkpoint-steps'?"),
        ("train --output r --lr 0.1", "Did you mean '--learning-rate'? See larq-nobn"),
        ("compare --output r --resume", "the same command again continues"),
        ("train --output=", "A word is empty ('--output='), as an unset shell"),
        ("train --output r --resume=yes", "not take a value. See larq-nobn train --h"),
        ("train --output r --config notes.txt", "notes.txt contains no settings: "),
        ("models none", "Got unexpected extra argument (none). See larq-nobn models"),
        # Words of another form.
        ("demo --dataset cats", "'cats' is not one of 'digits', 'mnist'"),
        ("train --output r --image-size 9x9x9", "'9x9x9' is not of the form 96 or"),
        ("train --output r --network alpha", "'alpha' is not of the form alpha=0.5"),
        ("convert float.keras m.tflite --input-shape 8x8x1", "not of the form 96,96,3"),
        ("compare --output r --seed one", "'one' is not a list of int values"),
        # Settings that do not exist, or do not go together.
        ("train --output r --normalization layer", "'layer' is not one of"),
        (
            f"train --output r --dataset digits --network alpha={'[' * 3000}",
            "not a number",
        ),
        ("train --output r --dataset digits --blocks 1,1,1,1,1", "is too small for"),
        ("train --output r --init float.keras --width 8", "width=8 does not apply"),
        ("train --output r --recipe fine_tune --dataset digits", "Add --init RUN_OR"),
        # Data sets.
        ("train --output r --dataset no/where", "There is no folder"),
        ("train --output r --data-dir notes.txt", "but a data set needs a folder"),
        ("data digits --sheet x.png", "--sheet is not used for digits, which is no"),
        ("data digits --from notes.txt", "--from is not used for digits, which needs"),
        ("data empty --data-dir sets", "--data-dir is not used for"),
        ("data cifar10 --from nowhere --data-dir empty", "nowhere is not a folder"),
        ("data tfds:../empty --data-dir empty", "is not a name of TensorFlow Datasets"),
        ("data tfds:mnist:3.0.1", "or of a version. Leave the version out"),
        # Models.
        ("train --output r --teacher gone --dataset digits", "gone does not exist"),
        ("train --output r --init lambda.keras --dataset digits", "(a Lambda)"),
        ("evaluate nowhere", "Path 'nowhere' does not exist"),
        (f"evaluate {'x' * 255}", "does not exist. Give a run folder, a model file"),
        ("evaluate empty", "empty is not a finished run: run.json not found"),
        ("evaluate float.keras", "Add --dataset"),
        (
            "evaluate float.keras --dataset digits --samples 2",
            "has no kernel of BernoulliSign to draw networks from",
        ),
        (
            "evaluate damaged.tflite --dataset digits --samples 2",
            "contains one binary network, from which --samples cannot draw others",
        ),
        ("summary damaged.keras", "damaged.keras is damaged"),
        ("fold channels.keras f.keras", "normalizes axis [1], but only the last"),
        # Outputs.
        ("train --output full --dataset digits", "full is not empty"),
        ("demo --output full", "full is not empty and contains no demo"),
        # What comes after it would end in another sentence.
        ("fold damaged.keras f.h5", "f.h5 is not a name for a Keras model. Choose one"),
        ("convert damaged.keras m.tfl", "m.tfl is not a name for a TFLite model. Choo"),
        ("fold float.keras deep/f.keras", "deep/f.keras lies in no existing folder"),
        (
            "compare --output o --dataset digits --json ./o",
            "--output o and --json o are one file. Choose another",
        ),
        ("report loop", "loop does not exist. Give run folders"),
        ("audit empty", "'empty' is a directory"),
        # Where Larq Compute Engine is asked.
        ("convert float.keras m.tflite", "has no binary layer"),
        ("audit damaged.tflite", "is a damaged TFLite file"),
        ("evaluate damaged.tflite --dataset digits", "is a damaged TFLite file"),
    ],
)
def test_one_sentence(line: str, sentence: str, invoke: Invoke, place: Path):
    before = sorted(place.rglob("*"))
    assert sentence in one_sentence(invoke(*line.split()))
    assert sorted(place.rglob("*")) == before


def test_without_larq_compute_engine(
    run_folder: Path, invoke: Invoke, place: Path, monkeypatch: pytest.MonkeyPatch
):
    for name in [name for name in sys.modules if name.startswith("larq_compute")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "larq_compute_engine", None)
    # The ranges of int8 come from training images.
    file = place / "plain.tflite"
    options = ("--runtime", "litert", "--int8", "--calibrate", "32", "--json", "-")
    found = json.loads(invoke("convert", run_folder, file, *options).stdout)
    assert (found["runtime"], found["float_ops"]) == ("litert", [])
    assert larq_nobn.deploy.read_card(file).runtime == "litert"
    for arguments in (
        ("audit", file),
        ("evaluate", file, "--dataset", "digits", "--limit", "8"),
    ):
        result = invoke(*arguments)
        assert result.exit_code == 0, result.output


def test_a_reader_who_has_seen_enough_is_no_error(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch
):
    error = BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
    monkeypatch.setattr("larq_nobn.cli._summary.show", raises(error))
    result = invoke("models")
    assert (result.exit_code, result.output) == (1, "")


@pytest.fixture
def resuming(tiny: tuple[str, ...], place: Path) -> tuple[str, ...]:
    """A command line by which the unfinished run in `run` is resumed."""
    settings = training.RunSettings(
        dataset="digits", width=8, blocks=(1,), epochs=1, batch_size=32, limit=128
    )
    Path("run/checkpoints").mkdir(parents=True)
    Path("run/checkpoints/epoch-0001.npz").write_bytes(b"")
    write_json(Path("run/settings.json"), training.folder._run_folder.plain(settings))
    line = ("train", *tiny, "--normalization", "nobn", "--recipe", "plain")
    return (*line, "--output", "run", "--resume")


@pytest.mark.parametrize(
    ("make", "start"),
    [
        (lambda: Path("run/other").touch(), "run contains other, so it is not the"),
        (
            lambda: Path("run/.lock").symlink_to("../notes.txt"),
            "Too many levels of symbolic links: ",
        ),
    ],
)
def test_what_has_to_be_repaired_first_has_no_other_advice(
    make: Callable[[], None], start: str, resuming: tuple[str, ...], invoke: Invoke
):
    make()
    said = one_sentence(invoke(*resuming))
    assert said.startswith(f"Error: {start}")
    assert "kept up to" not in said
    assert Path("notes.txt").read_text() == "text"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MemoryError(), "There is not enough memory. Choose smaller batches, smaller "),
        (
            tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor"),
            "There is not enough memory. Choose smaller batches, smaller images or a ",
        ),
        (
            tf.errors.ResourceExhaustedError(None, None, "/tmp; No space left on"),
            "No space left on device. Free some and try again.",
        ),
        (
            tf.errors.InvalidArgumentError(None, None, "7 is not in [0, 2)\n\t [[x]]"),
            "TensorFlow cannot compute this: 7 is not in [0, 2). The model is damaged, "
            "or does not fit the data.",
        ),
        (OSError("Give another file."), "Give another file."),
        (FileNotFoundError(2, "No such file"), "No such file."),
        (FileNotFoundError(2, "No such file", "a/b"), "No such file: a/b."),
        (PermissionError(13, "Not yours", "a/b"), f"Not yours: a/b.{ASK}"),
    ],
)
def test_errors_of_the_machine(
    error: Exception, said: str, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(larq_nobn.models, "pretrained", raises(error))
    assert one_sentence(invoke("models")).startswith(f"Error: {said}")


@pytest.mark.parametrize(
    ("bug", "said"),
    [
        (lambda: builtins.int("x"), "ValueError: invalid literal for int()"),
        (lambda: builtins.len(3), "TypeError: object of type 'int' has no len()"),
        (lambda: {}["x"], "KeyError: 'x'. "),
    ],
)
def test_a_fault_of_the_package_is_no_bad_input(
    bug: Callable[[], object],
    said: str,
    invoke: Invoke,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(larq_nobn.models, "pretrained", bug)
    result = invoke("models")
    assert result.exit_code == 1 and result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"Error: {said}")
    assert "is a fault of larq_nobn" in line and "Please report it" in line
    whole = invoke("models", "--traceback")
    assert whole.exit_code == 1
    assert whole.stderr.startswith("Traceback (most recent call last):\n")
    assert f'File "{__file__}"' in whole.stderr and whole.stderr.endswith(f"{line}\n")


def test_bad_input_has_a_traceback_too(invoke: Invoke, place: Path):
    result = invoke("audit", "damaged.tflite", "--traceback")
    assert result.exit_code == 2
    lines = result.stderr.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert one_sentence(invoke("audit", "damaged.tflite")) == lines[-1]


@pytest.mark.parametrize(
    ("line", "what", "name"),
    [
        ("train --dataset digits --output", "a run", "loop"),
        ("compare --dataset digits --output", "a comparison", "file"),
        ("data cifar10 --data-dir", "a data set", "nowhere"),
    ],
)
def test_a_link_that_leads_nowhere_is_no_folder(
    line: str, what: str, name: str, invoke: Invoke, place: Path
):
    Path("nowhere").symlink_to("missing")
    Path("file").write_text("mine")
    kind = "a file" if name == "file" else "a link that leads nowhere"
    inside = name if name == "loop" else f"{name}/deep"
    said = one_sentence(invoke(*line.split(), inside))
    assert f"{name} is {kind}, but {what} needs a folder." in said
    assert not Path("missing").exists()
    assert Path("file").read_text() == "mine"


@pytest.fixture
def forbid(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Takes the permission to read a file, or a folder, which root always has."""

    def forbid(name: str) -> None:
        def guarded(function: Callable) -> Callable:
            def call(path: object, *more: object, **options: object) -> object:
                if isinstance(path, str | os.PathLike) and Path(path).name == name:
                    raise PermissionError(errno.EACCES, "Permission denied", str(path))
                return function(path, *more, **options)

            return call

        for module, function in (
            (builtins, "open"),
            *((io, "open"), (os, "listdir"), (os, "scandir")),
        ):
            monkeypatch.setattr(module, function, guarded(getattr(module, function)))

    return forbid


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("fold own.keras f.keras", "own.keras"),
        ("summary own.h5", "own.h5"),
        ("convert own.npz m.tflite", "own.npz"),
        ("predict float.keras full", "deep"),
        ("report full", "run.json"),
    ],
)
def test_what_may_not_be_read_is_not_damaged(
    line: str, name: str, forbid: Callable, invoke: Invoke, place: Path
):
    for file in ("own.keras", "own.h5", "own.npz", "full/run.json"):
        Path(file).write_bytes(b"PK\3\4 mine")
    Path("full/deep").mkdir()
    forbid(name)
    said = one_sentence(invoke(*line.split()))
    assert re.fullmatch(rf"Error: Permission denied: \S*{re.escape(name)}\.{ASK}", said)


def test_checkpoints_that_may_not_be_read_are_not_missing(
    resuming: tuple[str, ...], forbid: Callable, invoke: Invoke
):
    """The run would start from scratch, and write over them at the end of an epoch."""
    forbid("checkpoints")
    said = one_sentence(invoke(*resuming))
    assert said == f"Error: Permission denied: run/checkpoints.{ASK}"
    assert Path("run/checkpoints/epoch-0001.npz").is_file()
