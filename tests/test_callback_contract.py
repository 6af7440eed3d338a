"""Every check of the callbacks' contract on every row of `callback_cases.py`."""

import csv
import inspect
import re

import larq_nobn as nobn
import numpy as np
import pytest
from callback_cases import CASES
from callback_networks import NETWORKS, Subclassed, fit, scalars
from contract_docstring import check_docstring
from larq_nobn._keras import dtype_policy, keras
from numpy.testing import assert_allclose, assert_array_equal

SECTIONS = ["Arguments", "Logs", "Raises", "Example"]
OF_A_PAPER = ["References", "Differences from the paper"]
every_row = pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
PICKY = [case for case in CASES if case.wrong is not None]
picky_rows = pytest.mark.parametrize("case", PICKY, ids=[case.name for case in PICKY])


@pytest.mark.parametrize("network", NETWORKS)
@every_row
def test_logs_files_and_tensorboard_agree_in_every_epoch(case, network, tmp_path):
    logger = keras.callbacks.CSVLogger(tmp_path / "log.csv")  # behind it in the list
    history = fit(case.compiled(network), case.make(log_dir=tmp_path), logger, epochs=3)
    assert set(history) - set(case.sometimes) == {"loss", *case.logs}
    rows = list(csv.DictReader((tmp_path / "log.csv").read_text().splitlines()))
    written = scalars(tmp_path)
    for name in case.logs:
        assert np.isfinite(history[name]).all()
        assert_allclose([float(row[name]) for row in rows], history[name])
        assert_allclose(list(written[name].values()), history[name], rtol=1e-6)
        assert list(written[name]) == [0, 1, 2]
    per_layer = set(written) - {*case.logs, *case.sometimes}
    assert {tag.partition("/")[0] for tag in per_layer} == set(case.per_layer)
    assert all(list(written[tag]) == [0, 1, 2] for tag in per_layer)


@every_row
def test_one_object_goes_on_after_a_resume(case, tmp_path):
    callback = case.make(log_dir=tmp_path)
    for start in (0, 2):
        history = fit(case.compiled(), callback, initial_epoch=start, epochs=start + 2)
        assert all(len(history[name]) == 2 for name in case.logs)
    assert {tuple(steps) for steps in scalars(tmp_path).values()} == {(0, 1, 2, 3)}


@every_row
def test_beside_tensorboard_of_keras(case, tmp_path):
    # Which switches recording off for all but every hundredth step.
    board = keras.callbacks.TensorBoard(tmp_path / "keras", update_freq=100)
    fit(case.compiled(), board, case.make(log_dir=tmp_path))
    assert all(list(scalars(tmp_path)[name]) == [0, 1] for name in case.logs)


@pytest.mark.parametrize("case", [case for case in CASES if case.watches])
def test_training_is_that_without_the_callback(case):
    watched, alone = case.compiled(), case.compiled()
    assert fit(watched, case.make(), epochs=3)["loss"] == fit(alone, epochs=3)["loss"]
    for one, other in zip(watched.get_weights(), alone.get_weights(), strict=True):
        assert_array_equal(one, other)
    assert watched.losses == [] and len(watched.metrics) == len(alone.metrics)
    files = [len(m.optimizer.variables) for m in (watched, alone)]
    assert files[0] == files[1]


@picky_rows
def test_a_model_it_cannot_work_on(case):
    with pytest.raises(ValueError, match=case.message):
        fit(case.wrong(), case.make())


@picky_rows
def test_a_model_without_weights(case):
    keras.utils.set_random_seed(1)
    model = Subclassed(case.layer)
    optimizer = nobn.optimizers.AdaptiveGradientClipping("sgd")
    model.compile(optimizer, "sparse_categorical_crossentropy")
    with pytest.raises(ValueError, match="The model subclassed has no weights yet. Bu"):
        fit(model, case.make())


@every_row
def test_mixed_precision(case):
    with dtype_policy("mixed_float16"):
        model = case.compiled(optimizer=nobn.optimizers.AdaptiveGradientClipping("sgd"))
        scaled = keras.mixed_precision.LossScaleOptimizer
        assert isinstance(model.optimizer, scaled)
        history = fit(model, case.make())
    for name in case.logs:
        assert all(0 <= value <= case.highest for value in history[name])


@every_row
def test_log_dir_is_a_path(case):
    with pytest.raises(TypeError, match="log_dir=3 is not a path. Pass a folder"):
        case.make(log_dir=3)


@every_row
def test_docstring(case):
    arguments = inspect.signature(case.cls).parameters
    titles = SECTIONS + OF_A_PAPER * case.paper
    _, sections = check_docstring(case.cls, titles, arguments)
    logs = re.findall(r"^(\w+): ", sections["Logs"], re.MULTILINE)
    assert logs == [*case.logs, *case.sometimes]
