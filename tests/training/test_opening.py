"""Opening runs and models: damage is named, and no code is run from a file."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from larq_nobn import training
from larq_nobn._keras import keras


@pytest.fixture
def copied(tiny_run: training.Run, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_run.folder, tmp_path / "copy"))


def test_a_run_comes_back_as_it_was(
    tiny_run: training.Run, caplog: pytest.LogCaptureFixture
):
    reopened = training.load_run(tiny_run.folder)
    # Of starved weights one is told where a layer is made, not where it is opened.
    assert caplog.text == ""
    assert reopened.record == json.loads(json.dumps(tiny_run.record))
    assert reopened.history == [
        {name: float(value) for name, value in row.items()} for row in tiny_run.history
    ]
    images = np.random.default_rng(0).normal(size=(4, 8, 8, 1)).astype(np.float32)
    np.testing.assert_array_equal(
        reopened.model.predict_on_batch(images), tiny_run.model.predict_on_batch(images)
    )
    assert type(reopened.model.optimizer) is type(tiny_run.model.optimizer)


def test_a_missing_folder(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="nowhere is not a finished run"):
        training.load_run(tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["run.json", "history.csv", "model.keras"])
def test_a_missing_file(name: str, copied: Path):
    (copied / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"{name}"):
        training.load_run(copied)


@pytest.mark.parametrize("name", ["run.json", "history.csv", "model.keras"])
def test_a_damaged_file(name: str, copied: Path):
    (copied / name).write_bytes((copied / name).read_bytes()[:-40] + b"\0\xff")
    with pytest.raises(ValueError, match="is damaged"):
        training.load_run(copied)


def test_not_a_keras_file(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="nowhere.keras does not exist"):
        training.open_model(tmp_path / "nowhere.keras")
    (tmp_path / "notes.txt").write_text("text")
    with pytest.raises(ValueError, match="notes.txt is not a .keras file"):
        training.open_model(tmp_path / "notes.txt")


def _rewritten(source: Path, target: Path, old: str, new: str) -> Path:
    """Copies a `.keras` file with a change in its configuration."""
    with zipfile.ZipFile(source) as given, zipfile.ZipFile(target, "w") as made:
        for name in given.namelist():
            content = given.read(name)
            if name == "config.json":
                assert old in content.decode()
                content = content.decode().replace(old, new).encode()
            made.writestr(name, content)
    return target


def test_a_lambda_is_rejected(tmp_path: Path):
    inputs = keras.Input((2,))
    outputs = keras.layers.Lambda(lambda x: x + 1)(inputs)
    keras.Model(inputs, outputs).save(tmp_path / "lambda.keras")
    with pytest.raises(ValueError, match=r"lambda.keras carries Python code \(a Lam"):
        training.open_model(tmp_path / "lambda.keras")


@pytest.fixture
def h5(tiny_run: training.Run, tmp_path: Path) -> Path:
    """The model of a run, in the older kind of file."""
    tiny_run.model.save(tmp_path / "model.h5", save_format="h5")
    return tmp_path / "model.h5"


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
def test_an_h5_file_contains_the_same_model(tiny_run: training.Run, h5: Path):
    model = training.open_model(h5)
    images = np.random.default_rng(0).normal(size=(4, *model.input_shape[1:]))
    np.testing.assert_array_equal(model(images), tiny_run.model(images))


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
@pytest.mark.parametrize(
    "change, message",
    [
        (("Conv2D", "Lambda"), "wants 'QuantLambda' .* not trusted"),
        (('"name": "head"', '"function_type": "lambda"'), "carries Python code"),
        (('"name": "head"', '"module": "os"'), "from the Python module 'os'"),
        (None, "it contains weights at most, and no model"),
    ],
)
def test_an_h5_file_runs_no_code(
    change: tuple[str, str] | None, message: str, h5: Path
):
    with h5py.File(h5, "a") as stored:
        config = stored.attrs["model_config"]
        del stored.attrs["model_config"]
        if change is not None:
            assert change[0] in config
            stored.attrs["model_config"] = config.replace(*change)
    with pytest.raises(ValueError, match=f"model.h5 .*{message}"):
        training.open_model(h5)


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
def test_a_lambda_in_an_h5_file_is_rejected(tmp_path: Path):
    inputs = keras.Input((2,))
    outputs = keras.layers.Lambda(lambda x: x + 1)(inputs)
    keras.Model(inputs, outputs).save(tmp_path / "lambda.h5", save_format="h5")
    with pytest.raises(ValueError, match=r"lambda.h5 carries Python code \(a Lambda"):
        training.open_model(tmp_path / "lambda.h5")


def test_a_damaged_h5_file(tmp_path: Path):
    (tmp_path / "model.h5").write_bytes(b"\x89HDF\r\n\x1a\n cut off")
    with pytest.raises(ValueError, match="model.h5 is damaged or not a Keras model"):
        training.open_model(tmp_path / "model.h5")


@pytest.mark.parametrize("module", ["os", "subprocess", "tests.training"])
def test_a_foreign_module_is_not_imported(
    module: str, tiny_run: training.Run, tmp_path: Path
):
    changed = _rewritten(
        tiny_run.folder / "model.keras",
        tmp_path / "changed.keras",
        '"module": "keras.layers"',
        f'"module": "{module}"',
    )
    with pytest.raises(ValueError, match=f"from the Python module '{module}'"):
        training.open_model(changed)


def test_a_builtin_function_is_rejected(tmp_path: Path):
    inputs = keras.Input((2,))
    outputs = keras.layers.Dense(2, activation="relu")(inputs)
    keras.Model(inputs, outputs).save(tmp_path / "relu.keras")
    as_function = (
        '{"module": "builtins", "class_name": "function", "config": "exec", '
        '"registered_name": "function"}'
    )
    changed = _rewritten(
        tmp_path / "relu.keras", tmp_path / "exec.keras", '"relu"', as_function
    )
    with pytest.raises(ValueError, match="from the Python module 'builtins'"):
        training.open_model(changed)


def test_a_class_registered_by_the_user_is_welcome(tmp_path: Path):
    @keras.saving.register_keras_serializable("mine")
    class Doubling(keras.layers.Layer):
        def call(self, inputs):
            return 2 * inputs

    inputs = keras.Input((2,))
    keras.Model(inputs, Doubling()(inputs)).save(tmp_path / "mine.keras")
    model = training.open_model(tmp_path / "mine.keras")
    np.testing.assert_array_equal(model.predict_on_batch(np.ones((1, 2))), [[2, 2]])


class _Unsaved(keras.layers.Layer):
    def call(self, inputs):
        return inputs

    def get_config(self):
        raise RuntimeError("no configuration")


def test_a_model_is_saved_whole_or_not_at_all(tiny_run: training.Run, tmp_path: Path):
    target = tmp_path / "model.keras"
    target.write_text("earlier")
    inputs = keras.Input((2,))
    with pytest.raises(RuntimeError, match="no configuration"):
        training.save_model(keras.Model(inputs, _Unsaved()(inputs)), target)
    assert target.read_text() == "earlier"
    training.save_model(tiny_run.model, target)
    assert training.open_model(target).name == tiny_run.model.name
    assert [path.name for path in tmp_path.iterdir()] == ["model.keras"]


def test_a_model_is_saved_under_the_name_that_it_will_be_opened_by(tmp_path: Path):
    with pytest.raises(ValueError, match="model.h5 is not a name for a Keras model"):
        training.save_model(keras.Sequential(), tmp_path / "model.h5")
