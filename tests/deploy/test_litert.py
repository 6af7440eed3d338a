"""Files without custom operations: exact in every interpreter that runs them."""

import collections
import re
from dataclasses import replace
from itertools import product
from pathlib import Path

import larq_nobn as nobn
import larq as lq
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from deploy.nets import Subclassed, binary_conv, chain, head, images, scrambled
from deploy.sides import beside, examples
from larq_nobn._keras import keras
from larq_nobn.deploy import ConversionError, Runner, audit, convert, fake_quantize
from larq_nobn.deploy.lite._file import read
from larq_nobn.deploy.operations import _int8
from larq_nobn.deploy.operations._emit import outputs_of
from larq_nobn.deploy.operations._program import Node, Program, Value
from models.networks import NETWORKS as SMALL
from tflite_micro.python.tflite_micro import runtime as micro

pytestmark = pytest.mark.convert

X = images(8)


def reactnet():
    return nobn.models.ReActNet18((8, 8, 3), 5, width=32, blocks=(1, 1))


def vgg():
    return nobn.models.VGGSmall((8, 8, 3), 5, width=8)


def of_all_kinds():
    """Strides, dilation, both kinds of padding, groups, a dense layer, other signs."""
    rows = [
        binary_conv(name="zeros", pad_values=0.0, activation="relu"),
        keras.layers.BatchNormalization(),
        binary_conv(name="strided", strides=2, kernel_quantizer="magnitude_aware_sign"),
        keras.layers.BatchNormalization(scale=False),
        binary_conv(name="dilated", dilation_rate=2),
        keras.layers.MaxPooling2D(name="pool"),
        keras.layers.BatchNormalization(),
        binary_conv(name="grouped", groups=2),
        keras.layers.BatchNormalization(),
        keras.layers.Flatten(),
        lq.layers.QuantDense(
            5, input_quantizer="ste_sign", kernel_quantizer="ste_sign", name="dense"
        ),
    ]
    return chain(*rows, name="kinds")


NETWORKS = {
    "reactnet": lambda: scrambled(reactnet()),
    "vgg": lambda: scrambled(vgg()),
    "kinds": of_all_kinds,
}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Each network's report, in float32 and in int8, converted once."""
    folder, made = tmp_path_factory.mktemp("litert"), {}

    def file(name, int8, runtime="litert"):
        key = name, int8, runtime
        if key not in made:
            model = NETWORKS[name]()
            if int8:
                model = fake_quantize(model, X, verify=False)
            path = folder / f"{name}-{int8}-{runtime}.tflite"
            made[key] = model, convert(model, path, data=X, int8=int8, runtime=runtime)
        return made[key]

    return file


def in_litert(content, x, kind=OpResolverType.AUTO):
    """Outputs of LiteRT's own interpreter, image by image, and its operations."""
    run = Interpreter(model_content=content, experimental_op_resolver_type=kind)
    run.allocate_tensors()
    (given,), (made,) = run.get_input_details(), run.get_output_details()
    found = []
    for row in x:
        run.set_tensor(given["index"], row[None])
        run.invoke()
        found.append(run.get_tensor(made["index"])[0])
    names = collections.Counter(op["op_name"] for op in run._get_ops_details())
    return np.array(found), names


FILES = [(name, int8) for name in ("reactnet", "kinds") for int8 in (False, True)]
FILES += [("vgg", True)]


@pytest.mark.parametrize("name, int8", FILES)
def test_it_needs_nothing_of_lce_and_is_verified(files, name, int8, caplog):
    model, report = files(name, int8)
    assert not [record for record in caplog.records if record.name == "absl"]
    content = Path(report.path).read_bytes()
    ops = read(content, "file")[0].operations
    assert report.runtime == audit(report.path).runtime == Runner(content).runtime
    assert report.runtime == "litert"
    assert report.lce_bconv2d == 0
    assert report.verify["unexplained"] == 0
    # ±1 kernels, up to a scale of each channel; some of them meet real numbers.
    halves = {op.outputs[0]: op.input(0) for op in ops if op.op == "DEQUANTIZE"}
    kernels = [op.input(1) for op in ops if op.op == "CONV_2D"]
    kernels = [halves.get(kernel, kernel) for kernel in kernels]
    signs = [k for k in kernels if len(np.unique(np.abs(k.values))) == 1]
    assert len(signs) >= report.binary_layers > 0
    assert {op.kind for op in ops} <= {"int8" if int8 else "float", "shape"}
    said = [row for row in audit(report.path).savings if "±c" in row["finding"]]
    named = {layer for row in said for layer in row["layers"]}
    assert not named & {*nobn.deploy.binary_layers(model)}
    # No operation is called binary, neither here nor where the file is read.
    layers = f"{report.binary_layers} binary layers are ordinary convolutions of ±1"
    assert report.summary().endswith(f"; all {layers}")
    for found, said in ((report, layers), (audit(report.path), "LiteRT has ordinary")):
        assert re.search(f"binary convolutions .*none of one bit: .*{said}", str(found))
    if int8:
        assert report.float_ops == []
        assert report.verify["int8"]["worst_steps"] < 1.5


@pytest.mark.parametrize(
    "name, int8",
    [("reactnet", False), ("reactnet", True), ("vgg", True)],
)
def test_litert_computes_the_same_with_one_delegate_and_with_none(files, name, int8):
    _, report = files(name, int8)
    content = Path(report.path).read_bytes()
    runner = Runner(content)
    (given,), (made,) = runner.input_tensors, runner.output_tensors
    want = made.encode(runner(X))
    whole, names = in_litert(content, given.encode(X))
    inner = runner._interpreter._inner._get_ops_details()
    assert names == collections.Counter(op["op_name"] for op in inner)
    assert names["DELEGATE"] == 1
    ops = read(content, "file")[0].operations
    assert sum(names.values()) == len(ops) + 1
    if not int8:
        # Kernels are stored in half of float32, and unpacked to ±1 times a power of two
        halves = [op.input(0) for op in ops if op.op == "DEQUANTIZE"]
        kernels = [half for half in halves if len(half.shape) == 4]
        assert len(kernels) >= report.binary_layers
        assert all(half.values.dtype == np.float16 for half in halves)
        assert not any(op["op"] == "DEQUANTIZE" for op in report.float_ops)
    np.testing.assert_allclose(whole, want, rtol=1e-5, atol=1e-5)
    if not int8 or name == "vgg":  # whose signs are of whole numbers
        kind = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        alone, _ = in_litert(content, given.encode(X), kind)
        # Other kernels round int8 sums otherwise.
        np.testing.assert_allclose(alone, want, rtol=1e-4, atol=1 if int8 else 1e-4)


# Designs that `NETWORKS` above lacks. XNORNet18 and BiRealNet18 have the layers of
# ReActNet18, and BinaryDenseNet28 those of MeliusNet22; others differ in numbers.
DESIGNS = {
    nobn.models.BinaryAlexNet: True,  # a clip after a binary convolution
    nobn.models.ResNet20: True,
    nobn.models.MeliusNet22: True,
}


@pytest.mark.parametrize("builder", DESIGNS)
def test_every_design_is_for_litert(builder, tmp_path):
    network = next(n for n in SMALL if n.builder is builder)
    network = replace(network, shape=(network.smallest, network.smallest, 1))
    x, path, int8 = network.images(4), tmp_path / "m.tflite", DESIGNS[builder]
    model = scrambled(network())
    model = fake_quantize(model, x, verify=False) if int8 else model
    report = convert(model, path, data=x, int8=int8, runtime="litert")
    assert report.binary_layers == network.binary
    assert report.verify["unexplained"] == 0
    content = path.read_bytes()
    ops = read(content, "file")[0].operations
    assert not [op for op in ops if op.op.startswith("Lce")]
    assert {op.kind for op in ops} <= {"int8" if int8 else "float", "shape"}
    given = Runner(content).input_tensors[0].encode(x[:1])
    _, names = in_litert(content, given)
    # None is left to other kernels; where groups of channels meet, delegates take
    # turns in int8.
    assert sum(names.values()) - names["DELEGATE"] == len(ops)
    turns = int8 and builder is nobn.models.MeliusNet22
    assert 1 <= names["DELEGATE"] <= (2 if turns else 1)


def test_every_sign_of_a_trained_network_is_compared(tmp_path):
    model, _ = nobn.models.open_pretrained("reactnet18-w32-digits")
    x, path = images(8, (8, 8, 1)), tmp_path / "m.tflite"
    report = convert(model, path, data=x, runtime="litert")
    assert report.verify["segments"]["compared"] == report.binary_layers + 1
    np.testing.assert_allclose(Runner(path)(x), model(x), rtol=1e-4, atol=1e-4)


def test_a_microcontroller_computes_the_same_to_a_step(files):
    _, report = files("vgg", True)
    content = Path(report.path).read_bytes()
    encoded = Runner(content).input_tensors[0].encode(X)
    want, _ = in_litert(content, encoded, OpResolverType.BUILTIN_REF)
    run = micro.Interpreter.from_bytes(content)
    for x, y in zip(encoded, want, strict=True):
        run.set_input(x[None], 0)
        run.invoke()
        np.testing.assert_allclose(run.get_output(0)[0], y, rtol=0, atol=1)


def test_the_files_of_vgg_for_both_runtimes_agree_to_a_step(files):
    _, ours = files("vgg", True)
    _, lces = files("vgg", True, "lce")
    first, second = Runner(ours.path), Runner(lces.path)
    step = second.output_tensors[0].scale
    assert np.abs(first(X) - second(X)).max() <= 1.01 * step


def test_a_binary_layer_right_after_another(tmp_path):
    """TensorFlow Lite makes what their sign multiplies by a part of the first."""
    given = {"padding": "valid", "pad_values": 0.0}
    model = chain(*(binary_conv(8, **given) for _ in range(2)))
    convert(model, tmp_path / "m.tflite", runtime="litert")
    found = Runner(tmp_path / "m.tflite")(X)
    np.testing.assert_array_equal(found, model(X))


@pytest.mark.parametrize("step", [None, 0.25])
@pytest.mark.parametrize("shift", [None, np.array([0.0, 0.5, -0.3, 0.1])])
def test_a_sign_that_saturates(step, shift):
    moved = np.zeros(4) if shift is None else shift
    grid = np.arange(-8, 8)[:, None] * 0.25 + np.zeros(4)
    if step is None:
        tiny = [0.0, -0.0, 2.0**-100, -(2.0**-100), 3e38, -3e38]
        grid = np.concatenate([grid - moved, np.repeat(np.array(tiny)[:, None], 4, 1)])
    x = grid.astype(np.float32)[None, :, None]
    want = np.where(x + np.float32(moved) >= 0, 1.0, -1.0)
    arguments = {"shift": shift, "step": step, "padding": ((1, 1), (0, 0))}
    shape = (1, len(grid) + 2, 1, 4)
    made = [Value(shape, tf.float32), Value(x.shape, tf.float32)]
    given = Value(x.shape, tf.float32)
    sign = Node("net/a/sign", "saturating", (given,), tuple(made), arguments)
    found, inner = outputs_of(Program([given], [sign], made), [tf.constant(x)])
    np.testing.assert_array_equal(found[:, 1:-1], want)
    np.testing.assert_array_equal(inner, want)
    np.testing.assert_array_equal(found.numpy()[:, [0, -1]], 1.0)


def test_prelu_of_sums():
    step, slope = 2 / 255, np.array([0.25, -0.5, 2.0])
    x = step * np.arange(-127, 128, dtype=np.float32)[None, :, None, None]
    x = np.repeat(x, 3, axis=-1)
    want = np.where(x > 0, x, x * np.float32(slope))
    ends = {"low": -128 * step, "high": 127 * step}
    first, middle, made, last = (Value(x.shape, tf.float32) for _ in range(4))
    nodes = [
        Node("net/before/range", "range", (first,), (middle,), ends),
        Node("net/act/prelu", "prelu", (middle,), (made,), {"slope": slope}),
        Node("net/after/range", "range", (made,), (last,), ends),
    ]
    program = _int8.spelled(Program([first], nodes, [last]), "litert")
    assert [node.kind for node in program.nodes] == ["range", "summed", "range"]
    (found,) = outputs_of(program, [tf.constant(x)])
    inside = np.abs(want) <= 1
    assert np.abs(found - want)[inside].max() <= 0.51 * step


# Layers of few bits, and whether int8 has all of their numbers.
FEW_BITS = {
    "three_bits": (
        True,
        {"input_quantizer": lq.quantizers.DoReFa(3), "pad_values": 0.0},
    ),
    "zero_one": (True, {"input_quantizer": "ste_heaviside", "pad_values": 0.0}),
    "ternary_kernel": (True, {"kernel_quantizer": "ste_tern"}),
    "padded": (True, {"input_quantizer": "ste_heaviside"}),
    "ternary_inputs": (False, {"input_quantizer": "ste_tern"}),
    "ternary": (
        False,
        {"input_quantizer": "ste_tern", "kernel_quantizer": "ste_tern"},
    ),
}


@pytest.mark.parametrize("in_int8", [True, False])
def test_layers_of_few_bits(in_int8, tmp_path):
    """Side by side in one file, each after an input of its own."""
    cases = {name: case[1] for name, case in FEW_BITS.items() if case[0] is in_int8}
    model = beside(
        [
            chain(binary_conv(4, **options), stem=False, shape=(5, 5, 3), name=name)
            for name, options in cases.items()
        ]
    )
    x, path = examples(model, 4), tmp_path / "m.tflite"
    convert(model, path, data=x, runtime="litert")
    for found, wanted in zip(Runner(path)(x), model(x), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)
    model = fake_quantize(model, x, verify=False)
    if not in_int8:
        with pytest.raises(ConversionError, match="int8 has no form.*ste_sign") as said:
            convert(model, path, data=x, int8=True, runtime="litert")
        layers = [x.name for x in model.layers if hasattr(x, "kernel_quantizer")]
        assert all(repr(name) in str(said.value) for name in layers)
        return
    report = convert(model, path, data=x, int8=True, runtime="litert")
    assert report.float_ops == []
    run = Runner(path)
    ends = zip(run(x), model(x), run.output_tensors, strict=True)
    for found, wanted, tensor in ends:
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1.01 * tensor.scale)


CLIPS = {
    "of the user's": lambda x: tf.clip_by_value(x, -0.5, 0.7),
    "half": lambda x: tf.maximum(x, -0.2),
}


@pytest.mark.parametrize("runtime", ["lce", "litert"])
def test_a_clip_is_a_range(runtime, tmp_path):
    """Also of a pool, each after a convolution of its own."""
    inputs, ends = keras.Input((6, 6, 3)), []
    for clip, pooled in product(CLIPS.values(), (False, True)):
        x = keras.layers.Conv2D(4, 3)(inputs)
        x = keras.layers.MaxPooling2D()(x) if pooled else x
        ends.append(binary_conv(4)(keras.layers.Activation(clip)(x)))
    x, path = images(4, (6, 6, 3)), tmp_path / "m.tflite"
    model = fake_quantize(scrambled(keras.Model(inputs, ends)), x, verify=False)
    report = convert(model, path, data=x, int8=True, runtime=runtime)
    assert report.verify["int8"]["worst_steps"] < 1.1
    assert not {"MAXIMUM", "MINIMUM"} & {op["op"] for op in report.int8_ops}


def test_what_cannot_be(tmp_path):
    model, path = chain(binary_conv(4), *head(), stem=False), tmp_path / "m.tflite"
    with pytest.raises(ValueError, match="runtime must be one of lce, litert"):
        convert(model, path, runtime="tpu")
    with pytest.raises(ConversionError, match="contains no FakeQuantization"):
        convert(model, path, runtime="litert", int8=True)
    with pytest.raises(ConversionError, match="cannot be taken apart.*functional"):
        convert(Subclassed(binary_conv(4)), path, data=X, runtime="litert", int8=True)
    high = keras.layers.Activation(lambda x: tf.clip_by_value(x, 0.2, 0.5), name="high")
    clipped = fake_quantize(chain(binary_conv(4), high, stem=False), X, verify=False)
    with pytest.raises(ConversionError, match=r"'high' cuts off.*\[0.2, 0.5\].*relu6"):
        convert(clipped, path, runtime="litert", int8=True)
    assert not path.exists()
