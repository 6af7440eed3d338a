"""The commands on a folder of images of all formats, from a look to a file."""

from __future__ import annotations

import json
from pathlib import Path

import larq_nobn as nobn
import numpy as np
import pytest
from cli.answers import one_sentence, predictions
from cli.conftest import Invoke
from larq_nobn.cli import _demo, _inputs, _train
from PIL import Image

SUFFIXES = ("jpg", "png", "webp", "bmp", "gif")
NAMES = ("grün", "two words")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty images of each class; bright ones and dark ones."""
    root = tmp_path_factory.mktemp("commands") / "pictures"
    random = np.random.default_rng(0)
    for number in range(40):
        name = NAMES[number % 2]
        low = 140 * (number % 2)
        pixels = random.integers(low, low + 100, (9, 8 + number % 3, 3), np.uint8)
        path = root / name / f"{number}.{SUFFIXES[number // 2 % 5]}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    return root


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LARQ_NOBN_CACHE", str(tmp_path / "cache"))


@pytest.mark.slow
@pytest.mark.convert
@pytest.mark.usefixtures("eager")
def test_from_images_to_a_file(pictures: Path, invoke: Invoke, tmp_path: Path):
    run, file = tmp_path / "run", tmp_path / "m.tflite"
    broken = pictures / NAMES[0] / "broken.png"
    broken.write_bytes(b"broken")
    options = (
        *("train", "--dataset", pictures, "--output", run, "--width", "4"),
        *("--blocks", "1", "--epochs", "1", "--image-size", "8x10", "--holdout", "0.3"),
    )
    try:
        assert "1 of 41 files" in one_sentence(invoke(*options))
        assert not run.exists()
        result = invoke(*options, "--skip-unreadable", "--balance-classes")
        assert result.exit_code == 0, result.output
        assert invoke("convert", run, file).exit_code == 0
    finally:
        broken.unlink()
    card = nobn.deploy.read_card(file)
    info = nobn.data.open_dataset(pictures, image_size=(8, 10), holdout=0.3).info
    steps = nobn.deploy.Preprocessing(info.mean, info.std, (8, 10))
    assert card.labels == NAMES and card.preprocessing == steps
    record = json.loads((run / "run.json").read_text())
    assert record["preprocessing"]["class_names"] == list(NAMES)
    assert record["settings"]["image_size"] == [8, 10]
    # What the run was tested on, as an app sees it.
    _, origin = _inputs.open_run_or_file(run, trust=False)
    images = np.concatenate([x for x, _ in _inputs.ModelImages(None, origin).batches()])
    assert len(images) == info.test_examples
    small = [steps(nobn.data.decode(p.read_bytes())) for p in pictures.rglob("*.*")]
    known = {image.tobytes() for image in small}
    assert all(image.tobytes() in known for image in images[:, np.newaxis])
    # Run and file say the same of each image.
    said, by_file = (predictions(invoke, model, pictures) for model in (run, file))
    assert len(said) == 40
    for ours, theirs in zip(said, by_file, strict=True):
        assert ours["file"] == theirs["file"]
        labels = [each["label"] for each in ours["predictions"]]
        assert labels == [each["label"] for each in theirs["predictions"]]
        assert sorted(labels) == sorted(NAMES)
    # Of another folder without a part for testing, all are.
    result = invoke("evaluate", run, "--dataset", pictures, "--json", "-")
    assert json.loads(result.stdout)["examples"] == info.test_examples
    other = pictures.rename(pictures.with_name("others"))
    try:
        evaluated = invoke("evaluate", run, "--dataset", other, "--json", "-")
    finally:
        other.rename(pictures)
    answered = json.loads(evaluated.stdout)
    assert answered["examples"] == 40
    right = [
        Path(row["file"]).parent.name == row["predictions"][0]["label"] for row in said
    ]
    assert answered["accuracy"] == pytest.approx(np.mean(right))


def test_demo_of_an_image_folder(pictures: Path):
    settings = _demo._settings_for(str(pictures))
    assert settings["init"] == "reactnet18-w32-cifar100"
    assert settings["recipe"] == "fine_tune"


def test_few_images_are_fine_tuned(
    pictures: Path, invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    begun = []

    def stopped(settings: nobn.training.RunSettings, *_: object, **__: object):
        begun.append(settings)
        raise KeyboardInterrupt

    monkeypatch.setattr(nobn.training, "train", stopped)
    for options, init, width in (
        ([], "reactnet18-w32-cifar100", None),
        (["--width", "4"], None, 4),
        (["--image-size", "224"], None, 16),
        (["--channels", "1"], None, 16),
        (["--init", "none"], None, 16),
    ):
        place = "--dataset", pictures, "--output", tmp_path / "run"
        said = invoke("train", *place, *options).stdout
        settings = begun.pop()
        assert (settings.init, settings.width) == (init, width)
        assert (settings.recipe == "fine_tune") == (init is not None)
        assert ("--init none trains a new network" in said) == (init is not None)
        assert ("--image-size 96, or another size" in said) == ("224" in options)
    monkeypatch.setattr(_train, "FEW", 10)
    said, more = _train.start_of(str(pictures))
    assert more == {"width": 16} and "--recipe fine_tune starts from a tra" in said
    assert _train.start_of("digits") == (None, {})


@pytest.mark.parametrize(
    ("shape", "options", "size", "channels"),
    [
        ((20, 30), {}, None, 3),  # gray ones
        ((20, 30, 3), {}, None, None),
        ((8, 10, 3), {}, (32, 40), None),
        ((200, 150, 3), {}, (96, 72), None),
        ((10, 200), {}, (96, 96), 3),
        ((300, 300), {}, None, 3),  # are 96x96 anyway
        ((200, 150, 3), {"image_size": (64, 48)}, None, None),
    ],
)
def test_any_few_images_are_fine_tuned(
    shape: tuple[int, ...],
    options: dict,
    size: tuple[int, int] | None,
    channels: int | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setenv("LARQ_NOBN_CACHE", str(tmp_path / "cache"))
    random = np.random.default_rng(0)
    for number in range(20):
        place = tmp_path / "images" / f"kind {number % 2}"
        place.mkdir(parents=True, exist_ok=True)
        pixels = random.integers(0, 256, shape, np.uint8)
        Image.fromarray(pixels).save(place / f"{number}.png")
    said, more = _train.start_of(str(tmp_path / "images"), options, **options)
    given = {"recipe": "fine_tune", "init": _train.START}
    given |= {} if size is None else {"image_size": size}
    assert more == given | ({} if channels is None else {"channels": channels})
    assert ("three equal channels" in said) == (channels == 3)
    assert ("images scaled to" in said) == (size is not None)


def test_images_are_as_a_model_without_metadata_takes_them(pictures: Path):
    """In its size, and colors as brightness for one channel."""
    for channels in (1, 3):
        image = nobn._keras.keras.Input((8, 6, channels))
        model = nobn._keras.keras.Model(image, image)
        images = _inputs.ModelImages(str(pictures), None, model=model)
        assert images.info.image_shape == (8, 6, channels)
        assert len(images.info.mean) == channels
