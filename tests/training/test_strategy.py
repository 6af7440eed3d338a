"""Several devices and several processes, which must train what one does."""

from __future__ import annotations

import json
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import fresh
import numpy as np
import pytest
import tensorflow as tf
from larq_nobn import data, training
from larq_nobn.training.run._strategy import (
    check_shares,
    is_chief,
    shared,
    strategy_for,
)
from replicas import assert_replicas_agree
from training import drawn, worker


def test_one_device_is_left_as_it_is():
    strategy = strategy_for("none")
    assert strategy.num_replicas_in_sync == 1
    assert is_chief(strategy)
    images = data.load("digits", "test", 32, limit=64)
    assert shared(images, lambda share: pytest.fail("cut"), strategy) is images
    check_shares(strategy, 7, 7)


def test_an_unknown_strategy(tiny_settings: training.RunSettings, tmp_path: Path):
    with pytest.raises(ValueError, match="strategy='tpu' is not known. Choose from n"):
        training.train(tiny_settings, tmp_path / "run", strategy="tpu")
    assert list(tmp_path.iterdir()) == []


def described(kind: str, index: int, *workers: str) -> str:
    task = {"type": kind, "index": index}
    return json.dumps({"cluster": {"worker": workers}, "task": task})


@pytest.mark.parametrize(
    "config, message",
    [
        (None, "TF_CONFIG, which is not set. Set it to something like {"),
        ("{", "TF_CONFIG={ does not describe a cluster.*Expecting"),
        ("[]", r"TF_CONFIG=\[\] does not describe a cluster"),
        ('{"cluster": {}}', "KeyError: 'task'"),
        (described("worker", 1, "a:1"), "IndexError: list index out of range"),
        (described("worker", -1, "a:1"), "IndexError: index -1 is below 0"),
        (described("chief", 0, "a:1"), "KeyError: 'chief'"),
        (described("worker", 0, "localhost"), "'localhost' is no host:port"),
    ],
    ids=["unset", "no JSON", "a list", "no task", "high", "low", "other", "no port"],
)
def test_a_cluster_that_is_not_described(
    config: str | None, message: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    if config is not None:
        monkeypatch.setenv("TF_CONFIG", config)
    with pytest.raises(ValueError, match=message):
        strategy_for("multi_worker")


def test_workers_must_meet_before_tensorflow_works(monkeypatch: pytest.MonkeyPatch):
    tf.zeros(())  # so it has begun
    monkeypatch.setenv("TF_CONFIG", described("worker", 0, "localhost:1"))
    with pytest.raises(RuntimeError, match="'multi_worker' comes too late"):
        strategy_for("multi_worker")


@pytest.mark.parametrize(
    "cluster, kind, index, chief",
    [
        ({"worker": ["a:1", "b:1"]}, "worker", 0, True),
        ({"worker": ["a:1", "b:1"]}, "worker", 1, False),
        ({"chief": ["a:1"], "worker": ["b:1"]}, "chief", 0, True),
        ({"chief": ["a:1"], "worker": ["b:1"]}, "worker", 0, False),
        ({}, "", 0, True),
    ],
    ids=["first", "second", "chief", "beside a chief", "no cluster"],
)
def test_one_of_all_workers_writes(cluster: dict, kind: str, index: int, chief: bool):
    spec = tf.train.ClusterSpec(cluster)
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
        spec, task_type=kind, task_id=index
    )
    assert is_chief(SimpleNamespace(cluster_resolver=resolver)) == chief


MIRRORED = """
import numpy as np
from pathlib import Path
from types import SimpleNamespace
from tempfile import TemporaryDirectory
from larq_nobn import data, training
from larq_nobn.training.folder import _record
from larq_nobn.training.run._strategy import check_shares, shared, strategy_for
from larq_nobn.training.settings import NETWORKS
from training import drawn, worker

_record.draw_curves = lambda target, *_: target.touch()
# The parts of all replicas are the batch: over two epochs, with a last one of one.
for split, examples in (("train", 128), ("test", 65)):
    def load(epoch, **share):
        return data.load("digits", split, 32, limit=examples, epoch=epoch, **share)

    images = load(3)
    found = iter(shared(images, lambda share: load(3, share=share), strategy))
    for batch in (*images, *images):
        for whole, parts in zip(batch, next(found)):
            parts = strategy.experimental_local_results(parts)
            assert abs(len(parts[0]) - len(parts[1])) <= 1
            np.testing.assert_array_equal(np.concatenate(parts), whole)

try:
    check_shares(strategy, 36, 4)
except ValueError as error:
    assert str(error) == (
        "batch_size=36 cannot be shared evenly by 2 replicas in 4 parts each "
        "(accumulate=4). Choose a multiple of 8."
    )
else:
    raise AssertionError

assert strategy_for("mirrored").num_replicas_in_sync == 2
# Two of them in one process would mistake each other's messages for their own.
assert strategy_for("mirrored") is strategy_for("mirrored")
with TemporaryDirectory() as folder:
    settings = worker.SETTINGS
    one = training.load_run(ALONE)
    two = training.train(settings, Path(folder) / "two", strategy="mirrored")
    worker.assert_same_run(two, one)
    reopened = training.open_model(Path(folder) / "two")
    for ours, theirs in zip(reopened.get_weights(), two.model.get_weights()):
        np.testing.assert_array_equal(ours, theirs)

    # Statistics that are taken of images are those of every replica.
    NETWORKS["ReActNet18"] = drawn.two_norms
    run = training.train(drawn.SETTINGS, Path(folder) / "drawn", strategy="mirrored")
    drawn.assert_of_the_mode(run)
"""


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> training.Run:
    """What one process on one device makes of the settings of the others."""
    return training.train(worker.SETTINGS, tmp_path_factory.mktemp("alone") / "run")


@pytest.mark.slow
def test_mirrored_devices_train_as_one(alone: training.Run):
    assert_replicas_agree(MIRRORED.replace("ALONE", repr(str(alone.folder))))


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("localhost", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def run_workers(folder: Path) -> list[fresh.Ended]:
    """Runs two workers to their ends."""
    addresses = [f"localhost:{port}" for port in free_ports(2)]

    def run(index: int) -> fresh.Ended:
        config = {"TF_CONFIG": described("worker", index, *addresses)}
        return fresh.run(Path(worker.__file__), [folder, index], config)

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(run, range(2)))


@pytest.mark.slow
def test_two_workers_train_as_one_process(alone: training.Run, tmp_path: Path):
    ended = run_workers(tmp_path)
    said = [each.stderr[-3000:] for each in ended]
    assert [each.returncode for each in ended] == [0, 9], said
    together = training.load_run(tmp_path / "run")
    worker.assert_same_run(together, alone)
    with (
        np.load(tmp_path / "weights0.npz") as first,
        np.load(tmp_path / "weights1.npz") as second,
    ):
        for name, saved in zip(first.files, together.model.get_weights(), strict=True):
            np.testing.assert_array_equal(first[name], second[name])
            np.testing.assert_array_equal(first[name], saved)
    drawn.assert_of_the_mode(training.load_run(tmp_path / "drawn"))
    # The first worker wrote what one process does, once, and was told of the second.
    ours, theirs = (
        sorted(
            path.relative_to(each.folder).as_posix() for path in each.folder.glob("*")
        )
        for each in (together, alone)
    )
    assert ours == theirs
    said = (tmp_path / "said.txt").read_text()
    assert said.startswith("Another worker has stopped, or cannot be reached")
    assert list((tmp_path / "lost" / "checkpoints").glob("epoch-*.npz"))
