"""Whatever a user gets wrong: exit code 2 and one sentence on stderr."""

from __future__ import annotations

import errno
import json
import os
import resource
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import larq_nobn
import click
import pytest
import tensorflow as tf
from cli.answers import one_sentence
from cli.conftest import Invoke
from deploy.nets import binary_conv, chain
from larq_nobn._checks import BOUNDS
from larq_nobn._keras import keras
from larq_nobn.cli import main
from larq_nobn.config._fields import settings_of
from larq_nobn.config._settings import Settings

ASK = " Ask its owner for permission, or choose another path."


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


# A line for each kind of message; the bounds of numbers follow.
LINES = [
    ("fly", "No such command 'fly'. See larq-nobn --help."),
    ("train --resume", "--resume needs a run folder, as in --resume runs/1"),
    ("train --output r --checkpoint-step 2", "Did you mean '--checkpoint-steps'?"),
    ("train --output=", "An argument is empty ('--output='), perhaps an"),
    ("train --output r --resume=yes", "--resume yes and --output r are two folders"),
    ("train --dataset digits --momentum 0.9", "Choose optimizer sgd, or leave"),
    ("train --dataset digits --wait 5", "--wait is not used without --strategy"),
    ("train --dataset digits --trust", "--trust is not used without --init or"),
    ("train --dataset digits --cache disk", "--cache is not used with --dataset dig"),
    ("compare --output r --dataset digits --monitor val_loss", "Choose keep best or"),
    ("compare --output r --dataset digits --cache disk", "No such option '--cache'"),
    ("train --output r --config notes.txt", "notes.txt contains no settings: "),
    ("demo --dataset cats", "'cats' is not one of 'digits', 'mnist'"),
    ("train --output r --image-size 9x9x9", "'9x9x9' is not of the form 96 or"),
    ("compare --output r --seed one", "'one' is not a list of int values"),
    ("train --output r --normalization layer", "'layer' is not one of"),
    ("train --output r --dataset digits --blocks 1,1,1,1,1", "is too small for"),
    ("train --output r --init float.keras --width 8", "width=8 cannot change"),
    ("train --output r --recipe fine_tune --dataset digits", "Add --init RUN_OR"),
    ("train --output r --dataset no/where", "There is no folder"),
    ("data digits --sheet x.png", "--sheet is not used for digits, which is no"),
    ("data tfds:../empty --data-dir empty", "is not a name of TensorFlow Datasets"),
    ("train --output r --init lambda.keras --dataset digits", "(a Lambda)"),
    ("evaluate nowhere", "'nowhere' does not exist. Give a run folder"),
    ("evaluate empty", "empty is not a finished run: run.json not found"),
    ("evaluate float.keras", "Add --dataset"),
    ("summary damaged.keras", "damaged.keras is damaged"),
    ("fold channels.keras f.keras", "normalizes axis [1], but only the last"),
    ("train --output full --dataset digits", "full is not empty"),
    ("fold damaged.keras f.h5", "f.h5 is not a valid name for this output. Choose"),
    ("fold float.keras deep/f.keras", "deep/f.keras is in a folder that does not"),
    ("audit empty", "'empty' is a directory"),
    ("convert float.keras m.tflite", "has no binary layer"),
    ("audit damaged.tflite", "is a damaged TFLite file"),
]


def test_one_sentence(invoke: Invoke, place: Path):
    before = sorted(place.rglob("*"))
    for line, sentence in LINES:
        assert sentence in one_sentence(invoke(*line.split())), line
        assert sorted(place.rglob("*")) == before


def test_without_larq_compute_engine(
    invoke: Invoke, place: Path, monkeypatch: pytest.MonkeyPatch
):
    rows = binary_conv(), keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(10)
    chain(*rows, shape=(8, 8, 1)).save("own.keras")
    for name in [name for name in sys.modules if name.startswith("larq_compute")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "larq_compute_engine", None)
    # The ranges of int8 come from training images.
    file = place / "plain.tflite"
    options = ("--runtime", "micro", "--pixels", "--calibrate", "32", "--json", "-")
    line = ("convert", "own.keras", file, "--dataset", "digits")
    actual = json.loads(invoke(*line, *options).stdout)
    assert (actual["runtime"], actual["float_ops"]) == ("micro", [])
    assert larq_nobn.deploy.read_card(file).runtime == "micro"
    assert "int8 1x8x8x1: pixels from 0 to 255" in actual["feed"]
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
    monkeypatch.setattr("larq_nobn.cli._deploy.show", raises(error))
    result = invoke("models")
    assert (result.exit_code, result.output) == (1, "")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MemoryError(), "There is not enough memory or disk space. Choose smaller"),
        (
            tf.errors.ResourceExhaustedError(None, None, "/tmp; No space left on"),
            "There is not enough memory or disk space. Choose smaller batches",
        ),
        (
            tf.errors.InvalidArgumentError(None, None, "7 is not in [0, 2)\n\t [[x]]"),
            "TensorFlow cannot compute this: 7 is not in [0, 2). The model is damaged, "
            "or does not fit the data.",
        ),
        (FileNotFoundError(2, "No such file", "a/b"), "No such file: a/b."),
        (PermissionError(13, "Not yours", "a/b"), f"Not yours: a/b.{ASK}"),
    ],
)
def test_errors_of_the_machine(
    error: Exception, said: str, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(larq_nobn.models, "pretrained", raises(error))
    assert one_sentence(invoke("models")).startswith(f"Error: {said}")


def test_a_fault_of_the_package_is_no_bad_input(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(larq_nobn.models, "pretrained", lambda: int("x"))
    result = invoke("models")
    assert result.exit_code == 1 and result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("Error: ValueError: invalid literal for int()")
    assert "is a bug in larq_nobn" in line and "Please report it" in line
    whole = invoke("models", "--traceback")
    assert whole.exit_code == 1
    assert whole.stderr.startswith("Traceback (most recent call last):\n")
    assert f'File "{__file__}"' in whole.stderr and whole.stderr.endswith(f"{line}\n")


def test_memory_is_limited(invoke: Invoke, monkeypatch: pytest.MonkeyPatch):
    limits: list[int] = []
    monkeypatch.setattr(resource, "setrlimit", lambda _, both: limits.append(both[0]))
    sizes = {"4GiB": 4 * 2**30, "2.5gb": 2_500_000_000, "3000MB": 3 * 10**9}
    for word in sizes:
        invoke("audit", __file__, f"--memory={word}")
    assert limits == [*sizes.values()]
    for word in ("4", "4G", "GB", "1.99GB"):
        said = one_sentence(invoke("audit", __file__, f"--memory={word}"))
        assert f"{word!r} is not a size of 2GB or more, such as 8GB or 8GiB" in said


RANGES = {n: each.range for n, each in settings_of(Settings).items() if each.range}
KINDS = (click.types.IntParamType, click.types.FloatParamType, click.Tuple)
# Of each command with a number, one that is too large, or none.
TOO_LARGE = [
    "train --dataset digits --output new --limit 100000000000000000000",
    "compare --dataset digits --output new --learning-rate 0.1,inf",
    "evaluate float.keras --dataset digits --samples 4294967296",
    "predict float.keras picture.png --top 4294967296",
    "convert float.keras new.tflite --tolerance nan",
    "benchmark own.tflite --threads 4294967296",
    "remove float.keras new.keras --alpha -inf",
    "import gone.pth new.keras --image-size 4294967296 4294967296",
    "data ./pictures --holdout inf",
    "demo --output new --epochs 4294967296",
]


def numbers_of(command: click.Command) -> Iterator[str]:
    """The options that take numbers of which click does not check the range."""
    for option in command.params:
        kind = option.type
        if isinstance(kind, KINDS) and not hasattr(kind, "max"):
            yield option.name


def test_every_number_has_bounds():
    actual = {name: [*numbers_of(each)] for name, each in main.commands.items()}
    assert {n for names in actual.values() for n in names} <= RANGES.keys() | BOUNDS
    assert {name for name, names in actual.items() if names} <= {
        line.split()[0] for line in TOO_LARGE
    }


def test_a_number_out_of_bounds(invoke: Invoke, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("float.keras", "own.tflite", "picture.png", "pictures/a", "gone.pth"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_bytes(b"mine")
    before = sorted(tmp_path.rglob("*"))
    for line in TOO_LARGE:
        said = one_sentence(invoke(*line.split()))
        assert "=" in said and ("is outside" in said or "is above" in said)
    assert sorted(tmp_path.rglob("*")) == before
