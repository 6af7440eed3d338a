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
    check_exact,
    check_folded_twice,
    check_independent,
    check_report,
    check_saved,
    check_training,
    check_without_batch_norm,
    flat,
    inputs_of,
    untouched,
)
from surgery.subjects import ZOO
from surgery.variants import VARIANTS, variant


def own(network, normalization):
    keras.utils.set_random_seed(0)
    # Of residual blocks one with a projection is enough here, and one without.
    small = {"blocks": (1, 1)} if "blocks" in network.small else {}
    return settled(scattered(network(normalization, **small)))


SUBJECTS = {s.network.__name__: s for s in ZOO}
ZEROS = ("quick_net", "res_net_e", "melius_net", "real_to_binary")
STRANGERS = {
    name: partial(subject, zero=name in ZEROS) for name, subject in SUBJECTS.items()
}
STRANGERS |= {build.__name__: partial(variant, build) for build in VARIANTS}
# Those of the package's networks that no stranger looks like, and each of its
# normalizations by statistics of batches in residual blocks or between pools; in
# `test_remove.py` they are in another network.
PAIRS = {
    "ReActNetA": "batch_norm",
    "ResNet20": "kalman",
    "VGGSmall": "independent_component",
    "QuickNet": "independent_component",
}
NAMED = {network.builder.__name__: network for network in NETWORKS}
OWN = {
    f"{name}-{kind}": partial(own, NAMED[name], kind) for name, kind in PAIRS.items()
}


@cache
def given(name):
    return {**STRANGERS, **SUBJECTS}[name]()


def operated(model):
    """The model folded and without batch norm, after what contains of every model."""
    with untouched(model):
        folded, of_folding = nobn.fold_batch_norm(model, return_report=True)
        removed, of_removing = nobn.remove_batch_norm(model, return_report=True)
    check_without_batch_norm(model, folded)
    check_without_batch_norm(model, removed)
    check_report(model, of_folding)
    check_report(model, of_removing)
    check_independent(removed)
    kernels = ("QuantConv2D", "Conv2D", "QuantDense", "Dense", "Add")
    layers = flat(model).layers
    kept = {layer.name for layer in layers if type(layer).__name__ in kernels}
    assert kept <= {layer.name for layer in removed.layers}
    return folded, removed


def check_use(models, folder):
    """What surgery returns trains and is saved."""
    for name, model in models.items():
        check_training(model)
        check_saved(model, folder / f"{name}.keras")


def check_subject(model, norms):
    """It has its batch norms, with gains of both signs, and tells examples apart."""
    found = batch_norms(model)
    assert len(found) == norms
    factors = [layer.gamma.numpy() for layer in found if layer.gamma is not None]
    assert all(np.any(gamma < 0) and np.any(gamma > 0) for gamma in factors)
    assert model(images()).numpy().std(axis=0).min() > 0.01


# What is trained and saved of which: between them, and ReActNet, they have every kind
# of layer that surgery makes, moves or keeps, with every quantizer, frozen and shared.
USED = {
    "quick_net": ("removed",),
    "real_to_binary": ("folded",),
    "melius_net": ("folded",),
    "xnor_net": ("folded",),
    "sequential": ("removed",),
    "shared_model": ("removed",),
    "sign_layers": ("folded",),
    "frozen": ("folded", "removed"),
}
# `test_random_models.py` folds all of its own twice.
FOLDED_TWICE = ("quick_net", "shared_model", "frozen", "nested")


@pytest.mark.slow
@pytest.mark.parametrize("name", STRANGERS)
def test_strangers_in_float64(name, tmp_path):
    with dtype_policy("float64"):
        model = STRANGERS[name]()
    if name in SUBJECTS:
        check_subject(model, SUBJECTS[name].norms)
    folded, removed = operated(model)
    check_exact(model, folded, inputs_of(model))
    if name in FOLDED_TWICE:
        check_folded_twice(folded)
    found = {"folded": folded, "removed": removed}
    check_use({key: found[key] for key in USED.get(name, ())}, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", OWN)
def test_networks_of_the_package(name, tmp_path):
    with dtype_policy("float64"):
        model = OWN[name]()
    folded, removed = operated(model)
    check_exact(model, folded, inputs_of(model))
    if name == "ReActNetA-batch_norm":
        check_use({"removed": removed}, tmp_path)


@pytest.mark.parametrize("name", ["quick_net", "nested"])
def test_reestimated_statistics_fold_to_the_same_function(name):
    model = given(name)
    with untouched(model):
        new = nobn.reestimate_batch_norm(model, inputs_of(model)[0])
    assert len(batch_norms(new)) == len(batch_norms(model))
    check_equal(new, nobn.fold_batch_norm(new), 1e-5)


# Residual blocks, gates, dense blocks. Layers in a row are in networks
# drawn at random.
CONVERTIBLE = ("quick_net", "real_to_binary", "melius_net")


@pytest.mark.slow
@pytest.mark.convert
@pytest.mark.parametrize("name", CONVERTIBLE)
def test_surgery_costs_nothing_on_device(name, tmp_path):
    model, path = given(name), tmp_path / "model.tflite"
    before = Cost.of(model, path, verify=False)
    assert before.binary == SUBJECTS[name].binary
    Cost.of(nobn.fold_batch_norm(model), path).check(before)
    Cost.of(nobn.remove_batch_norm(model), path, verify=False).check(before)
