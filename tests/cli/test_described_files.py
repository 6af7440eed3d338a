"""A model file that says which images it classifies: no command asks for them."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import larq_nobn as nobn
import numpy as np
import pytest
from cli.answers import one_sentence
from cli.conftest import Invoke
from PIL import Image

ENTRY = "larq_nobn.dataset.json"


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Dark and bright images of 12 pixels, in a folder for each class."""
    folder = tmp_path_factory.mktemp("photos")
    random = np.random.default_rng(0)
    for split, count in (("train", 8), ("test", 6)):
        for name, low in (("bright", 128), ("dark", 0)):
            (folder / split / name).mkdir(parents=True)
            for n in range(count):
                pixels = random.integers(low, low + 128, (12, 12, 3), np.uint8)
                Image.fromarray(pixels).save(folder / split / name / f"{n}.png")
    return folder


@pytest.fixture(scope="module")
def saved(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of 8 pixels, in a file that contains its data set."""
    network = nobn.models.ReActNet18((8, 8, 3), 2, width=8, blocks=(1,))
    file = tmp_path_factory.mktemp("saved") / "model.keras"
    nobn.training.save_model(network, file, dataset=photos)
    return file


def answer(invoke: Invoke, *arguments: object) -> dict:
    result = invoke(*arguments, "--json", "-")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_evaluate_uses_the_data_set_that_the_file_contains(
    saved: Path, photos: Path, invoke: Invoke, tmp_path: Path
):
    plain = tmp_path / "model.keras"
    nobn.training.save_model(nobn.training.open_model(saved), plain)
    wanted = answer(invoke, "evaluate", plain, "--dataset", photos)
    scores = answer(invoke, "evaluate", saved)
    assert scores["examples"] == 12
    for name in ("accuracy", "loss", "dataset"):
        assert scores[name] == wanted[name]
    assert "Add --dataset" in invoke("evaluate", plain).output


def test_predict_and_convert_know_classes_size_and_numbers(
    saved: Path, photos: Path, invoke: Invoke, tmp_path: Path
):
    rows = answer(invoke, "predict", saved, photos / "test" / "dark")
    labels = {p["label"] for row in rows for p in row["predictions"]}
    assert len(rows) == 6 and labels == {"bright", "dark"}
    named = answer(
        invoke, "predict", saved, photos / "test" / "dark", "--dataset", photos
    )
    assert named == rows
    assert invoke("convert", saved, tmp_path / "m.tflite").exit_code == 0
    card = nobn.deploy.read_card(tmp_path / "m.tflite")
    info = nobn.data.open_dataset(photos, image_size=8).info
    assert card.labels == ("bright", "dark") and card.preprocessing is not None
    assert card.preprocessing.size == (8, 8)
    np.testing.assert_allclose(card.preprocessing.mean, info.mean)


def test_what_does_not_fit_is_not_written(saved: Path, tmp_path: Path):
    model, file = nobn.training.open_model(saved), tmp_path / "model.keras"
    with pytest.raises(ValueError, match="has 10 classes and images of"):
        nobn.training.save_model(model, file, dataset="digits")
    assert not file.exists()


@pytest.mark.parametrize("content", ["{", "[]", '{"name": 1}'])
def test_a_damaged_description_is_one_sentence(
    saved: Path, invoke: Invoke, tmp_path: Path, content: str
):
    file = tmp_path / "model.keras"
    with zipfile.ZipFile(saved) as old, zipfile.ZipFile(file, "w") as new:
        for name in old.namelist():
            new.writestr(name, content if name == ENTRY else old.read(name))
    assert f"describes its images in {ENTRY}" in one_sentence(invoke("evaluate", file))


@pytest.mark.convert
def test_metadata_of_a_file_prepare_images_of_a_named_data_set_too(
    run_folder: Path, lite_file: Path, invoke: Invoke, tmp_path: Path
):
    file, card = tmp_path / "half.tflite", tmp_path / "half.tflite.json"
    shutil.copy(lite_file, file)
    content = json.loads(Path(f"{lite_file}.json").read_text())
    content["preprocessing"] |= {"mean": [0.5], "std": [0.5]}
    card.write_text(json.dumps(content))
    info = nobn.data.open_dataset("digits").info
    ((x, labels),) = nobn.data.load("digits", "test", 400).as_numpy_iterator()
    model = nobn.training.open_model(run_folder)
    outputs = model.predict(((x * info.std + info.mean) - 0.5) / 0.5, verbose=0)
    logits = outputs.astype(np.float64)
    of_label = logits[np.arange(len(labels)), labels]
    loss = np.mean(np.log(np.exp(logits).sum(1)) - of_label)
    for named in ((), ("--dataset", "digits")):
        scores = answer(invoke, "evaluate", file, *named)
        assert scores["mean_and_std_of"] == "half.tflite"
        assert scores["loss"] == pytest.approx(loss, rel=1e-3)


def test_files_are_evaluated_on_what_was_held_out_for_them(
    photos: Path, invoke: Invoke, tmp_path: Path
):
    """Of a folder without a part for testing, that is another fraction for each."""
    flat = photos / "train"
    info = nobn.data.open_dataset(flat, holdout=0.6).info
    model = nobn.models.ReActNet18((12, 12, 3), 2, width=8, blocks=(1,))
    keras_file, lite_file = tmp_path / "m.keras", tmp_path / "m.tflite"
    nobn.training.save_model(model, keras_file, dataset=info)
    images = nobn.data.load(flat, "test", 16, holdout=0.6)
    nobn.convert(model, lite_file, dataset=info, data=images)
    assert 0 < info.test_examples != nobn.data.open_dataset(flat).info.test_examples
    for command in ((keras_file,), (lite_file, "--dataset", flat)):
        assert answer(invoke, "evaluate", *command)["examples"] == info.test_examples


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A network as two files, `.keras` and `.tflite`, which say nothing of images."""
    layers, folder = nobn._keras.keras.layers, tmp_path_factory.mktemp("foreign")
    network = nobn._keras.keras.Sequential(
        [layers.Input((12, 12, 3)), layers.GlobalAveragePooling2D(), layers.Dense(2)]
    )
    network.save(folder / "m.keras")
    given = {"runtime": "litert", "verify": False, "allow_float": True}
    nobn.convert(network, folder / "m.tflite", **given)
    return folder / "m.keras", folder / "m.tflite"


MEAN, STD = np.array([0.5, 0.4, 0.3]), np.array([0.2, 0.25, 0.3])


@pytest.mark.convert
@pytest.mark.parametrize(
    "options, scale, mean, std",
    [
        ("--scale 1 --mean 127.5 --std 127.5", 1, 127.5, 127.5),
        ("--mean 0.5,0.4,0.3 --std 0.2,0.25,0.3", 1 / 255, MEAN, STD),
        ("--scale 1", 1, 0, 1),
        ("--mean 0.5", 1 / 255, 0.5, 1),
    ],
)
def test_options_say_how_images_are_prepared_for_a_foreign_file(
    options: str,
    scale: float,
    mean,
    std,
    foreign,
    photos: Path,
    invoke: Invoke,
    tmp_path,
):
    where = ("--dataset", photos, *options.split())
    files = {n: sorted((photos / "test" / n).iterdir()) for n in ("bright", "dark")}
    pixels = np.stack([np.asarray(Image.open(f)) for x in files.values() for f in x])
    kernel, bias = nobn._keras.keras.models.load_model(foreign[0]).get_weights()
    logits = ((scale * pixels - mean) / std).mean((1, 2)) @ kernel + bias
    odds = np.exp(logits - logits.max(1, keepdims=True))
    wanted = odds / odds.sum(1, keepdims=True)
    for file in foreign:
        scores = answer(invoke, "evaluate", file, *where)
        assert scores["mean_and_std_of"] == "the options"
        loss = -np.log(np.r_[wanted[:6, 0], wanted[6:, 1]]).mean()
        assert scores["loss"] == pytest.approx(loss, rel=1e-4)
        (row,) = answer(invoke, "predict", file, files["dark"][0], *where)
        found = {p["label"]: p["probability"] for p in row["predictions"]}
        assert found["dark"] == pytest.approx(wanted[6, 1], rel=1e-4)
    words = ("--runtime", "litert", "--allow-float")
    done = invoke("convert", foreign[0], tmp_path / "m.tflite", *words, *where)
    assert done.exit_code == 0, done.output
    steps = nobn.deploy.read_card(tmp_path / "m.tflite").preprocessing
    found = steps(pixels[:1])  # which an app computes
    np.testing.assert_allclose(found, (scale * pixels[:1] - mean) / std, 1e-4, 1e-5)


def test_options_of_preprocessing_that_have_no_use(foreign, saved, photos, invoke):
    plain, where = foreign[0], ("--dataset", photos)
    for line, said in (
        (("evaluate", saved, "--std", 2), "contains its preprocessing"),
        (("predict", saved, photos, "--scale", 1), "contains its preprocessing"),
        (("convert", plain, "m.tflite", "--mean", 0), "without --dataset"),
        (("benchmark", foreign[1], "--mean", 0), "without --formats or --dataset"),
        (("evaluate", plain, *where, "--mean", "0,0"), "is not of 3 channels"),
        (("evaluate", plain, *where, "--std", 0), "std=0.0 is outside"),
        (("evaluate", plain, *where, "--scale", 0), "0.0 is not in the range"),
    ):
        assert said in one_sentence(invoke(*line)), line
