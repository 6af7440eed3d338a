"""Opening runs and models: damage is named, and no code is run from a file."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from larq_nobn import training


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


def test_what_is_missing_or_damaged_is_named(tiny_run: training.Run, tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="nowhere is not a finished run"):
        training.load_run(tmp_path / "nowhere")
    copy = tmp_path / "copy"
    copy.mkdir()
    (copy / "settings.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match="copy is not finished. .* --resume"):
        training.load_run(copy)
    shutil.rmtree(copy)
    for name in ("run.json", "history.csv", "model.keras"):
        shutil.copytree(tiny_run.folder, copy)
        (copy / name).write_bytes((copy / name).read_bytes()[:-40] + b"\0\xff")
        with pytest.raises(ValueError, match="is damaged"):
            training.load_run(copy)
        (copy / name).unlink()
        with pytest.raises(FileNotFoundError, match=name):
            training.load_run(copy)
        shutil.rmtree(copy)


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
def test_files_of_models(tiny_run: training.Run, tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="nowhere.keras does not exist"):
        training.open_model(tmp_path / "nowhere.keras")
    (tmp_path / "notes.txt").write_text("text")
    with pytest.raises(ValueError, match="notes.txt is not a .keras file"):
        training.open_model(tmp_path / "notes.txt")
    file = tmp_path / "model.h5"
    tiny_run.model.save(file, save_format="h5")
    model = training.open_model(file)
    images = np.random.default_rng(0).normal(size=(4, *model.input_shape[1:]))
    np.testing.assert_array_equal(model(images), tiny_run.model(images))
    with h5py.File(file, "a") as stored:
        del stored.attrs["model_config"]
    with pytest.raises(ValueError, match="model.h5 .*contains no model, at most"):
        training.open_model(file)
    file.write_bytes(b"\x89HDF\r\n\x1a\n cut off")
    with pytest.raises(ValueError, match="model.h5 is damaged or not a Keras model"):
        training.open_model(file)
    with pytest.raises(ValueError, match="model.h5 is not a name for a Keras model"):
        training.save_model(model, file)
