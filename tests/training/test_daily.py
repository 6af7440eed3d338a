"""What a run offers every day: own callbacks, stops, best and last weights."""

from __future__ import annotations

import json
import math
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from larq_nobn import data, training
from larq_nobn._keras import keras
from larq_nobn.cli._train import _at_chance
from larq_nobn.training import RunSettings
from larq_nobn.training._checkpoints import latent_weights, newest_position
from larq_nobn.training._network import optimizer_for, schedule_for
from training.runs import Stop, assert_same, with_little_network, without_curves

SETTINGS = RunSettings(
    "plain",
    dataset="digits",
    epochs=2,
    batch_size=8,
    limit=24,
    validation=0.2,
    ema=0.5,
    learning_rate=0.2,
    seed=2,
)
STEPS = 3


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> training.Run:
    with with_little_network(), without_curves():
        folder = tmp_path_factory.mktemp("whole") / "run"
        return training.train(SETTINGS, folder, False)


class Counter(keras.callbacks.Callback):
    """Counts steps over all of a run; its state is part of the checkpoints."""

    def __init__(self, at: int = -1, number: int | None = None) -> None:
        super().__init__()
        self.count, self._at, self._number = 0, at, number
        self.logs: list[str] = []

    def on_train_batch_end(self, batch: int, logs: object = None) -> None:
        self.count += 1
        if self.count == self._at and self._number is None:
            raise Stop
        if self.count == self._at:
            os.kill(os.getpid(), self._number)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self.logs = sorted(logs or {})

    def get_state(self) -> int:
        return self.count

    def set_state(self, state: int) -> None:
        self.count = state


@pytest.mark.usefixtures("little_network")
@pytest.mark.parametrize(
    "step, number",
    [(1, signal.SIGTERM), (3, signal.SIGINT), (6, signal.SIGTERM)],
)
def test_a_signal_leaves_a_checkpoint_of_its_step(
    step: int, number: int, whole: training.Run, tmp_path: Path
):
    """Also of the last step of an epoch, before its test; bitwise the same run."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with pytest.raises((training.Terminated, KeyboardInterrupt)):
        training.train(SETTINGS, tmp_path, False, callbacks=[Counter(step, number)])
    signal.signal(signal.SIGINT, before)
    epoch, within = divmod(step, STEPS)
    kept = (epoch, within) if within else (epoch - 1, STEPS)
    assert newest_position(tmp_path) == kept
    # Opened before it is resumed.
    unfinished = training.load_run(tmp_path)
    assert unfinished.record["finished"] is False
    assert unfinished.record["settings"]["limit"] == 24
    assert len(unfinished.history) == kept[0]
    counters = [Counter(), Counter()]
    resumed = training.train(SETTINGS, tmp_path, False, resume=True, callbacks=counters)
    assert_same(resumed, whole)
    # The first has its state; the second, which there was not, has counted the rest.
    rest = 2 * STEPS - step + (within == 0)
    assert [each.count for each in counters] == [step + rest, rest]
    assert "val_accuracy" in counters[0].logs


@pytest.mark.usefixtures("little_network")
def test_an_unfinished_run_is_opened_as_its_last_epoch(tmp_path: Path):
    with pytest.raises(Stop):
        training.train(SETTINGS, tmp_path, False, callbacks=[Counter(STEPS + 1)])
    run = training.load_run(tmp_path)
    images = data.open_dataset(**SETTINGS.images).batches("validation", 8, limit=24)
    tested = training.evaluate(run.model, images)
    assert run.history[-1]["val_loss"] == pytest.approx(tested["loss"], rel=1e-5)
    assert run.record["metrics"]["val_loss"] == run.history[-1]["val_loss"]
    assert run.dataset.class_names == tuple("0123456789")


@pytest.mark.usefixtures("little_network")
def test_best_and_last_weights(tmp_path: Path):
    settings = SETTINGS.but(epochs=4, keep="best", seed=0, learning_rate=0.5)
    run = training.train(settings, tmp_path, False)
    losses = [row["val_accuracy"] for row in run.history]
    best = int(np.argmax(losses))
    assert best < 3  # else there is nothing to tell apart
    images = data.open_dataset(**settings.images).batches("validation", 8, limit=24)
    for name, epoch in (
        ("best", best),
        ("last", 3),
        ("model", run.record["kept_epoch"] - 1),
    ):
        model = training.open_model(tmp_path / f"{name}.keras")
        tested = training.evaluate(model, images)
        assert tested["accuracy"] == pytest.approx(losses[epoch])
    kept = training.open_model(tmp_path / "best.keras")
    for ours, theirs in zip(*map(latent_weights, (kept, run.model)), strict=True):
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy())


@pytest.mark.usefixtures("little_network")
def test_without_a_validation_split_metrics_are_of_the_test_images(tmp_path: Path):
    counter = Counter()
    settings = SETTINGS.but(validation=0.0, epochs=1)
    run = training.train(settings, tmp_path, False, callbacks=[counter])
    found = {*counter.logs, *run.history[0], *run.record["metrics"]}
    assert {"test_loss", "test_accuracy"} <= found
    assert not [name for name in found if name.startswith("val")]
    assert not list(tmp_path.glob("best*")) + list(tmp_path.glob("last*"))
    # As an earlier version called them.
    history = tmp_path / "history.csv"
    history.write_text(history.read_text().replace("test_", "val_"))
    record = json.loads((tmp_path / "run.json").read_text())
    metrics = record["metrics"]
    record["metrics"] |= {n.replace("test", "val"): v for n, v in metrics.items()}
    (tmp_path / "run.json").write_text(json.dumps(record))
    again, rows = training.load_record(tmp_path)
    assert again["metrics"] == run.record["metrics"]
    assert rows[0].keys() == run.history[0].keys()


def test_callbacks_are_callbacks(tmp_path: Path):
    for wrong in ("x", [1], [Counter]):
        with pytest.raises(TypeError, match="callback"):
            training.train(SETTINGS, tmp_path / "a", callbacks=wrong)


def rates(**chosen) -> np.ndarray:
    settings = RunSettings("plain", epochs=4, learning_rate=0.1, **chosen)
    schedule = schedule_for(settings, 10)
    return np.array([float(schedule(step)) for step in range(40)])


def test_schedules_by_their_formulas():
    done = np.arange(40) / 40
    shapes = {
        "linear": 1 - done,
        "polynomial": (1 - done) ** 2,
        "cosine": (1 + np.cos(math.pi * done)) / 2,
    }
    for name, shape in shapes.items():
        for final in (0.0, 0.02):
            actual = rates(schedule=name, final_rate=final)
            np.testing.assert_allclose(actual, final + (0.1 - final) * shape, rtol=1e-4)
    np.testing.assert_allclose(rates(schedule="constant"), 0.1)
    steps = np.repeat([0.1, 0.01, 0.001], [20, 10, 10])
    np.testing.assert_allclose(rates(schedule="step"), steps, rtol=1e-5)
    for wrong, said in (
        ({"final_rate": 0.2}, "final_rate=0.2 is above learning_rate=0.1"),
        ({"final_rate": 0.01, "schedule": "step"}, "does not go with schedule='step'"),
        ({"warmup_epochs": 1, "schedule": "step"}, "Choose schedule cosine"),
    ):
        with pytest.raises(ValueError, match=said):
            rates(**wrong)


def test_adamw_decays_kernels_beside_the_step_of_adam():
    """By its formula: w - rate * (adam + decay * w), for kernels alone."""
    assert RunSettings(optimizer="adamw").weight_decay == 0.01
    assert RunSettings(optimizer="adamw").sources["weight_decay"] == "optimizer adamw"
    steps = {}
    for name, decay in (("adam", 0.0), ("adamw", 0.3)):
        keras.utils.set_random_seed(0)
        network = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="d")])
        settings = RunSettings(
            *("plain",),
            optimizer=name,
            weight_decay=decay,
            learning_rate=0.1,
            schedule="constant",
            clip_factor=0.0,
            shift_multiplier=2.0,
        )
        network.layers[0].bias.assign([1.0, 2.0])
        before = network.get_weights()
        optimizer = optimizer_for(settings, 5, network)
        gradients = [tf.ones_like(weight) for weight in network.trainable_variables]
        optimizer.apply_gradients(
            zip(gradients, network.trainable_variables, strict=True)
        )
        steps[name] = [
            now - was for now, was in zip(network.get_weights(), before, strict=True)
        ]
    (kernel, bias), (own_kernel, own_bias) = steps["adam"], steps["adamw"]
    # Keras decays before the step, which for one step is the same.
    np.testing.assert_allclose(own_kernel, kernel - 0.1 * 0.3 * before[0], atol=1e-6)
    np.testing.assert_allclose(own_bias, bias, atol=1e-7)


@pytest.mark.usefixtures("little_network")
def test_what_a_desktop_or_a_shell_leaves_is_no_run(tmp_path: Path):
    for name in (".DS_Store", "Thumbs.db", "log.txt", "train.log"):
        (tmp_path / name).write_text("theirs")
    settings = SETTINGS.but(epochs=1, validation=0.0, ema=None)
    training.train(settings, tmp_path, False)
    assert (tmp_path / "log.txt").read_text() == "theirs"
    (tmp_path / "other").mkdir()
    for name in (".git", "notes.md"):
        other = tmp_path / name.strip(".")
        (other / name).mkdir(parents=True)
        with pytest.raises(FileExistsError, match="is not empty"):
            training.train(settings, other, False)


@pytest.mark.usefixtures("little_network")
def test_a_data_set_that_the_settings_name(tmp_path: Path):
    digits = data.open_dataset("digits", validation=0.2)
    trainer = training.Trainer(SETTINGS, digits, output=tmp_path / "a")
    assert trainer.dataset is digits and trainer.config.dataset == "digits"
    for other in (
        data.open_dataset("digits"),
        data.open_dataset("digits", image_size=9),
    ):
        with pytest.raises(ValueError, match="Choose the same in both"):
            training.Trainer(SETTINGS, other, output=tmp_path / "a")
    few = SETTINGS.but(limit=25, batch_size=128, accumulate=2)
    with pytest.raises(
        ValueError, match="accumulate=2 does not divide the 25 training"
    ):
        training.train(few, tmp_path / "b", False)


@pytest.mark.parametrize(
    ("accuracy", "count", "said"),
    [(0.1, 355, True), (0.12, 355, True), (0.14, 355, False), (0.14, 64, True)],
)
def test_a_network_that_guesses_is_said_to(accuracy: float, count: int, said: bool):
    """Within 1.96 standard deviations, of sqrt(0.1 * 0.9 / count), or so."""
    record = {
        "settings": {"limit": count, "learning_rate": 10.0},
        "preprocessing": {"class_names": list("0123456789")},
        "examples": {"test": 355},
        "metrics": {"test_accuracy": accuracy},
    }
    sentence = _at_chance(record)
    assert (sentence is not None) == said
    assert not said or "below --learning-rate 10" in sentence
