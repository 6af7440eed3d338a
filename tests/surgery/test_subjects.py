"""Surgery on whole networks: of the package, of users, and drawn at random."""

import json
from contextlib import nullcontext

import larq_nobn as nobn
import numpy as np
import pytest
import tensorflow as tf
from larq_nobn._keras import dtype_policy, keras
from larq_nobn.graph._graph import Graph
from larq_nobn.graph._signs import is_binary_convolution
from numpy.testing import assert_allclose, assert_array_equal
from surgery.folding import AFFINE
from surgery.parts import batch_norms, images
from surgery.properties import flat, inputs_of, outputs_of, untouched
from surgery.subjects import HAND_MADE, ORACLES, SUBJECTS, subject


def operated(model):
    """The model folded, without batch norm, and the report of folding.

    What is folded is compared here.
    """
    with untouched(model) if model.name == "nested" else nullcontext():
        folded, report = nobn.fold_batch_norm(model, verify=False, return_report=True)
        removed, of_removing = nobn.remove_batch_norm(model, return_report=True)
    for new, said in ((folded, report), (removed, of_removing)):
        check_without_batch_norm(model, new)
        check_report(model, said)
    return folded, removed, {change.layer: change for change in report.changes}


def check_without_batch_norm(model, new):
    """No batch norm is left, and the binary convolutions and interfaces are."""
    assert batch_norms(new) == []
    assert (new.name, new.input_names) == (model.name, model.input_names)
    for owned in ("submodules", "weights"):
        old = {id(part) for part in getattr(model, owned)}
        assert not old & {id(part) for part in getattr(new, owned)}
    for was, now in zip(model.outputs, new.outputs, strict=True):
        assert was.shape == now.shape and was.dtype == now.dtype
    # What surgery returns is flat: nothing inside an inner model would be counted.
    assert binary_convolutions(new) == binary_convolutions(flat(model))


def binary_convolutions(model):
    return sum(map(is_binary_convolution, Graph(model).calls))


def check_report(model, report):
    """It names every batch norm once, and is ready for JSON."""
    named = [change.layer for change in report.changes]
    assert len(set(named)) == len(named)
    assert {layer.name for layer in batch_norms(flat(model))} <= set(named)
    assert report.model == model.name
    assert json.loads(json.dumps(report.to_dict())) == report.to_dict()


def check_independent(model):
    """In training, an example's output does not depend on the other examples."""
    x = inputs_of(model, 4)
    actual = []
    for batch in (x, [np.concatenate([part[:1], 5 - 3 * part[1:]]) for part in x]):
        keras.utils.set_random_seed(5)  # the same dropout
        actual.append([y[0] for y in outputs_of(model, batch, training=True)])
    for was, now in zip(*actual, strict=True):
        assert_allclose(now, was, rtol=0, atol=1e-5 * max(1e-3, np.abs(was).max()))


def check_folded_twice(folded):
    """What has been folded is not changed any more."""
    again, report = nobn.fold_batch_norm(folded, return_report=True)
    assert report.changes == []
    assert [x.name for x in again.layers] == [x.name for x in folded.layers]
    for was, now in zip(folded.get_weights(), again.get_weights(), strict=True):
        assert_array_equal(was, now)


@pytest.mark.slow
@pytest.mark.parametrize("name", SUBJECTS)
def test_in_float64(name):
    """Where rounding decides no sign, folding changes nothing."""
    with dtype_policy("float64"):
        model = subject(name)
    x = inputs_of(model)
    if name in [build.__name__ for build in HAND_MADE]:
        # It tells examples apart.
        assert min(y.std(axis=0).max() for y in outputs_of(model, x)) > 0.01
    folded, removed, changes = operated(model)
    for was, now in zip(outputs_of(model, x), outputs_of(folded, x), strict=True):
        assert np.abs(now - was).max() <= 1e-9 * np.abs(was).max()
    check_independent(removed)
    kernels = ("QuantConv2D", "Conv2D", "QuantDense", "Dense", "Add")
    kept = {x.name for x in flat(model).layers if type(x).__name__ in kernels}
    assert kept <= {layer.name for layer in removed.layers}
    if name == "nested":
        check_folded_twice(folded)
    if name == "opaque":
        check_opaque(model, folded, removed, changes)


# Batch norms that would have to go through an opaque layer, and that layer.
STAY = {
    "behind_join": "'join' (Lambda)",
    "behind_own": "'own' (ChannelRescale)",
    "behind_merge": "'merge' (Lambda)",
}


def check_opaque(model, folded, removed, changes):
    """Surgery looks into nothing, and keeps what it does not know."""
    for name, reason in STAY.items():
        assert changes[name].action == AFFINE
        assert reason in changes[name].reason
        assert type(folded.get_layer(name)) is nobn.layers.ChannelAffine
    kinds = (keras.layers.Lambda,)
    unknown = [x.name for x in model.layers if isinstance(x, kinds)]
    assert unknown == [x.name for x in removed.layers if isinstance(x, kinds)]
    for name, oracle in ORACLES.items():
        layer = removed.get_layer(name)
        ends = keras.Model(removed.inputs, [layer.input, layer.output])
        before, after = ends(images(2))
        wanted = oracle(tf.nest.map_structure(np.asarray, before))
        assert_allclose(np.asarray(after), np.asarray(wanted), rtol=1e-6, atol=1e-6)
