"""Checkpoints: whole or not used, complete, and written before they are named."""

from __future__ import annotations

import io
import logging
import os
import zipfile
from pathlib import Path
from typing import Any

import larq_nobn as nobn
import larq as lq
import numpy as np
import pytest
from larq_nobn._files import is_leftover, replacing
from larq_nobn._keras import dtype_policy, keras
from larq_nobn.training._callbacks import Reseeding, own_generators
from larq_nobn.training._checkpoints import (
    Checkpoints,
    Position,
    checkpoints_in,
    name_of,
    read_checkpoint,
)


class Counter(keras.callbacks.Callback):
    """State that is not a variable."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[dict[str, float]] = []

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self.rows.append({"epoch": epoch, "third": epoch / 3, "none": float("nan")})

    def get_state(self) -> Any:
        return self.rows

    def set_state(self, state: Any) -> None:
        self.rows = state


def clipped_in_groups() -> Any:
    grouped = nobn.optimizers.ParameterGroups(keras.optimizers.Adam(0.01), {"gain": 4})
    clipped = nobn.optimizers.AdaptiveGradientClipping(grouped, 0.1)
    # It grows after three steps: the scale and the counter are in between.
    return keras.mixed_precision.LossScaleOptimizer(
        clipped, initial_scale=2.0**17, dynamic_growth_steps=3
    )


def network(optimizer: Any = "adam", width: int = 4) -> keras.Model:
    """Weights of every kind: kernels, gains, moving averages, random layers."""
    keras.utils.set_random_seed(1)
    with own_generators():
        x = image = keras.Input((6,))
        x = lq.layers.QuantDense(
            width, kernel_quantizer=nobn.quantizers.ScaledStdSign(), name="binary"
        )(x)
        x = keras.layers.BatchNormalization()(x)
        x = keras.layers.Dropout(0.3)(x)
        x = keras.layers.GaussianNoise(0.1)(x)
        x = lq.quantizers.SteSign()(x)
        x = nobn.layers.SignFlipDropout(0.3)(x)
        model = keras.Model(image, keras.layers.Dense(2, dtype="float32")(x))
    # Without a graph, which takes longer to trace than these few steps take.
    loss = keras.losses.SparseCategoricalCrossentropy(True)
    model.compile(optimizer, loss, run_eagerly=True)
    return model


def fit(model: keras.Model, folder: Path, begin: int, end: int) -> Counter:
    """Trains epochs start to end - 1, going on where the folder says."""
    rng = np.random.default_rng(2)
    images, labels = rng.normal(size=(20, 6)), rng.integers(0, 2, 20)
    counter = Counter()
    checkpoints = Checkpoints(folder, {"counter": counter})
    assert checkpoints.restore(model) == (begin, 0)
    model.fit(
        *(images, labels),
        batch_size=10,
        shuffle=False,
        initial_epoch=begin,
        epochs=end,
        callbacks=[Reseeding(3), counter, checkpoints],
        verbose=0,
    )
    return counter


def state_of(model: keras.Model) -> list[np.ndarray]:
    optimizer = model.optimizer
    state = [each.numpy() for each in (*model.weights, *optimizer.variables)]
    if isinstance(optimizer, keras.mixed_precision.LossScaleOptimizer):
        state += [optimizer.loss_scale.numpy(), optimizer.dynamic_counter.numpy()]
    return state


def test_half_and_half_is_the_whole(tmp_path: Path):
    with dtype_policy("mixed_float16"):
        whole, first, second = (network(clipped_in_groups()) for _ in range(3))
    rows = fit(whole, tmp_path / "whole", 0, 2).rows
    fit(first, tmp_path / "parts", 0, 1)
    resumed = fit(second, tmp_path / "parts", 1, 2).rows
    for a, b in zip(state_of(whole), state_of(second), strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_equal(resumed, rows)
    assert (state_of(whole)[0] != state_of(first)[0]).any()
    assert whole.optimizer.loss_scale.numpy() != 2.0**17


@pytest.fixture(scope="module")
def model() -> keras.Model:
    """One of which nobody looks at the weights."""
    return network()


@pytest.fixture(scope="module")
def two(model: keras.Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the checkpoints of epochs 2 and 3."""
    folder = tmp_path_factory.mktemp("two")
    fit(model, folder, 0, 3)
    return folder


def test_weights_that_are_not_finite_are_not_kept(tmp_path: Path):
    spoiled = network()
    spoiled.optimizer.build(spoiled.trainable_variables)
    checkpoints = Checkpoints(tmp_path, {})
    checkpoints.set_model(spoiled)
    checkpoints.on_epoch_end(0)
    kernel = spoiled.get_layer("binary").kernel.latent_variable
    good = kernel.numpy()
    for epoch, value in enumerate((np.nan, np.inf, -np.inf), 1):
        kernel.assign(np.where(good == good[0, 0], value, good))
        checkpoints.on_epoch_end(epoch)
    assert [each.name for each in tmp_path.iterdir()] == [name_of(Position(1, 0))]
    assert checkpoints.last == Position(1, 0)


def copy_of(two: Path, folder: Path) -> list[Path]:
    folder.mkdir()
    for file in two.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    return checkpoints_in(folder)


def test_the_last_two_are_kept_and_numpy_opens_them_without_pickles(
    two: Path, model: keras.Model
):
    names = [file.name for file in checkpoints_in(two)]
    assert names == ["epoch-0003.npz", "epoch-0002.npz"]
    assert sorted(file.name for file in two.iterdir()) == sorted(names)
    with np.load(checkpoints_in(two)[0], allow_pickle=False) as archive:
        assert archive["0"].shape == tuple(model.weights[0].shape)
        assert len(archive.files) > len(model.weights)


def test_torn_anywhere_and_any_wrong_byte_is_recognized(two: Path, tmp_path: Path):
    whole, damaged = checkpoints_in(two)[0].read_bytes(), tmp_path / "damaged.npz"
    contents = [whole[:length] for length in (0, 50, len(whole) // 2, len(whole) - 1)]
    bomb, pickle = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("header.npy", bytes(1 << 28))
    header = np.frombuffer(b'{"variables": [1]}', np.uint8)
    np.savez(pickle, **{"header": header, "0": np.array([print], object)})
    for content in (*contents, bomb.getvalue(), pickle.getvalue(), b"text"):
        damaged.write_bytes(content)
        with pytest.raises(ValueError, match="torn or damaged"):
            read_checkpoint(damaged)
    rng = np.random.default_rng(4)
    good, values = read_checkpoint(checkpoints_in(two)[0])
    assert good["epochs"] == 3
    for place in rng.integers(0, len(whole), 8):
        flipped = bytearray(whole)
        flipped[place] ^= int(rng.integers(1, 256))
        damaged.write_bytes(flipped)
        try:
            actual = read_checkpoint(damaged)
        except ValueError:
            continue
        assert actual[0] == good  # as where a time is another
        for ours, theirs in zip(actual[1], values, strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_one_that_is_torn_is_passed_over(
    two: Path, model: keras.Model, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    newest, _ = copy_of(two, tmp_path / "copy")
    newest.write_bytes(newest.read_bytes()[:-1])
    with caplog.at_level(logging.WARNING, "larq_nobn"):
        assert Checkpoints(tmp_path / "copy", {}).restore(model) == (2, 0)
    (said,) = caplog.messages
    assert said.startswith(f"{newest} is not used: it is torn or damaged: ")


def test_those_of_another_network_are_not_used(
    two: Path, caplog: pytest.LogCaptureFixture
):
    wider = network("sgd", width=5)
    before = wider.get_weights()
    with caplog.at_level(logging.WARNING, "larq_nobn"):
        assert Checkpoints(two, {}).restore(wider) == (0, 0)
    for a, b in zip(wider.get_weights(), before, strict=True):
        np.testing.assert_array_equal(a, b)
    assert "it has ['kernel:0', [6, 4], 'float32'] where this run has" in caplog.text
    assert "'kernel:0', [6, 5], 'float32'" in caplog.text


def test_only_the_chief_writes(model: keras.Model, tmp_path: Path):
    checkpoints = Checkpoints(tmp_path / "none", {}, writes=False)
    checkpoints.restore(model)
    checkpoints.set_model(model)
    checkpoints.on_epoch_end(0)
    assert list(tmp_path.iterdir()) == []


def draws(model: keras.Model, seed: int, epoch: int) -> np.ndarray:
    """What the random layers make of ones, three times."""
    callback = Reseeding(seed)
    callback.set_model(model)
    callback.on_epoch_begin(epoch)
    random = keras.Model(model.input, model.layers[6].output)
    return np.stack([random(np.ones((8, 6)), training=True) for _ in range(3)])


def test_draws_depend_on_seed_and_epoch_alone(model: keras.Model):
    expected = draws(model, 5, 1)
    assert (expected[0] != expected[1]).any()
    assert (draws(model, 5, 2) != expected).any()
    assert (draws(model, 6, 1) != expected).any()
    np.testing.assert_array_equal(draws(model, 5, 1), expected)
    np.testing.assert_array_equal(draws(network(), 5, 1), expected)
    assert not keras.backend.experimental.is_tf_random_generator_enabled()


def test_a_file_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    seen: list[str] = []
    sync, rename = os.fsync, os.replace

    def syncing(handle: int) -> None:
        target = Path(os.readlink(f"/proc/self/fd/{handle}"))
        seen.append("folder" if target.is_dir() else f"file {target.read_text()}")
        sync(handle)

    def renaming(source: Path, target: Path) -> None:
        seen.append("rename")
        rename(source, target)

    monkeypatch.setattr(os, "fsync", syncing)
    monkeypatch.setattr(os, "replace", renaming)
    with replacing(tmp_path / "a.txt") as temporary:
        assert is_leftover(temporary)
        temporary.write_text("all")
    assert seen == ["file all", "rename", "folder"]
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_a_full_disk_leaves_the_last_good_one(
    two: Path, model: keras.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    copy_of(two, tmp_path / "copy")
    checkpoints = Checkpoints(tmp_path / "copy", {})
    checkpoints.restore(model)
    checkpoints.set_model(model)
    open_file = os.open

    def on_a_full_disk(path: Path, flags: int, *mode: int) -> int:
        if not flags & os.O_CREAT:
            return open_file(path, flags, *mode)
        os.symlink("/dev/full", path)
        return open_file(path, os.O_RDWR)

    monkeypatch.setattr(os, "open", on_a_full_disk)
    with pytest.raises(OSError, match="cannot be written: No space left"):
        checkpoints.on_epoch_end(3)
    names = {file.name for file in (tmp_path / "copy").iterdir()}
    assert names == {"epoch-0002.npz", "epoch-0003.npz"}
    monkeypatch.undo()
    checkpoints.on_epoch_end(3)
    assert (tmp_path / "copy" / "epoch-0004.npz").exists()
