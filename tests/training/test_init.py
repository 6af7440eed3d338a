"""Runs that start from the weights of another network."""

from __future__ import annotations

import json
import logging
import re
import shutil
from dataclasses import replace
from pathlib import Path

import larq_nobn as nobn
import larq as lq
import numpy as np
import pytest
import tensorflow as tf
from larq_nobn import training
from larq_nobn._keras import keras
from larq_nobn.training._network import (
    optimizer_for,
    take_init,
    transfer,
    with_head,
)
from larq_nobn.training._run_folder import check_output, plain
from numpy.testing import assert_allclose, assert_array_equal
from training.runs import assert_same, stop_and_resume

layers, softmax = keras.layers, tf.nn.softmax
from_recipe = training.RunSettings.from_recipe
RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(3, 8, 8, 3)).astype(np.float32)


def tiny(classes: int = 10, **options: object) -> keras.Model:
    return nobn.models.ReActNet18(
        (8, 8, 1), classes, **{"width": 4, "blocks": (1, 1), **options}
    )


def name_of(weight: tf.Variable) -> str:
    """Of layer and weight, without the scopes in between."""
    parts = weight.name.removesuffix(":0").split("/")
    return f"{parts[0]}/{parts[-1]}"


def head_of(model: keras.Model) -> str:
    kinds = (layers.Dense, nobn.layers.SymmetricHead, layers.Conv2D)
    return [each.name for each in model.layers if isinstance(each, kinds)][-1]


def scrambled(model: keras.Model) -> keras.Model:
    values = [RNG.normal(size=w.shape) for w in model.get_weights()]
    model.set_weights([0.1 * value**2 + 0.01 for value in values])
    return model


def zoo_like() -> keras.Model:
    """As Larq Zoo writes them: unnamed layers, norms, shortcuts, a softmax apart."""
    image = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, padding="same", use_bias=False)(image)
    x = layers.BatchNormalization()(x)
    y = lq.layers.QuantConv2D(
        4,
        3,
        padding="same",
        pad_values=1.0,
        use_bias=False,
        input_quantizer="ste_sign",
        kernel_quantizer="ste_sign",
        kernel_constraint="weight_clip",
    )(x)
    x = layers.add([layers.BatchNormalization()(y), x])
    x = layers.GlobalAveragePooling2D()(layers.ReLU(name="features")(x))
    x = layers.Dense(5)(x)
    return keras.Model(image, layers.Activation("softmax", dtype="float32")(x))


# What is taken.


def test_weights_of_the_same_name_and_shape_are_taken():
    source, target = scrambled(tiny(7)), tiny(10)
    before = {name_of(w): w.numpy() for w in target.weights}
    actual = transfer(source, target, "runs/a")
    given = {
        name_of(w): getattr(w, "latent_variable", w).numpy() for w in source.weights
    }
    names = list(map(name_of, target.weights))
    head = ["head/kernel", "head/bias"]
    assert actual["taken"] == [name for name in names if name not in head]
    assert (actual["fresh"], actual["left"], actual["source"]) == (head, head, "runs/a")
    for weight in target.weights:
        value = getattr(weight, "latent_variable", weight).numpy()
        name = name_of(weight)
        assert_array_equal(value, (before if name in head else given)[name])
    # Another number of stages: the classifier has a kernel of another shape, and a
    # bias of the same.
    actual = transfer(source, tiny(7, blocks=(1,)), "a")
    assert actual["fresh"] == head
    assert [name for name in actual["left"] if name.startswith("head")] == head
    assert len([name for name in actual["left"] if name.startswith("stage2")]) == 8


def test_layers_inside_models_are_matched_by_their_path():
    def nested(classes: int) -> keras.Model:
        inner = keras.Sequential(
            [layers.Dense(3, name="one"), layers.Dense(3, name="two")], name="body"
        )
        image = keras.Input((3,))
        return keras.Model(image, layers.Dense(classes, name="end")(inner(image)))

    source, target = scrambled(nested(2)), nested(4)
    actual = transfer(source, target, "a")
    body = [f"body/{a}/{b}" for a in ("one", "two") for b in ("kernel", "bias")]
    assert (actual["taken"], actual["fresh"]) == (body, ["end/kernel", "end/bias"])
    for given, taken in zip(source.weights[:4], target.weights[:4], strict=True):
        assert_array_equal(given, taken)
    other = keras.Sequential([layers.Dense(3, input_shape=(2,))])
    with pytest.raises(ValueError, match="No weight of init='a' fits the network"):
        transfer(other, target, "a")


# The network of a file itself.


@pytest.fixture(scope="module")
def folded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("init") / "folded.keras"
    training.save_model(nobn.fold_batch_norm(scrambled(zoo_like())), file)
    return file


def test_a_folded_model_gets_a_new_head_and_keeps_its_features(folded: Path):
    source = training.open_model(folded)
    target = with_head(source, (8, 8, 3), 7, "of a file")
    actual = transfer(source, target, "folded.keras")
    head = head_of(target)
    assert actual["fresh"] == [f"{head}/kernel", f"{head}/bias"]
    given, taken = (
        keras.Model(each.inputs, each.get_layer("features").output)(IMAGES)
        for each in (source, target)
    )
    assert_array_equal(given, taken)
    kernel, bias = target.get_layer(head).get_weights()
    logits = taken.numpy().mean((1, 2)).astype(np.float64) @ kernel + bias
    assert_allclose(target(IMAGES), logits, rtol=1e-4, atol=1e-5)


def test_a_head_of_the_same_size_is_taken_and_its_softmax_is_not(folded: Path):
    source = training.open_model(folded)
    target = with_head(source, (8, 8, 3), 5, "a")
    assert transfer(source, target, "a")["fresh"] == []
    logits = np.asarray(target(IMAGES), np.float64)
    powers = np.exp(logits - logits.max(1, keepdims=True))
    assert_allclose(source(IMAGES), powers / powers.sum(1, keepdims=True), rtol=1e-4)
    assert np.max(source(IMAGES)) < 0.99
    # For images of another size too.
    target = with_head(source, (12, 10, 3), 5, "a")
    assert target.input_shape == (None, 12, 10, 3)


def ending(*parts: keras.layers.Layer, shape=(None, None, 3)) -> keras.Model:
    return keras.Sequential([keras.Input(shape), layers.Conv2D(4, 3), *parts])


ENDINGS = {
    "activation": [layers.GlobalMaxPool2D(), layers.Dense(5, "softmax", name="end")],
    "layer": [
        *(layers.Conv2D(5, 1, name="end"), layers.GlobalMaxPool2D(), layers.Softmax())
    ],
    "norm": [
        layers.GlobalMaxPool2D(),
        lq.layers.QuantDense(5, input_quantizer="ste_sign", name="end"),
        layers.BatchNormalization(),
        layers.Activation("softmax"),
    ],
    "symmetric": [layers.GlobalMaxPool2D(), nobn.layers.SymmetricHead(5, name="end")],
}


@pytest.mark.parametrize("name", ENDINGS)
def test_endings(name: str):
    model = ending(*ENDINGS[name])
    made = with_head(model, (8, 8, 3), 7, "a")
    assert made.output_shape == (None, 7)
    assert head_of(made) == "end"
    assert not np.allclose(np.sum(made(IMAGES), 1), 1, atol=1e-2)
    assert model.output_shape == (None, 5)


def test_what_ends_in_a_map_gets_a_pool_and_a_head():
    made = with_head(ending(layers.ReLU()), (8, 8, 3), 7, "a")
    assert (head_of(made), made.output_shape) == ("head", (None, 7))


def of_two_inputs() -> keras.Model:
    images = [keras.Input((8, 8, 3)) for _ in range(2)]
    return keras.Model(images, layers.add(images))


@pytest.mark.parametrize(
    "model, sentence",
    [
        (
            lambda: ending(layers.Flatten(), shape=(8, 8, 3)),
            r"shape \(196,\) instead of 7 classes, and",
        ),
        (of_two_inputs, "has 2 inputs and 1 outputs, but an image cl"),
    ],
    ids=["features", "two"],
)
def test_networks_that_cannot_be_used(model, sentence: str):
    with pytest.raises(ValueError, match=sentence):
        with_head(model(), (9, 9, 3), 7, "a")


# Settings.


def test_without_a_model_it_is_the_network_of_init():
    settings = from_recipe("fine_tune", init="runs/a")
    assert (settings.model, settings.normalization) == ("init", None)
    assert (settings.network, settings.calibrate) == ({}, False)
    assert settings.init_sha256 is None  # there is no such file
    assert from_recipe(init="runs/a").recipe == "plain"
    named = from_recipe("nobn", model="ReActNet18", init="runs/a")
    assert (named.normalization, named.calibrate) == ("nobn", False)


def test_settings_hold_the_content_of_the_file(tmp_path: Path):
    (tmp_path / "model.keras").write_bytes(b"abc")
    # Of FIPS 180-2, appendix B.1.
    digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    for init in (tmp_path, tmp_path / "model.keras"):
        assert from_recipe(init=str(init)).init_sha256 == digest


def factors(settings: training.RunSettings, network: keras.Model) -> dict[str, float]:
    """The factor of every weight, by the first of the patterns that is in its path."""
    optimizer = optimizer_for(settings, 5, network)
    groups = optimizer.inner_optimizer.multipliers
    return {
        name_of(weight): next(
            factor
            for key, factor in groups.items()
            if re.search(key, f"/{weight.name}")
        )
        for weight in network.trainable_weights
    }


def test_the_backbone_learns_slower_and_its_shifts_faster_than_it():
    named = {"model": "ReActNet18", "init": "a"}
    actual = factors(from_recipe("fine_tune", **named), tiny(blocks=(1,)))
    assert actual == pytest.approx(
        {
            "stem_conv/kernel": 0.3,
            "stem_conv/gain": 1.2,
            "stage1_block1_conv/kernel": 0.3,
            "stage1_block1_conv/gain": 1.2,
            "stage1_block1_conv/shift": 1.2,
            "stage1_block1_act/shift_in": 0.3,
            "stage1_block1_act/slope": 0.3,
            "stage1_block1_act/shift_out": 0.3,
            "head/kernel": 1.0,
            "head/bias": 1.0,
        }
    )


def test_the_classifier_of_any_network_is_spared_and_not_clipped(folded: Path):
    network = with_head(training.open_model(folded), (8, 8, 3), 7, "a")
    settings = from_recipe("fine_tune", init="a", shift_multiplier=1.0)
    head = head_of(network)
    assert factors(settings, network) == {
        name_of(weight): 1.0 if head in weight.name else 0.3
        for weight in network.trainable_weights
    }
    optimizer = optimizer_for(settings, 5, network)
    assert any(re.search(key, f"/{head}/kernel:0") for key in optimizer.exclude)


# Runs.


def test_what_would_start_with_nothing_is_rejected(tmp_path: Path):
    with pytest.raises(ValueError, match="backbone_multiplier=0.3 is for the weights"):
        training.train(from_recipe("fine_tune", dataset="digits"), tmp_path / "run")
    gone = from_recipe(dataset="digits", init=str(tmp_path / "gone.keras"))
    with pytest.raises(FileNotFoundError, match="gone.keras does not exist"):
        training.train(gone, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network of one binary convolution, of three classes."""
    image = keras.Input((8, 8, 1))
    x = lq.layers.QuantConv2D(
        4, 3, kernel_quantizer="ste_sign", kernel_constraint="weight_clip", name="conv"
    )(image)
    outputs = layers.Dense(3, "softmax", name="end")(layers.GlobalMaxPool2D()(x))
    file = tmp_path_factory.mktemp("small") / "small.keras"
    training.save_model(keras.Model(image, outputs), file)
    return file


def test_another_file_under_the_same_name_is_rejected(small: Path):
    settings = replace(from_recipe(init=str(small)), init_sha256=64 * "0")
    with pytest.raises(ValueError, match="is not the file that the run started from"):
        take_init(settings, keras.Sequential(), False)


@pytest.mark.slow
@pytest.mark.usefixtures("eager")
def test_a_run_that_resumes_takes_nothing_again(
    small: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    shutil.copy(small, tmp_path / "a.keras")
    chosen = {"dataset": "digits", "init": str(tmp_path / "a.keras")}
    short = {"epochs": 2, "limit": 32}
    settings = from_recipe("fine_tune", **chosen, **short)
    with caplog.at_level(logging.INFO, "larq_nobn.start"):
        whole = training.train(settings, tmp_path / "whole")
        resumed = stop_and_resume(settings, tmp_path / "resumed", 1)
    said = [each.getMessage() for each in caplog.records if "start" in each.name]
    # By the first, and by the part of the second that was stopped.
    sentence = f"2 of 4 weights are from {settings.init}. New: end/kernel, end/bias."
    assert sum(sentence in each for each in said) == 2
    assert_same(resumed, whole)
    assert whole.model.output_shape == (None, 10)
    taken = {"source": settings.init, "taken": ["conv/kernel", "conv/bias"]}
    ends = ["end/kernel", "end/bias"]
    assert resumed.record["init"] == {**taken, "fresh": ends, "left": ends}
    written = json.loads((whole.folder / "run.json").read_text())
    assert written["init"] == resumed.record["init"]
    # Once it is over, nobody asks for the file.
    (tmp_path / "a.keras").unlink()
    again = from_recipe("fine_tune", **chosen, **short)
    assert_same(training.train(again, whole.folder, resume=True), whole)


def test_an_unfinished_run_resumes_without_the_file(tmp_path: Path):
    chosen = {"dataset": "digits", "model": "ReActNet18"}
    settings = plain(from_recipe(**chosen, init=str(tmp_path / "gone.keras")))
    (tmp_path / "checkpoints").mkdir()
    kept = json.dumps({**settings, "init_sha256": "abc"})
    (tmp_path / "settings.json").write_text(kept)
    check_output(tmp_path, settings, resume=True)
    with pytest.raises(ValueError, match="a run with init_sha256='abc', but"):
        check_output(tmp_path, {**settings, "init_sha256": "def"}, resume=True)
