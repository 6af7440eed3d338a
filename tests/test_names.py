"""The light names are those of what they stand for, in the same order."""

from __future__ import annotations

from inspect import isfunction

from larq_nobn import _names, data, models
from larq_nobn.data._registry import BUILT_IN
from larq_nobn.models import _normalizations
from larq_nobn.models._normalizations import NORMALIZATIONS
from larq_nobn.training._network import KERNELS
from larq_nobn.training._run_settings import NETWORKS


def test_names_are_those_of_the_table():
    assert (*_names.MODELS, _names.FLOAT_MODEL) == tuple(NETWORKS)


def test_a_builder_is_found_by_its_name():
    assert tuple(models.BUILDERS) == _names.MODELS
    for name, build in models.BUILDERS.items():
        assert build.__name__ == name and getattr(models, name) is build


def test_a_kernel_is_the_quantizer_of_its_name():
    assert tuple(KERNELS) == _names.KERNELS
    kinds = {name: type(make()).__name__.lower() for name, make in KERNELS.items()}
    assert kinds.pop("bnn_plus") == "binaryregularized"
    assert kinds == {name: name.replace("_", "") for name in kinds}


def test_a_normalization_has_the_layer_of_its_name():
    made = {name: each.after.__name__ for name, each in NORMALIZATIONS.items()}
    assert tuple(made) == _names.NORMALIZATIONS
    without = {"none", "nobn", "kalman", "independent_component"}
    assert {n: own for n, own in made.items() if n not in without} == {
        name: name
        for name, each in vars(_normalizations).items()
        if isfunction(each) and each.__module__ == _normalizations.__name__
        if not name.startswith("_") and name != "normalization_of"
    }
    assert {made[name] for name in without} == {"_unchanged"}


def test_public_names_are_the_same():
    assert data.NAMES == _names.DATASETS == tuple(BUILT_IN)
    assert models.NORMALIZATIONS == _names.NORMALIZATIONS == tuple(NORMALIZATIONS)
