"""Runs on folders of images, and on images that are handed over."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from larq_nobn import training
from larq_nobn.data import open_dataset
from larq_nobn.training._run_folder import lock_run_folder, plain
from PIL import Image
from training.runs import Stop, StopAt, assert_same

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (60, 8, 8), np.uint8)
LABELS = np.sort(np.arange(60) % 3)[::-1].copy()
NAMES = ("a class", "β", "γ")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("pictures")
    for number, (pixels, label) in enumerate(zip(PIXELS, LABELS, strict=True)):
        split = "train" if number % 4 else "test"
        path = root / split / NAMES[label] / f"{number:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    return root


@pytest.fixture
def settings(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LARQ_NOBN_CACHE", str(tmp_path / "cache"))
    return training.RunSettings(
        "plain",
        dataset=str(folder),
        width=4,
        blocks=(1,),
        epochs=2,
        batch_size=16,
        augment="strong",
        label_smoothing=0.1,
        mixup=0.4,
        balance_classes=True,
    )


@pytest.mark.slow
@pytest.mark.usefixtures("little_network")
def test_resumed_and_handed_over(settings: training.RunSettings, tmp_path: Path):
    """Stopped in the second epoch, a run ends like one of the same pixels as arrays."""
    with pytest.raises(Stop):
        training.train(settings, tmp_path / "run", StopAt(1))
    run = training.train(settings, tmp_path / "run", resume=True)
    test = np.arange(60) % 4 == 0
    parts = tuple((PIXELS[part], LABELS[part]) for part in (~test, test))
    given = training.train(settings, tmp_path / "given", data=parts)
    assert_same(run, given)
    assert given.record["settings"]["dataset"] == "given"
    assert run.dataset.class_names == NAMES
    assert given.dataset.class_names == ("0", "1", "2")
    assert run.record["examples"] == {"train": 45, "validation": 0, "test": 15}
    assert run.record["preprocessing"]["crop"] == 1.0
    assert run.record["settings"]["dataset"] == Path(settings.dataset).name
    assert (tmp_path / "run" / "images.txt").read_text() == settings.dataset
    for key in ("mean", "std", "image_shape"):
        assert run.record["preprocessing"][key] == given.record["preprocessing"][key]


def test_a_run_resumes_with_the_images_that_it_started_with(
    folder: Path, settings: training.RunSettings, tmp_path: Path
):
    pictures, run = tmp_path / "copy", tmp_path / "run"
    shutil.copytree(folder, pictures)
    settings = replace(settings, dataset=str(pictures))
    actual = [open_dataset(**settings.images).fingerprint]
    with (
        pytest.raises(Stop),
        lock_run_folder(run, plain(settings, actual[0])),
    ):
        (run / "checkpoints").mkdir()
        (run / "checkpoints" / "epoch-0001.npz").touch()
        raise Stop
    first, last = pictures / "train" / NAMES[0], pictures / "train" / NAMES[2]
    for change in (
        lambda: shutil.copy(first / "58.png", first / "59.png"),
        lambda: (last / "01.png").unlink(),
        lambda: (last / "02.png").rename(first / "02.png"),
    ):
        change()
        actual.append(open_dataset(**settings.images).fingerprint)
    assert len({*actual}) == 4
    with pytest.raises(ValueError, match="copy were added, removed or changed"):
        training.train(settings, run, resume=True)
