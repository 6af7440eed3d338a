"""Surgery on models that nobody thought of."""

import tempfile
from pathlib import Path

import larq_nobn as nobn
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from larq_nobn._keras import dtype_policy
from larq_nobn.deploy import ConversionError
from larq_nobn.graph import ModelError
from surgery.parts import batch_norms
from surgery.properties import (
    Cost,
    certain,
    check_equal,
    check_exact,
    check_folded_twice,
    check_independent,
    check_report,
    check_saved,
    check_training,
    check_without_batch_norm,
    inputs_of,
    outputs_of,
    untouched,
)
from surgery.random_models import PLAIN, build, seeds, steps


def random_models(examples, plans=None):
    """Decorates a test of a list of steps and a seed, always on the same ones."""

    def decorate(test):
        profile = settings(max_examples=examples)
        return profile(given(steps() if plans is None else plans, seeds)(test))

    return decorate


@random_models(2)
def test_the_same_plan_is_the_same_model(plan, seed):
    model, again = build(plan, seed), build(plan, seed)
    for was, now in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(was, now)


@pytest.mark.slow
@random_models(5)
def test_removing_and_folding_in_float64(plan, seed):
    with dtype_policy("float64"):
        model = build(plan, seed)
    x = inputs_of(model, 8)
    assert batch_norms(model)
    assert all(np.isfinite(y).all() for y in outputs_of(model, x))
    with untouched(model):
        removed, report_of_removing = nobn.remove_batch_norm(model, return_report=True)
        folded, report_of_folding = nobn.fold_batch_norm(model, return_report=True)
    check_report(model, report_of_removing)
    check_without_batch_norm(model, removed)
    check_independent(removed)
    check_report(model, report_of_folding)
    check_without_batch_norm(model, folded)
    check_exact(model, folded, x)
    check_folded_twice(folded)
    # Either one, in about half of the models; `test_subjects.py` does it with both for
    # every kind of layer.
    new = removed if seed % 2 else folded
    with tempfile.TemporaryDirectory() as folder:
        check_training(new)
        check_saved(new, Path(folder) / "new.keras")


@pytest.mark.slow
@random_models(4)
def test_reestimating_then_folding(plan, seed):
    model = build(plan, seed)
    with untouched(model):
        try:
            new = nobn.reestimate_batch_norm(model, inputs_of(model, 16)[0])
        except ModelError as error:  # what one norm made, the same norm reads
            assume("depend on themselves" not in str(error))
            raise
    assert len(batch_norms(new)) == len(batch_norms(model))
    assume(certain(new, inputs_of(new)).mean() > 0.5)
    check_equal(new, nobn.fold_batch_norm(new), 1e-4)


convertible = st.tuples(st.integers(0, 2**16), steps(PLAIN, 8)).map(
    lambda drawn: [("binary_convolution", drawn[0]), *drawn[1]]
)


@pytest.mark.slow
@pytest.mark.convert
@random_models(2, convertible)
def test_surgery_costs_nothing_on_device(plan, seed):
    model = build([("float_convolution", 0), *plan], seed)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.tflite"
        try:
            before = Cost.of(model, path, verify=False)
        except ConversionError:
            assume(False)
        for tool in (nobn.fold_batch_norm, nobn.remove_batch_norm):
            Cost.of(tool(model), path, verify=False).check(before)
