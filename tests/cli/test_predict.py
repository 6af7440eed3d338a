"""Images shown to a run and to its file: the same classes, and those of a test."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from larq_nobn import data, deploy, training
from cli.answers import one_sentence, predictions
from cli.conftest import Invoke
from larq_nobn._keras import dtype_policy, keras
from PIL import Image

COUNT = 40


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    """Test images of digits, as a network gets them."""
    return next(iter(data.load("digits", "test", COUNT).as_numpy_iterator()))[0]


@pytest.fixture(scope="module")
def pictures(images: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as files: grey and coloured ones, of their size and of twice it."""
    folder = tmp_path_factory.mktemp("pictures") / "shown"
    (folder / "deeper").mkdir(parents=True)
    info = data.open_dataset("digits").info
    values = (images * info.std + info.mean)[..., 0] * 255
    for n, pixels in enumerate(np.rint(values).astype(np.uint8)):
        picture = Image.fromarray(pixels if n % 2 else np.stack([pixels] * 3, -1))
        if n % 3 == 0:
            picture = picture.resize((16, 16), Image.Resampling.NEAREST)
        place = folder / "deeper" if n >= COUNT // 2 else folder
        picture.save(place / f"{n:02} é.{'png' if n % 4 else 'bmp'}")
    (folder / "notes.txt").write_text("no image")
    (folder / ".hidden.png").write_bytes(b"neither")
    return folder


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def test_a_run_says_what_its_network_says_of_the_test_images(
    run_folder: Path, pictures: Path, images: np.ndarray, invoke: Invoke
):
    actual = predictions(invoke, run_folder, pictures)
    model = training.open_model(run_folder)
    expected = softmax(model.predict_on_batch(images).astype(np.float64))
    assert len(actual) == COUNT
    for row in actual:
        assert set(row) == {"file", "predictions"}
        p = expected[int(Path(row["file"]).name[:2])]
        order = sorted(range(10), key=lambda k: -p[k])[:3]
        assert [each["label"] for each in row["predictions"]] == [str(k) for k in order]
        said = [each["probability"] for each in row["predictions"]]
        np.testing.assert_allclose(said, p[order], rtol=1e-4)
    # In the order in which a folder is gone through.
    assert [row["file"] for row in actual] == sorted(row["file"] for row in actual)
    # The model alone, which says what it was trained on.
    alone = predictions(invoke, run_folder / "model.keras", pictures)
    for row, other in zip(actual, alone, strict=True):
        best, same = row["predictions"][0], other["predictions"][0]
        assert (row["file"], best["label"]) == (other["file"], same["label"])
        assert best["probability"] == pytest.approx(same["probability"], rel=1e-6)
    (all_classes, *_) = predictions(invoke, run_folder, pictures, "--top", 99)
    assert len(all_classes["predictions"]) == 10


def test_a_network_in_half_precision_says_what_its_file_will(
    run_folder: Path,
    pictures: Path,
    tmp_path: Path,
    invoke: Invoke,
    monkeypatch: pytest.MonkeyPatch,
):
    whole = training.open_model(run_folder)
    monkeypatch.setattr(deploy, "prepared", lambda model, **_: whole)
    with dtype_policy("mixed_bfloat16"):
        model = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(10)])
        model.build((None, 8, 8, 1))
    training.save_model(model, tmp_path / "model.keras", dataset="digits")
    of_run = predictions(invoke, run_folder, pictures)
    actual = predictions(invoke, tmp_path / "model.keras", pictures)
    for row, other in zip(actual, of_run, strict=True):
        best, same = row["predictions"][0], other["predictions"][0]
        assert best["label"] == same["label"]
        assert best["probability"] == pytest.approx(same["probability"], rel=1e-6)


def test_a_table_has_a_row_for_each_image(
    run_folder: Path, pictures: Path, invoke: Invoke, tmp_path: Path
):
    two = sorted(pictures.glob("[0-9]*.png"))[:2]
    result = invoke("predict", run_folder, *two, "--json", tmp_path / "found.json")
    assert result.exit_code == 0, result.output
    actual = json.loads((tmp_path / "found.json").read_text())
    assert [row["file"] for row in actual] == list(map(str, two))
    shown = " ".join(result.stdout.split())
    for row in actual:
        best = row["predictions"][0]
        assert f"{best['label']} {100 * best['probability']:.1f} %" in shown
        assert len(row["predictions"]) == 3


def test_one_sentence(run_folder: Path, invoke: Invoke, tmp_path: Path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "bare.tflite").write_bytes(b"\x1c\0\0\0TFL3")
    torn, target = tmp_path / "torn.png", tmp_path / "found.json"
    bare = tmp_path / "bare.keras"
    training.save_model(training.open_model(run_folder), bare)
    torn.write_bytes(b"\x89PNG\r\n\x1a\n cut off")
    for arguments, sentence in (
        ((run_folder, tmp_path / "gone.jpg"), "gone.jpg' does not exist."),
        ((run_folder, tmp_path / "empty"), "empty contains no image. Images are files"),
        ((run_folder, torn), "torn.png cannot be read as an image: it is not a JPEG"),
        ((bare, torn), "set that it was trained on, such as"),
        ((run_folder, torn, "--dataset", "mnist"), "--dataset is not used for"),
        ((tmp_path / "bare.tflite", torn), "bare.tflite.json' cannot be read"),
    ):
        said = one_sentence(invoke("predict", *arguments, "--json", target))
        assert sentence in said
        assert not target.exists()
