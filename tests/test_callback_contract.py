"""Every check of the callbacks' contract on every row of `callback_cases.py`."""

import csv
import inspect
import re

import larq_nobn as nobn
import numpy as np
import pytest
from callback_cases import CASES
from callback_networks import (
    Subclassed,
    binary,
    compiled,
    fit,
    nested,
    scalars,
    sequential,
    subclassed,
)
from contract_docstring import check_docstring
from larq_nobn._keras import dtype_policy, keras
from numpy.testing import assert_allclose, assert_array_equal

SECTIONS = ["Arguments", "Logs", "Raises", "Example"]
OF_A_PAPER = ["References", "Differences from the paper"]
every_row = pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
PICKY = [case for case in CASES if case.wrong is not None]


def hidden(**kwargs):
    """Layers with something to move or to watch for every callback."""
    sign = nobn.quantizers.RSign(estimator="reste")
    other = nobn.quantizers.ProgressiveSign()
    return binary(input_quantizer=sign, activation=other, **kwargs)


def model_for_all(network=sequential, **kwargs):
    return compiled(network, layer=hidden, **kwargs)


def all_of_them(folder):
    """A callback of each row, with a folder of its own in this one."""
    return [case.make(log_dir=folder / case.name) for case in CASES]


# What a functional model has, the nested one has too.
@pytest.fixture(scope="module", params=[sequential, nested, subclassed])
def watched(request, tmp_path_factory):
    """A training under all callbacks, each with a folder of its own.

    Beside them is Keras' own TensorBoard, which switches recording off for all but
    every hundredth step. Gives the history, the rows of a CSV file, and the folder.
    """
    folder = tmp_path_factory.mktemp("watched")
    board = keras.callbacks.TensorBoard(folder / "keras", update_freq=100)
    callbacks = [board, *all_of_them(folder)]
    logger = keras.callbacks.CSVLogger(folder / "log.csv")  # after them in the list
    history = fit(model_for_all(request.param), *callbacks, logger)
    rows = list(csv.DictReader((folder / "log.csv").read_text().splitlines()))
    return history, rows, folder


def test_only_what_is_promised_is_logged(watched):
    logs = {name for case in CASES for name in case.logs}
    sometimes = {name for case in CASES for name in case.sometimes}
    assert set(watched[0]) - sometimes == {"loss", *logs}


@every_row
def test_logs_files_and_tensorboard_agree_in_every_epoch(case, watched):
    history, rows, folder = watched
    written = scalars(folder / case.name)
    for name in case.logs:
        assert np.isfinite(history[name]).all()
        assert_allclose([float(row[name]) for row in rows], history[name])
        assert_allclose(list(written[name].values()), history[name], rtol=1e-6)
        assert list(written[name]) == [0, 1]
    per_layer = set(written) - {*case.logs, *case.sometimes}
    assert {tag.partition("/")[0] for tag in per_layer} == set(case.per_layer)
    assert all(list(written[tag]) == [0, 1] for tag in per_layer)


def test_one_object_resumes_after_a_resume(tmp_path):
    """Two trainings under the same objects."""
    callbacks = all_of_them(tmp_path)
    for start in (0, 2):
        span = {"initial_epoch": start, "epochs": start + 2}
        history = fit(model_for_all(), *callbacks, **span)
        assert all(len(history[name]) == 2 for case in CASES for name in case.logs)
    for case in CASES:
        written = scalars(tmp_path / case.name)
        assert {tuple(steps) for steps in written.values()} == {(0, 1, 2, 3)}


def test_training_is_that_without_the_callbacks():
    """Those that watch: counters of clipping are a part of the graph."""
    watches = [case.make() for case in CASES if case.watches]
    alone, watched = (model_for_all(run_eagerly=False) for _ in range(2))
    losses = fit(alone)["loss"]
    assert fit(watched, *watches)["loss"] == losses
    for one, other in zip(watched.get_weights(), alone.get_weights(), strict=True):
        assert_array_equal(one, other)
    assert watched.losses == [] and len(watched.metrics) == len(alone.metrics)
    files = [len(m.optimizer.variables) for m in (watched, alone)]
    assert files[0] == files[1]


@pytest.mark.parametrize("case", PICKY, ids=[case.name for case in PICKY])
def test_a_model_it_cannot_work_on(case):
    with pytest.raises(ValueError, match=case.message):
        fit(case.wrong(), case.make())
    # Nor one without weights.
    keras.utils.set_random_seed(1)
    model = Subclassed(hidden)
    optimizer = nobn.optimizers.AdaptiveGradientClipping("sgd")
    model.compile(optimizer, "sparse_categorical_crossentropy")
    with pytest.raises(ValueError, match="The model subclassed has no weights yet. Bu"):
        fit(model, case.make())


def test_mixed_precision():
    with dtype_policy("mixed_float16"):
        model = model_for_all(optimizer=nobn.optimizers.AdaptiveGradientClipping("sgd"))
        scaled = keras.mixed_precision.LossScaleOptimizer
        assert isinstance(model.optimizer, scaled)
        history = fit(model, *(case.make() for case in CASES))
    for case in CASES:
        for name in case.logs:
            assert all(0 <= value <= case.highest for value in history[name]), name


@every_row
def test_docstring(case):
    arguments = inspect.signature(case.cls).parameters
    titles = SECTIONS + OF_A_PAPER * case.paper
    _, sections = check_docstring(case.cls, titles, arguments)
    logs = re.findall(r"^(\w+): ", sections["Logs"], re.MULTILINE)
    assert logs == [*case.logs, *case.sometimes]
