"""Every example in the reference runs as printed, on networks cut down to a few layers.

What an example takes for granted, such as a run in `runs/digits`, is there; files for
the phone are converted once and shared.
"""

from __future__ import annotations

import doctest
import inspect
import json
import re
import shutil
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import larq_nobn as nobn
import larq as lq
import numpy as np
import pytest
import tensorflow as tf
from interop.published import ReActNet18, save
from larq_nobn.config import _presets
from larq_nobn.deploy import _formats
from larq_nobn.training import _compare
from PIL import Image
from tf_keras import Model
from training.commands import executing
from training.runs import step_by_step, without_curves

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^ *```python\n(.*?)^ *```", re.DOTALL | re.MULTILINE)
ENTRY = re.compile(r"^::: larq_nobn\.([\w.]+)$", re.MULTILINE)
# It trains the runs of the others.
COMPARING = "training.compare"
# It converts for itself, with labels; the others share one file.
CONVERTING = "deploy.read_card"
# It converts four times.
FORMATS = "deploy.compare_formats"
SMALLER = {
    r"width=\d+, blocks=\([\d, ]+\), epochs=\d": (
        "width=8, blocks=(1,), epochs=1, batch_size=32, limit=64"
    ),
    r"width=16, blocks=\(1, 1\)": "width=8, blocks=(1,)",
    r"32, 32, 3": "8, 8, 3",
    r'"(train|test)", 128\)': r'"\1", 32, limit=32)',
}


def names() -> list[str]:
    """All that the reference lists, without the name of the package."""
    pages = sorted((ROOT / "docs" / "reference").glob("*.md"))
    return [name for page in pages for name in ENTRY.findall(page.read_text("utf-8"))]


def member(name: str) -> Any:
    actual: Any = nobn
    for part in name.split("."):
        actual = getattr(actual, part)
    return actual


def docstrings(name: str) -> Iterator[str]:
    """The text of an entry, and of its public methods."""
    actual = member(name)
    yield inspect.cleandoc(actual.__doc__ or "")
    if inspect.isclass(actual):
        for key, value in vars(actual).items():
            value = getattr(value, "__func__", value)
            if not key.startswith("_") and inspect.isfunction(value):
                yield inspect.cleandoc(value.__doc__ or "")


def scripts(name: str) -> list[str]:
    return [
        textwrap.dedent(script)
        for text in docstrings(name)
        for script in BLOCK.findall(text)
    ]


def sessions(name: str) -> list[doctest.DocTest]:
    parse = doctest.DocTestParser().get_doctest
    actual = (parse(text, {}, name, None, 0) for text in docstrings(name))
    return [session for session in actual if session.examples]


def run(text: str, **given: Any) -> None:
    for pattern, smaller in SMALLER.items():
        text = re.sub(pattern, smaller, text)
    with patch.dict(_presets.RECIPES):  # which it may add to
        exec(text, {"__name__": "example", **given})


WITH_SCRIPTS = [name for name in names() if scripts(name)]
WITH_SESSIONS = [name for name in names() if sessions(name)]


def shallow(builder: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes a single block the default."""
    builder = inspect.unwrap(builder)  # of what opens weights
    parameters = inspect.signature(builder).parameters.values()
    defaults = {
        p.name: p.default
        for p in parameters
        if p.default is not inspect.Parameter.empty
    }
    if "blocks" in defaults:
        defaults["blocks"] = (1,)
        monkeypatch.setattr(builder, "__defaults__", tuple(defaults.values()))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder: one of those that the example of comparisons makes."""
    folder = tmp_path_factory.mktemp("docstrings")

    def train(settings: nobn.training.RunSettings, output: Path) -> None:
        nobn.training.train(settings, output)

    with pytest.MonkeyPatch.context() as patch, step_by_step(), without_curves():
        patch.chdir(folder)
        patch.setattr(_compare, "_executing", executing(train))
        run("\n".join(scripts(COMPARING)), nobn=nobn)
    (actual,) = folder.glob("runs/digits/*nobn*/")
    return actual


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A file of two binary convolutions, and the report of its conversion."""
    path = tmp_path_factory.mktemp("docstrings") / "model.tflite"
    model = nobn.models.ReActNet18((8, 8, 3), 10, width=16, blocks=(1, 1))
    return path, nobn.convert(model, path, verify=False)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for builder in nobn.models.BUILDERS.values():
        shallow(builder, monkeypatch)
    return tmp_path


def small_model() -> Model:
    keras = tf.keras
    layers = [keras.layers.Flatten(), keras.layers.Dense(10, name="head")]
    return keras.Sequential([keras.Input((8, 8, 1)), *layers])


def run_folders(trained: Path, place: Path) -> None:
    """The runs that examples speak of, which differ in their seeds."""
    for seed, name in enumerate(("digits", "a-0", "a-1", "b-0", "nobn-0", "nobn-1")):
        folder = place / "runs" / name
        shutil.copytree(trained, folder)
        record = json.loads((folder / "run.json").read_text())
        record["settings"]["seed"] = seed
        (folder / "run.json").write_text(json.dumps(record))


def pictures(place: Path) -> None:
    """A photograph, and a folder of two classes."""
    colours = np.random.default_rng(0).integers(0, 255, (4, 12, 12, 3), np.uint8)
    files = [
        "cat.jpg",
        *(f"pictures/{name}.png" for name in ("cat/1", "cat/2", "dog/1")),
    ]
    for colour, file in zip(colours, files, strict=True):
        (place / file).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(colour).save(place / file)


def checkpoints(name: str, place: Path) -> None:
    """A small checkpoint of the published code that an example opens."""
    if name.startswith("interop."):
        save(ReActNet18("nobn", 4, (1, 1)), place / "model_best.pth.tar")


@pytest.mark.slow
@pytest.mark.convert
@pytest.mark.parametrize("name", WITH_SCRIPTS)
def test_scripts(
    name: str,
    place: Path,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
):
    text = "\n".join(scripts(name))
    if name == COMPARING:
        record = request.getfixturevalue("trained") / "run.json"
        assert json.loads(record.read_text())["settings"]["width"] == 8
        assert (record.parents[1] / "compare.json").exists()
        return
    if "runs/" in text and name != "training.train":
        run_folders(request.getfixturevalue("trained"), place)
    if (".tflite" in text and name != CONVERTING) or name == FORMATS:
        file, report = request.getfixturevalue("converted")

        def convert(model: Model, path: str, **_: Any) -> Any:
            shutil.copyfile(file, path)
            return report

        monkeypatch.setattr(nobn, "convert", convert)
        monkeypatch.setattr(_formats, "convert", convert)
    if name == "training.train":
        actual = nobn.training.load_run(request.getfixturevalue("trained"))
        monkeypatch.setattr(nobn.training, "train", lambda *_: actual)
    checkpoints(name, place)
    if name.startswith("data."):
        pictures(place)
    if name.startswith("callbacks."):
        # Their contract knows what they do in a graph, which is traced for long.
        monkeypatch.setattr(Model, "run_eagerly", True)
    given = {"nobn": nobn, "tf": tf, "lq": lq, "np": np, "Path": Path}
    if re.search(r"\bmodel\b", text):
        given["model"] = small_model()
    with step_by_step(), without_curves():
        run(text, **given)


@pytest.mark.parametrize("name", WITH_SESSIONS)
def test_sessions(name: str, place: Path):
    """What is typed after >>> answers as printed."""
    runner = doctest.DocTestRunner()
    for session in sessions(name):
        session.globs = {"nobn": nobn, **vars(nobn.training)}
        answered = runner.run(session)
        assert answered.attempted > 0 == answered.failed


def test_every_public_name_is_in_the_reference():
    """But functions without an example, which other parts of the package call."""
    listed = set(names())
    spaces = {
        space: getattr(nobn, space)
        for space in nobn.__all__
        if inspect.ismodule(getattr(nobn, space))
    }
    spaces |= {"deploy": nobn.deploy, "surgery": nobn.surgery}
    spaces |= {"diagnostics": nobn.diagnostics}
    public = {
        f"{space}.{name}"
        for space, module in spaces.items()
        for name in module.__all__
        if inspect.isclass(actual := getattr(module, name))
        or (callable(actual) and "Example" in (actual.__doc__ or ""))
        # An earlier name is said where the present one is.
        if getattr(actual, "__name__", name) == name
    }
    top = {name for name in nobn.__all__ if callable(getattr(nobn, name))}
    again = {f"{space}.{name}" for space in spaces for name in top}
    assert public - again - listed == set()
    assert top <= listed
