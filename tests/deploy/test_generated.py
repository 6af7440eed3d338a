"""Random networks convert to what they should be, or are rejected."""

import inspect
import tempfile
from pathlib import Path

import larq_nobn as nobn
import numpy as np
import pytest
from deploy.generated import build, plans, seeds
from deploy.generated_layers import EXCEPTIONS, PLACED
from hypothesis import example, given, settings
from larq_nobn._keras import keras
from larq_nobn.deploy import Runner
from larq_nobn.deploy.lite._file import read
from numpy.testing import assert_allclose
from surgery.properties import certain, inputs_of, outputs_of

pytestmark = [pytest.mark.slow, pytest.mark.convert]
_REAL = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
# What may stand between a sign that stayed real-valued and its convolution.
_BETWEEN = ("PAD", "PADV2", "RESHAPE", "SPACE_TO_BATCH_ND")


def test_every_public_layer_and_quantizer_is_placed():
    public = {
        item
        for module in (nobn.layers, nobn.quantizers)
        for name in module.__all__
        if inspect.isclass(item := getattr(module, name))
    }
    assert public <= PLACED | set(EXCEPTIONS)
    assert not PLACED & set(EXCEPTIONS)
    assert all(EXCEPTIONS.values())


@settings(max_examples=2)
@given(plans(), seeds)
# A number minus a map after a gain, which once was read as a layer of no channels.
@example([("binary_convolution", 28693), ("norm", 1), ("operator", 9744)], 29563)
# Two signs in a row, the second with a shift beyond 1.
@example([("sign", 37871), ("sign", 47021), ("binary_convolution", 47901)], 10376)
def test_conversion(plan, seed):
    network, model = build(plan, seed)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.tflite"
        report = nobn.convert(model, path)
        assert list(Path(folder).iterdir()) == [path]
        content = path.read_bytes()
    assert report.lce_bconv2d == report.binary_layers == network.binary
    assert report.verify["unexplained"] == 0
    assert report.verify["prepared"]["unexplained"] == 0
    assert not silently_float(content)
    check_outputs(model, Runner(content))


def silently_float(content: bytes) -> list[str]:
    """Float operations of a file that multiply ±1 by ±c."""
    (graph,) = read(content, "model.tflite")
    found = []
    for op in graph.operations:
        if op.op in _REAL and op.inputs[1].data is not None:
            filters = np.frombuffer(op.inputs[1].data, np.float32)
            same = np.unique(np.abs(filters.reshape(op.inputs[1].shape[0], -1)), axis=1)
            if same.shape[1] == 1 and comes_from_sign(graph, op):
                found.append(op.outputs[0].name)
    return found


def comes_from_sign(graph, op) -> bool:
    source = graph.producer(op.inputs[0])
    while source is not None and source.op in _BETWEEN:
        source = graph.producer(source.inputs[0])
    return source is not None and source.op in ("LceDequantize", "SIGN", "SELECT_V2")


def check_outputs(model: keras.Model, run: Runner) -> None:
    """Compares on new examples, those that no rounding can turn into others."""
    x = inputs_of(model, 12)
    sure = certain(model, x)
    for wanted, found in zip(outputs_of(model, x), run.outputs(x), strict=True):
        scale = max(np.abs(wanted).max(), 1e-3)
        found = np.reshape(found, wanted.shape)
        assert_allclose(found[sure], wanted[sure], atol=1e-3 * scale)
