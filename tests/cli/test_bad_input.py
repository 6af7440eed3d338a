"""Whatever a user gets wrong: exit code 2 and one sentence on stderr."""

from __future__ import annotations

import builtins
import errno
import io
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import larq_nobn
import click
import fresh
import pytest
import tensorflow as tf
from larq_nobn import training
from cli.answers import one_sentence
from click.testing import Result
from larq_nobn._keras import keras
from larq_nobn.cli import main

Invoke = Callable[..., Result]
ASK = " Ask its owner for the permission, or choose another path."
SIGNALS = [("SIGINT", 130), ("SIGTERM", 143)]


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


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("fly", "No such command 'fly'. See larq-nobn --help."),
        ("--loud", "No such option '--loud'"),
        ("demo --dataset cats", "'cats' is not one of 'digits', 'cifar10'"),
        ("demo --dataset empty", "contains no folder with images in it"),
        ("demo --epochs 0", "epochs=0 is below 1"),
        ("demo --epochs two", "'two' is not a valid integer"),
        ("demo --output full", "full is not empty and contains no demo"),
        ("train", "Missing option '--output'. See larq-nobn train --help."),
        ("train --output r --normalization layer", "'layer' is not one of"),
        ("train --output r --dataset cats", "'cats' is not one of"),
        ("train --output r --dataset no/where", "There is no folder"),
        ("train --output r --dataset ./notes.txt", "notes.txt is a file. Pass a fold"),
        ("train --output r --dataset empty", "contains no folder with images in it"),
        ("train --output r --dataset tfds:nothing", "Datasets has no set 'nothing'"),
        ("train --output r --image-size 9x9x9", "'9x9x9' is not of the form 96 or"),
        ("train --output r --image-size 2", "image_size=2 is below 4"),
        ("train --output r --augment blur", "'blur' is not one of 'none'"),
        ("train --output r --holdout 1", "holdout=1.0 is outside (0, 1)"),
        ("train --output r --label-smoothing 1", "label_smoothing=1.0 is outside"),
        ("train --output r --mixup -1", "mixup=-1.0 is outside [0, 1e4]"),
        ("train --output r --mixup 1e300", "mixup=1e+300 is outside [0, 1e4]"),
        ("train --output r --width 0", "width=0 is below 1"),
        ("train --output r --blocks 4,x", "'4,x' is not of the form 4,4,4,4"),
        ("train --output r --learning-rate nan", "learning_rate=nan is outside"),
        (
            "train --output r --optimizer sgd --learning-rate 1e38",
            "learning_rate=1e+38 is outside (0, 1e6]",
        ),
        ("train --output full --dataset digits", "full is not empty"),
        ("train --output notes.txt --dataset digits", "notes.txt is a file"),
        ("train --output r --data-dir empty", "larq-nobn data cifar10"),
        ("train --output r --dataset digits --blocks 1,1,1,1,1", "is too small for"),
        ("train --output r --recipe best", "'best' is not one of 'plain'"),
        ("train --output r --stages 3", "stages=3 is above 2"),
        ("train --output r --kernel recu", "kernel='recu' needs a normalization"),
        ("train --output r --network alpha", "'alpha' is not of the form alpha=0.5"),
        ("train --output r --network gamma=1", "'gamma', which ReActNet18 does not"),
        ("train --output r --accumulate 3", "accumulate=3 does not divide"),
        ("train --output r --teacher gone --dataset digits", "gone does not exist"),
        ("train --output r --init gone", "gone does not exist. Give a run folder"),
        ("train --output r --init notes.txt --dataset digits", "is not a .keras file"),
        ("train --output r --init lambda.keras --dataset digits", "(a Lambda)"),
        ("train --output r --init damaged.keras --dataset digits", "is damaged"),
        ("train --output r --init float.keras --width 8", "width=8 does not apply"),
        ("train --output r --model init", "is the network of init, which is not given"),
        ("train --output r --recipe fine_tune --dataset digits", "Add --init RUN_OR"),
        ("train --output r --backbone-multiplier -1", "backbone_multiplier=-1.0 is"),
        ("train --output r --strategy many", "'many' is not one of 'none'"),
        (
            "train --output r --strategy multi_worker",
            "variable TF_CONFIG, which is not",
        ),
        ("train --output full --dataset digits --resume", "full contains notes.txt"),
        ("compare", "Missing option '--output'. See larq-nobn compare --help."),
        ("compare --output r --seeds one", "'one' is not a list of int values"),
        (
            "compare --output r --seeds 1,1",
            "seeds=[1, 1] is empty or contains something",
        ),
        ("compare --output r --normalizations bn", "evonorm, dynamic_tanh; got 'bn'"),
        ("compare --output r --batch-sizes 0", "batch_size=0 is below 1"),
        ("compare --output notes.txt --dataset digits", "notes.txt is a file"),
        ("report", "Missing argument 'RUNS...'. See larq-nobn report --help."),
        ("report nowhere", "nowhere does not exist. Give run folders"),
        ("report empty full", "empty, full contains no finished run"),
        ("evaluate nowhere", "Path 'nowhere' does not exist"),
        ("evaluate notes.txt", "notes.txt is not a .keras file"),
        ("evaluate empty", "empty is not a finished run: run.json not found"),
        ("evaluate float.keras", "Add --dataset"),
        ("evaluate float.keras --dataset digits", "takes images of shape (4, 4, 1)"),
        ("evaluate float.keras --dataset digits --limit 0", "limit=0 is below 1"),
        (
            "evaluate float.keras --dataset digits --samples 2",
            "has no kernel of BernoulliSign to draw networks from",
        ),
        (
            "evaluate damaged.tflite --dataset digits --samples 2",
            "contains one binary network, from which --samples cannot draw others",
        ),
        ("convert", "Missing argument 'RUN_OR_FILE'"),
        ("convert nowhere m.tflite", "Path 'nowhere' does not exist"),
        ("convert damaged.keras m.tflite", "damaged.keras is damaged"),
        ("convert lambda.keras m.tflite", "carries Python code (a Lambda)"),
        ("fold", "Missing argument 'RUN_OR_FILE'"),
        ("fold nowhere f.keras", "Path 'nowhere' does not exist"),
        ("fold float.keras f.h5", "f.h5 is not a name for a Keras model"),
        # What comes after it would end in another sentence.
        ("fold damaged.keras f.h5", "f.h5 is not a name for a Keras model. Choose one"),
        (
            "remove damaged.keras f",
            "Output f is not a name for a Keras model. Choose one",
        ),
        (
            "import notes.txt f.npz",
            "f.npz is not a name for a Keras model",
        ),
        ("fold float.keras deep/f.keras", "deep/f.keras lies in no existing folder"),
        ("fold damaged.keras f.keras", "damaged.keras is damaged"),
        ("fold lambda.keras f.keras", "carries Python code (a Lambda)"),
        ("fold channels.keras f.keras", "normalizes axis [1], but only the last"),
        ("remove float.keras", "Missing argument 'OUT.keras'"),
        ("remove nowhere f.keras", "Path 'nowhere' does not exist"),
        ("remove float.keras f.keras --alpha 0", "alpha=0.0 is outside (0, inf)"),
        ("remove float.keras f.keras --alpha x", "'x' is not a valid float"),
        (
            "remove float.keras f.keras --variance-rule he",
            "'he' is not one of 'vita', 'nf'",
        ),
        ("remove channels.keras f.keras", "normalizes axis [1], but only the last"),
        ("summary nowhere", "Path 'nowhere' does not exist"),
        ("summary notes.txt", "notes.txt is not a .keras file"),
        ("summary damaged.keras", "damaged.keras is damaged"),
        ("audit nowhere.tflite", "'nowhere.tflite' does not exist"),
        ("audit empty", "'empty' is a directory"),
        ("audit notes.txt", "is not a TFLite file"),
        ("data cats", "'cats' is not one of"),
        ("data", "Missing argument"),
        ("data empty", "contains no folder with images in it"),
        ("data no/where", "There is no folder"),
        ("data digits --sheet x.png", "--sheet is not used for digits, which is no"),
        ("data digits --holdout 0.2", "--holdout is not used for digits, which is no"),
        ("data digits --from notes.txt", "--from is not used for digits, which needs"),
        ("data empty --from notes.txt", "--from is not used for"),
        ("data empty --data-dir sets", "--data-dir is not used for"),
        ("data cifar10 --from nowhere --data-dir empty", "nowhere is not a folder"),
        ("data cifar10 --from empty --data-dir empty", "empty lacks cifar-10-binary"),
        ("data tfds:../empty --data-dir empty", "is not a name of TensorFlow Datasets"),
        ("data tfds:mnist:3.0.1", "or of a version. Leave the version out"),
        ("report loop", "loop does not exist. Give run folders"),
        ("report empty loop", "loop does not exist. Give run folders"),
        (
            "compare --output loop --dataset digits --json new.json",
            "loop is a link that leads nowhere",
        ),
        (
            "compare --output new --dataset digits --json loop/new.json",
            "--json loop/new.json lies in no existing folder",
        ),
        ("train --output r --init /proc/self/mem", "is not a .keras file"),
        (
            f"train --output r --dataset digits --network alpha={'[' * 3000}",
            "not a number",
        ),
        ("train --output r --resume=yes", "not take a value. See larq-nobn train --h"),
        ("train --output r --resum", "Did you mean '--resume'? See larq-nobn train"),
        ("models none", "Got unexpected extra argument (none). See larq-nobn models"),
        ("report empty --by", "requires an argument. See larq-nobn report --help."),
        ("import notes.txt o.keras --image-size 8", "larq-nobn import --"),
        ("convert float.keras m.tflite --input-shape 8x8x1", "not of the form 96,96,3"),
        ("benchmark damaged.tflite --limit x", "'x' is not a valid integer. See"),
        ("train --output r --data-dir notes.txt", "but a data set needs a folder"),
        ("data ~nobody_here/images", "There is no folder"),
        (f"evaluate {'x' * 255}", "does not exist. Give a run folder, a model file"),
        (
            "compare --output o --dataset digits --json ./o",
            "--output o and --json o are one file. Choose another",
        ),
    ],
)
def test_one_sentence(line: str, sentence: str, invoke: Invoke, place: Path):
    before = sorted(place.rglob("*"))
    assert sentence in one_sentence(invoke(*line.split()))
    assert sorted(place.rglob("*")) == before


@pytest.mark.convert
@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("convert float.keras m.tflite", "has no binary layer"),
        (
            "convert float.keras m.tflite --json ./m.tflite.json",
            "and --json m.tflite.json are one file",
        ),
        ("summary float.keras", "has no binary layer"),
        ("audit damaged.tflite", "is a damaged TFLite file"),
        ("evaluate damaged.tflite --dataset digits", "is a damaged TFLite file"),
    ],
)
def test_one_sentence_where_lce_is_asked(
    line: str, sentence: str, invoke: Invoke, place: Path
):
    before = sorted(place.rglob("*"))
    assert sentence in one_sentence(invoke(*line.split()))
    assert sorted(place.rglob("*")) == before


@pytest.mark.convert
@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--tolerance", "-1"), "tolerance=-1.0 is outside (0, 1e6]"),
        (("--dataset", "cifar10", "--data-dir", "empty"), "larq-nobn data cifar10"),
    ],
)
def test_options_of_convert(
    options: tuple[str, ...],
    sentence: str,
    run_folder: Path,
    invoke: Invoke,
    place: Path,
):
    result = invoke("convert", run_folder, "m.tflite", *options)
    assert sentence in one_sentence(result)
    assert not Path("m.tflite").exists()


@pytest.mark.convert
def test_convert_into_a_folder_that_does_not_exist(
    run_folder: Path, invoke: Invoke, place: Path
):
    result = invoke("convert", run_folder, "deep/m.tflite")
    assert "deep/m.tflite lies in no existing folder" in one_sentence(result)


def test_without_larq_compute_engine(
    run_folder: Path, invoke: Invoke, place: Path, monkeypatch: pytest.MonkeyPatch
):
    for name in [name for name in sys.modules if name.startswith("larq_compute")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "larq_compute_engine", None)
    for arguments in (
        ("convert", run_folder, "m.tflite"),
        ("evaluate", "damaged.tflite", "--dataset", "digits"),
        ("audit", "damaged.tflite"),
        ("summary", run_folder),
    ):
        assert "pip install" in one_sentence(invoke(*arguments))


def test_a_reader_who_has_seen_enough_is_no_error(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch
):
    error = BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
    monkeypatch.setattr("larq_nobn.cli._pretrained.show", raises(error))
    result = invoke("models")
    assert (result.exit_code, result.output) == (1, "")


@pytest.mark.parametrize("name", [b"\xff\xfe", b"caf\xe9/run"])
@pytest.mark.parametrize("command", ["train", "compare"])
def test_a_name_that_tensorflow_does_not_take(
    command: str, name: bytes, invoke: Invoke, place: Path
):
    before = sorted(place.rglob("*"))
    line = (command, "--dataset", "digits", "--output", os.fsdecode(name))
    said = one_sentence(invoke(*line))
    assert "contains bytes that are no UTF-8" in said
    assert sorted(place.rglob("*")) == before


@pytest.mark.parametrize("command", ["summary", "evaluate", "convert"])
def test_a_model_of_a_name_that_tensorflow_does_not_take(
    command: str, run_folder: str, invoke: Invoke, place: Path
):
    path = place / os.fsdecode(b"caf\xe9.keras")
    path.write_bytes((place / run_folder / "model.keras").read_bytes())
    rest = {"evaluate": ["--dataset", "digits"], "convert": ["m.tflite"]}
    said = one_sentence(invoke(command, path, *rest.get(command, [])))
    assert "contains bytes that are no UTF-8" in said


@pytest.mark.slow
@pytest.mark.usefixtures("little_network")
def test_no_space_for_the_model(
    tiny: tuple[str, ...],
    invoke: Invoke,
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    plain = ("--recipe", "plain", "--limit", 32)
    command = ("train", *tiny, *plain, "--output", "run")
    rename = os.replace

    def full(source: Path, target: Path) -> None:
        if Path(target).name in full_for:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))
        rename(source, target)

    monkeypatch.setattr(os, "replace", full)
    full_for = {"settings.json"}
    sentence = one_sentence(invoke(*command))
    assert "'run/settings.json' cannot be written: No space left" in sentence
    assert list(Path("run").iterdir()) == []
    full_for = {"model.keras"}
    sentence = one_sentence(invoke(*command))
    assert "'run/model.keras' cannot be written: No space left" in sentence
    full_for = set()
    assert invoke(*command, "--resume").exit_code == 0


@pytest.fixture
def resuming(tiny: tuple[str, ...], place: Path) -> tuple[str, ...]:
    """A command line by which the unfinished run in `run` is resumed."""
    settings = training.RunSettings(
        dataset="digits", width=8, blocks=(1,), epochs=1, batch_size=32, limit=128
    )
    Path("run/checkpoints").mkdir(parents=True)
    Path("run/checkpoints/epoch-0001.npz").write_bytes(b"")
    training.write_json(
        Path("run/settings.json"), training.folder._run_folder.plain(settings)
    )
    line = ("train", *tiny, "--normalization", "nobn", "--recipe", "plain")
    return (*line, "--output", "run", "--resume")


@pytest.mark.parametrize(
    ("make", "start"),
    [
        (
            lambda: Path("run/logs").touch(),
            "run/logs is not a folder, or a link to one",
        ),
        (lambda: Path("run/other").touch(), "run contains other, so it is not the"),
        (lambda: Path("run/.lock").mkdir(), "Is a directory: "),
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


@pytest.mark.parametrize("name", main.commands)
def test_an_option_without_a_value(name: str, invoke: Invoke):
    """Whoever leaves a value out, or gives a flag one, is shown that command's help."""
    for parameter in main.commands[name].params:
        if not isinstance(parameter, click.Option):
            continue
        option = parameter.opts[0] + "=1" * parameter.is_flag
        said = one_sentence(invoke(name, option))
        assert said.endswith(f" See larq-nobn {name} --help."), said


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


@pytest.mark.slow
def test_a_program_writes_nothing_but_the_sentence():
    """TensorFlow's own messages bypass Python: only a real process shows them."""
    done = fresh.run(
        "import imported_first, runpy, sys\n"
        "print(imported_first.WRITTEN, end='')\n"
        "runpy.run_module('larq_nobn', run_name='__main__', alter_sys=True)",
        ("audit", "nothing.tflite"),
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert re.fullmatch(r"Error: .*'nothing.tflite' does not exist.*\n", done.stderr)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "code"), SIGNALS)
def test_a_program_that_is_stopped_leaves_nothing_half_written(
    name: str, code: int, place: Path
):
    """In the moment when a file is written and not yet in its place."""
    (place / "new").mkdir()
    done = fresh.run(
        "import imported_first, os, runpy, signal\n"
        "from larq_nobn import _files\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        f"_files._flush = lambda path: os.kill(os.getpid(), signal.{name})\n"
        "runpy.run_module('larq_nobn', run_name='__main__', alter_sys=True)",
        ("models", "--json", place / "new" / "models.json"),
    )
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr == "Stopped; nothing half-written is left.\n"
    assert not list((place / "new").iterdir())


LOST = """
import imported_first, os, runpy, signal
from larq_nobn import _files

def native(path):
    try:
        os.kill(os.getpid(), signal.{name})
    except BaseException:
        raise {error}("of native code") from None

signal.signal(signal.SIGINT, signal.default_int_handler)
_files._flush = native
runpy.run_module("larq_nobn", run_name="__main__", alter_sys=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("error", "name", "code"),
    [("TypeError", "SIGINT", 130), ("OSError", "SIGTERM", 143)],
)
def test_native_code_may_lose_the_error_of_a_signal(
    name: str, code: int, error: str, place: Path
):
    (place / "new").mkdir()
    done = fresh.run(
        LOST.format(name=name, error=error),
        ("models", "--json", place / "new" / "models.json"),
    )
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr == "Stopped; nothing half-written is left.\n"
    assert not list((place / "new").iterdir())


# Sends a signal at a moment, and three at the end.
SITE = """
import atexit, os, signal, sys

class Hook:
    def find_spec(self, name, path=None, target=None):
        if name == "larq_nobn._version":
            atexit.register(end)
        if {when}:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), signal.{name})

class Crash:
    def __del__(self, kill=os.kill, process=os.getpid(), number=signal.SIGSEGV):
        kill(process, number)

def end():
    open("ended", "w").close()
    for _ in range(3):
        os.kill(os.getpid(), signal.{name})

# Modules are not taken down: with native threads at work that has crashed.
sys.crash = Crash()
sys.meta_path.insert(0, Hook())
"""
# Its name is taken from here on.
IN_TENSORFLOW = (
    "hasattr(sys.modules.get('tensorflow.python.ops.ragged.ragged_tensor'), "
    "'RaggedTensorSpec')"
)


def run_program(site: str, place: Path, *line: str) -> subprocess.CompletedProcess[str]:
    """Runs a command as a program, in which this is executed before anything else."""
    (place / "site").mkdir()
    (place / "site" / "sitecustomize.py").write_text(site)
    paths = [str(place / "site"), str(Path(larq_nobn.__file__).parents[1])]
    return subprocess.run(
        [sys.executable, "-m", "larq_nobn", *line],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        check=False,
        # Where tests run in the background Ctrl-C may be ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "name", "code", "said"),
    [
        ("--version", "SIGTERM", 0, ""),
        ("audit nothing.tflite", "SIGINT", 2, "Error: .* does not exist.*\n"),
    ],
)
def test_a_program_that_has_ended_is_not_stopped(
    line: str, name: str, code: int, said: str, place: Path
):
    done = run_program(SITE.format(name=name, when=False), place, *line.split())
    assert done.returncode == code
    assert re.fullmatch(said, done.stderr)
    assert (place / "ended").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("when", "name", "code"),
    [("name == 'click'", "SIGINT", 130), (IN_TENSORFLOW, "SIGTERM", 143)],
)
def test_a_program_is_stopped_while_it_imports(
    name: str, code: int, when: str, place: Path
):
    """TensorFlow cannot be imported a second time, to ask what error that was."""
    site = SITE.format(name=name, when=when)
    done = run_program(site, place, "summary", "float.keras")
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr == "Stopped; nothing half-written is left.\n"
    assert (place / "ended").exists() == (when == IN_TENSORFLOW)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "code"), SIGNALS)
def test_a_signal_may_come_several_times(name: str, code: int, place: Path):
    """As keys are pressed, also while what is half-written is taken away."""
    (place / "new").mkdir()
    done = fresh.run(
        "import imported_first, os, pathlib, runpy, signal\n"
        "from larq_nobn import _files\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "def sends(function):\n"
        "    def send(*arguments, **options):\n"
        f"        os.kill(os.getpid(), signal.{name})\n"
        "        return function(*arguments, **options)\n"
        "    return send\n"
        "_files._flush = sends(_files._flush)\n"
        "pathlib.Path.unlink = sends(pathlib.Path.unlink)\n"
        "runpy.run_module('larq_nobn', run_name='__main__', alter_sys=True)",
        ("models", "--json", place / "new" / "models.json"),
    )
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr == "Stopped; nothing half-written is left.\n"
    assert not list((place / "new").iterdir())


@pytest.mark.parametrize(
    ("line", "what", "name"),
    [
        ("train --dataset digits --output", "a run", "nowhere/deep/er"),
        ("train --dataset digits --output", "a run", "loop"),
        ("compare --dataset digits --output", "a comparison", "file/deep"),
        ("compare --dataset digits --jobs 2 --output", "a comparison", "nowhere"),
        ("demo --output", "a run", "file/deep"),
        ("demo --output", "a run", "nowhere/deep"),
        ("data cifar10 --data-dir", "a data set", "nowhere/deep"),
    ],
)
def test_a_link_that_leads_nowhere_is_no_folder(
    line: str, what: str, name: str, invoke: Invoke, place: Path
):
    Path("nowhere").symlink_to("missing")
    Path("file").write_text("mine")
    said = one_sentence(invoke(*line.split(), name))
    kind = "a file" if "file" in name else "a link that leads nowhere"
    assert f"{name} is {kind}, but {what} needs a folder." in said or (
        f"{name.partition('/')[0]} is {kind}, but {what} needs a folder." in said
    )
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
        ("evaluate own.npz", "own.npz"),
        ("convert own.npz m.tflite", "own.npz"),
        ("predict float.keras full", "full"),
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


@pytest.mark.parametrize("command", ["evaluate", "summary"])
def test_a_folder_that_may_not_be_looked_into_is_no_saved_model(
    command: str, invoke: Invoke, place: Path, monkeypatch: pytest.MonkeyPatch
):
    is_file = Path.is_file

    def forbidden(path: Path) -> bool:
        if path.parent.name == "secret":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return is_file(path)

    Path("secret").mkdir()
    monkeypatch.setattr(Path, "is_file", forbidden)
    said = one_sentence(invoke(command, "secret"))
    assert "saved_model.pb" not in said
