"""Random networks convert to what they should be, and lose their batch norm."""

import inspect

import larq_nobn as nobn
import pytest
from larq_nobn import layers, quantizers
from _fuzz import tables
from _fuzz.judge import judge

pytestmark = [pytest.mark.slow, pytest.mark.convert]
TABLES = (
    *(tables.NORMS, tables.AFFINE, tables.ACTIVATIONS, tables.POOLS, tables.FRAMES),
    *(tables.MERGES, tables.SIGNS, tables.BINARY_KERNELS, tables.REAL_KERNELS),
)
# Public classes that are in no table.
ELSEWHERE = {
    *(layers.BatchNormalizationPreconditioning, layers.LeakyIntegrateAndFire),
    *(layers.SymmetricHead, quantizers.BernoulliSign, quantizers.ReSTE),
}
EXCEPTIONS = {
    layers.DynamicTanh: "would change the drawn networks; see test_dynamic_tanh.py",
    layers.FakeQuantization: "is rejected unless int8 is asked for",
    quantizers.BiPer: "would change the drawn networks; see test_biper.py",
    quantizers.ProgressiveSign: "at inference an RSign; see test_progressive_sign.py",
    layers.ChannelwiseLayer: "is a base class",
    quantizers.KernelQuantizer: "is a base class",
    quantizers.ScaledKernel: "is a base class",
}


def test_every_public_layer_and_quantizer_is_drawn():
    public = {
        item
        for module in (nobn.layers, nobn.quantizers)
        for name in module.__all__
        if inspect.isclass(item := getattr(module, name))
    }
    placed = {kind for table in TABLES for kind in table}
    assert public <= placed | ELSEWHERE | set(EXCEPTIONS)
    assert not placed & set(EXCEPTIONS)


@pytest.mark.parametrize("seed", [0, 11])
def test_conversion(seed):
    actual = judge(seed, lambda stage: None)
    assert actual["outcome"] == "converted", actual
