"""Surgery on networks of the shapes that published ones have, and on stranger ones."""

from functools import cache, partial

import larq_nobn as nobn
import numpy as np
import pytest
from larq_nobn._keras import dtype_policy, keras
from models.networks import NETWORKS, scattered
from surgery.parts import batch_norms, images, settled
from surgery.properties import (
    Cost,
    check_equal,
    check_folded_twice,
    check_independent,
    check_report,
    check_saved,
    check_training,
    check_without_batch_norm,
    flat,
    inputs_of,
    outputs_of,
    untouched,
)
from surgery.subjects import ZOO
from surgery.variants import VARIANTS, variant

STATISTICS = ("batch_norm", "kalman", "independent_component")


def own(network, normalization):
    keras.utils.set_random_seed(0)
    return settled(scattered(network(normalization)))


BUILDERS = {s.network.__name__: s for s in ZOO}
BUILDERS |= {
    f"{name}_with_zeros": partial(BUILDERS[name], zero=True)
    for name in ("quick_net", "res_net_e", "binary_dense_net", "real_to_binary")
}
BUILDERS |= {build.__name__: partial(variant, build) for build in VARIANTS}
each_stranger = pytest.mark.parametrize("name", tuple(BUILDERS))
# One of each family of the package's networks, under the normalizations in turn.
families = {
    n.builder.__name__.rstrip("0123456789"): n for n in NETWORKS if n.tried is None
}
for index, (family, network) in enumerate(families.items()):
    kinds = [kind for kind in STATISTICS if kind in network.normalizations]
    kind = kinds[index % len(kinds)]
    BUILDERS[f"{family}-{kind}"] = partial(own, network, kind)
each = pytest.mark.parametrize("name", BUILDERS)


@cache
def given(name):
    return BUILDERS[name]()


@pytest.mark.parametrize("subject", ZOO, ids=lambda s: s.network.__name__)
def test_subjects_have_their_batch_norms(subject):
    model = given(subject.network.__name__)
    norms = batch_norms(model)
    assert len(norms) == subject.norms
    factors = [layer.gamma.numpy() for layer in norms if layer.gamma is not None]
    assert all(np.any(gamma < 0) and np.any(gamma > 0) for gamma in factors)
    logits = model(images()).numpy()
    assert logits.std(axis=0).min() > 0.01


@pytest.mark.slow
@each_stranger
def test_folding_is_exact_in_float64(name):
    with dtype_policy("float64"):
        model = BUILDERS[name]()
    new, x = nobn.fold_batch_norm(model), inputs_of(model)
    for was, now in zip(outputs_of(model, x), outputs_of(new, x), strict=True):
        assert np.abs(now - was).max() <= 1e-9 * np.abs(was).max()


# Between them they have every kind of layer that surgery makes, moves or keeps.
WHOLE = (
    "quick_net",
    "real_to_binary",
    "binary_dense_net",
    "xnor_net",
    "sequential",
    "nested",
    "shared_model",
    "sign_layers",
    "frozen",
    "ReActNet-batch_norm",
)
each_whole = pytest.mark.parametrize("name", WHOLE)


@pytest.mark.slow
@each
def test_folding(name):
    model = given(name)
    with untouched(model):
        new, report = nobn.fold_batch_norm(model, return_report=True)
    check_without_batch_norm(model, new)
    check_equal(model, new, 1e-5)
    check_report(model, report)


@pytest.mark.slow
@each_whole
def test_a_folded_model_trains_is_saved_and_stays(name, tmp_path):
    new = nobn.fold_batch_norm(given(name))
    check_folded_twice(new)
    check_training(new)
    check_saved(new, tmp_path / "folded.keras")


@pytest.mark.slow
@each
def test_removing(name):
    model = given(name)
    with untouched(model):
        new, report = nobn.remove_batch_norm(model, return_report=True)
    check_without_batch_norm(model, new)
    check_report(model, report)
    check_independent(new)
    kernels = ("QuantConv2D", "Conv2D", "QuantDense", "Dense", "Add")
    layers = flat(model).layers
    kept = {layer.name for layer in layers if type(layer).__name__ in kernels}
    assert kept <= {layer.name for layer in new.layers}


@pytest.mark.slow
@each_whole
def test_a_model_without_batch_norm_trains_and_is_saved(name, tmp_path):
    new = nobn.remove_batch_norm(given(name))
    check_training(new)
    check_saved(new, tmp_path / "removed.keras")


@pytest.mark.parametrize("name", ["quick_net", "res_net_e", "sequential", "nested"])
def test_reestimated_statistics_fold_to_the_same_function(name):
    model = given(name)
    with untouched(model):
        new = nobn.reestimate_batch_norm(model, inputs_of(model)[0])
    assert len(batch_norms(new)) == len(batch_norms(model))
    check_equal(new, nobn.fold_batch_norm(new), 1e-5)


# Residual blocks, gates, dense blocks, both kinds of block in turn, layers in a row.
CONVERTIBLE = [
    subject
    for subject in ZOO
    if subject.network.__name__
    in ("quick_net", "real_to_binary", "binary_dense_net", "melius_net", "xnor_net")
]


@pytest.mark.slow
@pytest.mark.convert
@pytest.mark.parametrize("subject", CONVERTIBLE, ids=lambda s: s.network.__name__)
def test_surgery_costs_nothing_on_the_phone(subject, tmp_path):
    model, path = given(subject.network.__name__), tmp_path / "model.tflite"
    before = Cost.of(model, path, verify=False)
    assert before.binary == subject.binary
    Cost.of(nobn.fold_batch_norm(model), path).check(before)
    Cost.of(nobn.remove_batch_norm(model), path, verify=False).check(before)
