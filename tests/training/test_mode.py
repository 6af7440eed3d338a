"""Runs whose kernels are drawn: what is tested is the network that is saved."""

from __future__ import annotations

from collections.abc import Iterator

import larq as lq
import pytest
from larq_nobn import data, training
from larq_nobn._keras import keras
from larq_nobn.training._callbacks import needs_statistics
from larq_nobn.training._run_settings import NETWORKS
from training.drawn import SETTINGS, assert_of_the_mode, two_norms
from training.runs import step_by_step


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[training.Run]:
    with step_by_step(), pytest.MonkeyPatch.context() as patch:
        patch.setitem(NETWORKS, "ReActNet18", two_norms)
        yield training.train(SETTINGS, tmp_path_factory.mktemp("mode") / "run")


def test_norms_have_the_statistics_of_what_is_saved_and_tested(run: training.Run):
    assert_of_the_mode(run)
    images = data.load("digits", "test", 64, limit=64)
    actual = training.evaluate(run.model, images)
    assert run.record["metrics"]["test_loss"] == pytest.approx(actual["loss"], rel=1e-5)
    assert run.record["metrics"]["test_accuracy"] == pytest.approx(actual["accuracy"])


def test_other_networks_keep_the_averages_of_training():
    def network(kernel: str, norm: keras.layers.Layer) -> keras.Model:
        layer = lq.layers.QuantDense(3, kernel_quantizer=kernel)
        return keras.Sequential([keras.Input((4,)), layer, norm])

    norms = keras.layers
    assert needs_statistics(network("bernoulli_sign", norms.BatchNormalization()))
    assert not needs_statistics(network("ste_sign", norms.BatchNormalization()))
    assert not needs_statistics(network("bernoulli_sign", norms.LayerNormalization()))
