"""Files for TensorFlow Lite Micro, in its own interpreter."""

import re
import runpy
import sys
from pathlib import Path

import fresh
import larq as lq
import numpy as np
import pytest
import tensorflow as tf
from larq_nobn import models
from deploy.nets import INPUT, binary_conv, chain, head, images
from larq_nobn._keras import keras
from larq_nobn.deploy import (
    ConversionError,
    Runner,
    VerificationError,
    _convert,
    audit,
    convert,
    fake_quantize,
)
from larq_nobn.deploy.lite import _micro
from larq_nobn.deploy.lite._file import read, unpacked
from tensorflow.lite.python.schema_py_generated import TensorType
from tflite_micro.python.tflite_micro import runtime as micro


def reactnet():
    return models.ReActNet18(INPUT, 5, width=16, blocks=(1, 1))


def quicknet():
    return models.QuickNetSmall((16, 16, 3), 5, width=8, blocks=(1, 1))


def own():
    """Kernels of ±c with a c of each filter, ternary ones, and a dense layer."""
    ternary = lq.layers.QuantConv2D(
        32, 3, input_quantizer="ste_sign", kernel_quantizer="ste_tern", use_bias=False
    )
    wide = lq.layers.QuantDense(64, kernel_quantizer="ste_sign", use_bias=False)
    scaled = binary_conv(32, kernel_quantizer="magnitude_aware_sign")
    return chain(scaled, ternary, *head()[:1], wide, keras.layers.Dense(5))


NETWORKS = {"reactnet": reactnet, "quicknet": quicknet, "own": own}


@pytest.fixture(scope="module", params=NETWORKS)
def files(request, tmp_path_factory):
    """A network with ranges, its images, its file for Micro, and the report."""
    model, folder = NETWORKS[request.param](), tmp_path_factory.mktemp("micro")
    x = images(12, model.input_shape[1:])
    model = fake_quantize(model, x, verify=False)
    report = convert(model, folder / "micro.tflite", data=x, runtime="micro")
    options = {"runtime": "litert", "int8": True, "io": "int8", "verify": False}
    convert(model, folder / "whole.tflite", data=x, **options)  # before it is packed
    return model, x, folder, report


def in_micro(path, steps):
    """The outputs of a file in Micro, for inputs in steps."""
    interpreter, made = micro.Interpreter.from_bytes(path.read_bytes()), []
    for image in steps:
        interpreter.set_input(image[None], 0)
        interpreter.invoke()
        made.append(interpreter.get_output(0)[0].copy())
    return np.array(made)


def test_micro_computes_the_same_of_kernels_in_bits(files):
    model, x, folder, report = files
    path, whole = folder / "micro.tflite", folder / "whole.tflite"
    assert path.stat().st_size < whole.stat().st_size
    run = Runner(path)
    steps = run.input_tensors[0].encode(x)
    outputs = in_micro(path, steps)
    np.testing.assert_array_equal(outputs, in_micro(whole, steps))
    np.testing.assert_array_equal(run.output_tensors[0].decode(outputs), run(x))
    far = np.abs(run(x) - Runner(whole)(x)).max() / run.output_tensors[0].scale
    assert far < 9.5  # XNNPACK and Micro round sums otherwise
    assert report.verify["int8"]["worst_steps"] < 1.1
    assert report.float_ops == [] and report.runtime == "micro"


def test_what_micro_does_not_read_is_not_there(files):
    """Layers and names of inputs and outputs are, and all else once."""
    _, _, folder, _ = files
    path, whole = folder / "micro.tflite", folder / "whole.tflite"
    runs = [Runner(file) for file in (path, whole)]
    assert runs[0].input_names == runs[1].input_names
    assert runs[0].output_names == runs[1].output_names
    rows = [audit(file).operations for file in (path, whole)]
    layers, all_layers = (
        [(row["op"], row["layer"]) for row in each if row["op"] != "TFLM_DECODE"]
        for each in rows
    )
    assert layers == all_layers and len({*layers}) > len({op for op, _ in layers})
    model = unpacked(path.read_bytes())
    (graph,) = model.subgraphs
    assert not model.metadata
    numbers = {bytes(x.data) for x in model.buffers if x.data is not None}
    for tensor in graph.tensors:
        steps = tensor.quantization
        if steps is not None and steps.scale is not None:
            numbers.add(bytes(steps.scale))
            if len(steps.scale) > 1:
                assert tensor.type == TensorType.INT8 and [*steps.zeroPoint] == [0]
    parts = len(graph.tensors) + len(graph.operators)
    rest = path.stat().st_size - sum(map(len, numbers))
    assert rest < 100 * parts  # tables, shapes, and a name for each layer


def test_report_and_audit_say_what_a_board_needs(files):
    _, _, folder, report = files
    path = folder / "micro.tflite"
    found = audit(path)
    assert found.runtime == "micro"
    assert report.flash_bytes == found.flash_bytes == path.stat().st_size
    assert report.arena_bytes == found.arena_bytes
    # It runs in so much, and a little for what begins where memory has to.
    enough = found.arena_bytes + 64
    micro.Interpreter.from_bytes(path.read_bytes(), arena_size=enough).invoke()
    kernels = [x for x in found.operations if x["op"] == "TFLM_DECODE"]
    assert {row["kind"] for row in kernels} == {"shape"}
    assert found.unpacked_bytes == max(x["activation_bytes"] for x in kernels)
    assert found.resolver == report.resolver
    assert len({*found.resolver}) == len(found.ops)
    assert {"AddDecode", "AddConv2D", "AddFullyConnected"} <= {*found.resolver}
    for text in (str(report), str(found)):
        assert "AddDecode" in text and f"{found.arena_bytes:,} bytes" in text


def test_two_bits_hold_ternary_kernels(tmp_path):
    model = fake_quantize(own(), images(4), verify=False)
    path = tmp_path / "own.tflite"
    convert(model, path, data=images(4), runtime="litert", int8=True, verify=False)
    graph = read(path.read_bytes(), "own")[0]
    bits = {t.shape: n for t, _, n in _micro.packed_kernels(graph)}
    assert bits[32, 3, 3, 32] in (1, 2) and sorted(bits.values()) == [1, 2]


def test_a_wrong_bit_is_found(monkeypatch, tmp_path):
    packed = _micro.with_packed_kernels

    def one_bit_off(content, graph):
        made = bytearray(packed(content, graph))
        (ops,) = read(bytes(made), "packed")
        bits = next(op for op in ops.operations if op.op == "TFLM_DECODE").input(0)
        made[made.index(bytes(bits.data))] ^= 0x10
        return bytes(made)

    monkeypatch.setattr(_convert, "with_packed_kernels", one_bit_off)
    model = fake_quantize(chain(binary_conv(), *head()), images(4), verify=False)
    path = tmp_path / "m.tflite"
    with pytest.raises(VerificationError, match="one bit a weight.*another release"):
        convert(model, path, data=images(8), runtime="micro")
    assert not path.exists()


def ending(function):
    """Ends in an operation that Micro does not have in int8."""
    inputs = keras.Input((4, 4, 8))
    y = keras.layers.Flatten(name="flat")(binary_conv(4, name="conv")(inputs))
    return keras.Model(inputs, keras.layers.Lambda(function, name="last")(y))


@pytest.mark.parametrize(
    ("operation", "function"),
    [
        ("TILE", lambda x: tf.tile(x, [1, 3])),
        ("TOPK_V2", lambda x: tf.math.top_k(x, 2)[0]),
        ("EXP", tf.exp),
        ("ARG_MAX", lambda x: tf.argmax(x, -1)),
    ],
)
def test_what_micro_lacks_is_named(tmp_path, operation, function):
    """By layer and remedy, whether it lacks the operation or its form."""
    x, path = images(4, (4, 4, 8)), tmp_path / "m.tflite"
    said = f"'last' .*{operation}.* runtime, such as litert"
    with pytest.raises(ConversionError, match=said):
        convert(ending(function), path, runtime="micro", calibrate=x)
    assert not path.exists()


def test_what_cannot_be(monkeypatch, tmp_path):
    path, x = tmp_path / "m.tflite", images(4)
    plain = chain(binary_conv(), *head())
    with pytest.raises(ConversionError, match="contains no ranges.*--calibrate"):
        convert(plain, path, runtime="micro")
    ranged = fake_quantize(plain, x, verify=False)
    with pytest.raises(ValueError, match="small=True is for C files"):
        convert(ranged, path, runtime="micro", small=True)
    convert(ranged, path, data=x, runtime="micro")
    monkeypatch.setitem(sys.modules, "tflite_micro.python.tflite_micro.runtime", None)
    for use in (Runner, lambda path: convert(ranged, path, runtime="micro")):
        with pytest.raises(ConversionError, match=r"pip install 'larq-nobn\[micro\]'"):
            use(path)
    found = audit(path)
    assert found.arena_bytes is None and found.resolver


def test_nothing_is_imported_before_it_is_asked_for():
    code = "import sys, larq_nobn.deploy; sys.exit('tflite_micro' in sys.modules)"
    assert fresh.run(code).returncode == 0


def test_the_header_of_a_board(files, monkeypatch, tmp_path, capsys):
    """The whole file, and what Micro asks for besides."""
    _, _, folder, report = files
    path, header = folder / "micro.tflite", tmp_path / "network.h"
    example = Path(__file__).parents[2] / "examples" / "microcontroller" / "export.py"
    monkeypatch.setattr(sys, "argv", [str(example), str(path), str(header)])
    runpy.run_path(str(example))
    text = header.read_text()
    numbers = re.findall(r"0x([0-9a-f]{2})", text)
    assert bytes.fromhex("".join(numbers)) == path.read_bytes()
    assert all(f"resolver.{name}()" in text for name in report.resolver)
    (arena,) = re.findall(r"kArenaBytes = (\d+) \* 1024", text)
    assert report.arena_bytes <= 1024 * int(arena) < report.arena_bytes + 1024
    assert f"{report.flash_bytes:,} bytes of flash" in capsys.readouterr().out
