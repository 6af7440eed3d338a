"""Files without custom operations: exact in every interpreter that runs them."""

import collections
import re
import warnings
from itertools import product
from pathlib import Path

import larq_nobn as nobn
import larq as lq
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from deploy.nets import SIGNS, Subclassed, binary_conv, chain, head, images, scrambled
from deploy.sides import beside, examples
from larq_nobn._keras import keras
from larq_nobn.deploy import ConversionError, Runner, audit, convert, fake_quantize
from larq_nobn.deploy.lite._file import read
from larq_nobn.deploy.operations._emit import outputs_of
from larq_nobn.deploy.operations._kinds import SaturatingSign, Value
from larq_nobn.deploy.operations._program import Program
from tflite_micro.python.tflite_micro import runtime as micro

pytestmark = pytest.mark.convert

X, ZEROS = images(4), {"pad_values": 0.0}


def of_real_numbers():
    """A residual block, and groups of channels that meet as in MeliusNet."""
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(32, 3, padding="same", name="stem")(inputs)
    y = binary_conv(input_quantizer=nobn.quantizers.RSign(), strides=2)(x)
    x = keras.layers.Add()([keras.layers.AveragePooling2D()(x), y])
    x = nobn.layers.RPReLU()(x)
    x = keras.layers.Concatenate()([binary_conv(24)(x), binary_conv(8)(x)])
    x = keras.layers.BatchNormalization()(x)
    y = binary_conv(8, kernel_quantizer="scaled_std_sign")(x)
    x = keras.layers.Concatenate()([x[..., :24], x[..., 24:] + y])
    x = keras.layers.GlobalAveragePooling2D()(x)
    return scrambled(keras.Model(inputs, keras.layers.Dense(5, name="head")(x)))


def of_whole_numbers():
    """Strides, dilation, both kinds of padding, groups, a dense layer, other signs."""
    rows = [
        binary_conv(8, name="zeros", pad_values=0.0, activation="relu"),
        keras.layers.BatchNormalization(),
        binary_conv(8, strides=2, kernel_quantizer="magnitude_aware_sign"),
        keras.layers.BatchNormalization(scale=False),
        binary_conv(8, dilation_rate=2),
        keras.layers.MaxPooling2D(),
        keras.layers.BatchNormalization(),
        binary_conv(8, groups=2),
        keras.layers.BatchNormalization(),
        keras.layers.Flatten(),
        lq.layers.QuantDense(5, **SIGNS, name="dense"),
    ]
    return chain(*rows, name="kinds")


NETWORKS = {"real": of_real_numbers, "whole": of_whole_numbers}
FILES = [*product(NETWORKS, (False, True))]


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
    actual = []
    for row in x:
        run.set_tensor(given["index"], row[None])
        run.invoke()
        actual.append(run.get_tensor(made["index"])[0])
    names = collections.Counter(op["op_name"] for op in run._get_ops_details())
    return np.array(actual), names


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
    for actual, said in ((report, layers), (audit(report.path), "in LiteRT")):
        assert re.search(
            f"binary convolutions .*none of one bit: .*{said}", str(actual)
        )
    if int8:
        assert report.float_ops == []
        assert report.verify["int8"]["worst_steps"] < 1.5
    elif name == "real":
        assert report.verify["segments"]["compared"] == report.binary_layers + 1


@pytest.mark.parametrize("name, int8", FILES)
def test_litert_computes_the_same_with_one_delegate_and_with_none(files, name, int8):
    _, report = files(name, int8)
    content = Path(report.path).read_bytes()
    runner = Runner(content)
    (given,), (made,) = runner.input_tensors, runner.output_tensors
    want = made.encode(runner(X))
    whole, names = in_litert(content, given.encode(X))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it has another name now
        inner = tf.lite.Interpreter(model_content=content)
    inner.allocate_tensors()
    assert names == collections.Counter(x["op_name"] for x in inner._get_ops_details())
    # None is left to other kernels.
    assert names["DELEGATE"] == 1
    ops = read(content, "file")[0].operations
    assert sum(names.values()) == len(ops) + 1
    if not int8:
        # Kernels without a bias of real numbers are stored in half of float32.
        halves = [op.input(0) for op in ops if op.op == "DEQUANTIZE"]
        kernels = [half for half in halves if len(half.shape) == 4]
        assert len(kernels) >= 2
        assert all(half.values.dtype == np.float16 for half in halves)
        assert not any(op["op"] == "DEQUANTIZE" for op in report.float_ops)
    np.testing.assert_allclose(whole, want, rtol=1e-5, atol=1e-5)
    if not int8 or name == "whole":
        kind = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        alone, _ = in_litert(content, given.encode(X), kind)
        # Other kernels round int8 sums otherwise.
        np.testing.assert_allclose(alone, want, rtol=1e-4, atol=1 if int8 else 1e-4)


def test_a_microcontroller_and_lce_compute_the_same_to_a_step(files):
    _, report = files("whole", True)
    content = Path(report.path).read_bytes()
    encoded = Runner(content).input_tensors[0].encode(X)
    want, _ = in_litert(content, encoded, OpResolverType.BUILTIN_REF)
    run = micro.Interpreter.from_bytes(content)
    for x, y in zip(encoded, want, strict=True):
        run.set_input(x[None], 0)
        run.invoke()
        np.testing.assert_allclose(run.get_output(0)[0], y, rtol=0, atol=1)
    _, lces = files("whole", True, "lce")
    first, second = Runner(report.path), Runner(lces.path)
    step = second.output_tensors[0].scale
    assert np.abs(first(X) - second(X)).max() <= 1.01 * step


def test_a_binary_layer_right_after_another(tmp_path):
    """TensorFlow Lite makes what their sign multiplies by a part of the first."""
    given = {"padding": "valid", "pad_values": 0.0}
    model = chain(*(binary_conv(8, **given) for _ in range(2)))
    convert(model, tmp_path / "m.tflite", data=X, runtime="litert")
    actual = Runner(tmp_path / "m.tflite")(X)
    np.testing.assert_array_equal(actual, model(X))


STRIDED = {
    "rows": lambda **options: keras.layers.Conv2D(4, (1, 3), strides=2, **options),
    "unpadded": lambda **options: keras.layers.Conv2D(4, 2, strides=3, **options),
    "depth": lambda **options: keras.layers.DepthwiseConv2D((3, 1), 2, **options),
    "binary": lambda **options: binary_conv(4, (1, 3), strides=2, **options, **ZEROS),
}


@pytest.mark.parametrize("int8", [False, True])
def test_strides_beyond_the_kernel(int8, tmp_path):
    """XNNPACK of TensorFlow 2.21 starts a "same" convolution of these elsewhere."""
    options = {"stem": False, "shape": (6, 6, 3)}
    layers = {name: make(padding="same") for name, make in STRIDED.items()}
    model = beside([chain(x, name=name, **options) for name, x in layers.items()])
    x, path = examples(model), tmp_path / "m.tflite"
    model = fake_quantize(model, x, verify=False) if int8 else model
    io = "int8" if int8 else None  # whose steps the file says
    convert(model, path, data=x, runtime="litert", int8=int8, io=io)
    run = Runner(path)
    for actual, wanted, tensor in zip(
        run(x), model(x), run.output_tensors, strict=True
    ):
        atol = 2 * tensor.scale if int8 else 1e-5
        np.testing.assert_allclose(actual, wanted, rtol=0, atol=atol)


@pytest.mark.parametrize("step", [None, 0.25])
@pytest.mark.parametrize("shift", [np.zeros(4), np.array([0.0, 0.5, -0.3, 0.1])])
def test_a_sign_that_saturates(step, shift):
    grid = np.arange(-8, 8)[:, None] * 0.25 + np.zeros(4)
    if step is None:
        tiny = [0.0, -0.0, 2.0**-100, -(2.0**-100), 3e38, -3e38]
        grid = np.concatenate([grid - shift, np.repeat(np.array(tiny)[:, None], 4, 1)])
    x = grid.astype(np.float32)[None, :, None]
    want = np.where(x + np.float32(shift) >= 0, 1.0, -1.0)
    shape = (1, len(grid) + 2, 1, 4)
    given, made = Value(x.shape, tf.float32), Value(shape, tf.float32)
    own = shift, step, ((1, 1), (0, 0))
    sign = SaturatingSign("net/a/sign", (given,), (made,), *own)
    (actual,) = outputs_of(Program([given], [sign], [made]), [tf.constant(x)])
    np.testing.assert_array_equal(actual[:, 1:-1], want)
    np.testing.assert_array_equal(actual.numpy()[:, [0, -1]], 1.0)


# Layers of few bits, and whether int8 has all of their numbers.
HEAVISIDE, TERNARY = (
    {"input_quantizer": "ste_heaviside"},
    {"input_quantizer": "ste_tern"},
)
FEW_BITS = {
    "three_bits": (True, {"input_quantizer": lq.quantizers.DoReFa(3), **ZEROS}),
    "zero_one": (True, {**HEAVISIDE, **ZEROS}),
    "ternary_kernel": (True, {"kernel_quantizer": "ste_tern"}),
    "padded": (True, HEAVISIDE),
    "ternary_inputs": (False, TERNARY),
    "ternary": (False, {**TERNARY, "kernel_quantizer": "ste_tern"}),
}


@pytest.mark.parametrize("in_int8", [True, False])
def test_layers_of_few_bits(in_int8, tmp_path):
    """Side by side in one file, each after an input of its own."""
    cases = {name: case[1] for name, case in FEW_BITS.items() if case[0] is in_int8}
    parts = [
        chain(binary_conv(4, **options), stem=False, shape=(5, 5, 3), name=name)
        for name, options in cases.items()
    ]
    model = beside(parts)
    x, path = examples(model, 2), tmp_path / "m.tflite"
    convert(model, path, data=x, runtime="litert")
    for actual, wanted in zip(Runner(path)(x), model(x), strict=True):
        np.testing.assert_allclose(actual, wanted, rtol=1e-5, atol=1e-5)
    model = fake_quantize(model, x, verify=False)
    if not in_int8:
        with pytest.raises(ConversionError, match="int8 has no form.*ste_sign") as said:
            convert(model, path, data=x, int8=True, runtime="litert")
        layers = [x.name for x in model.layers if hasattr(x, "kernel_quantizer")]
        assert all(repr(name) in str(said.value) for name in layers)
        return
    report = convert(model, path, data=x, int8=True, runtime="litert", io="int8")
    assert report.float_ops == []
    run = Runner(path)
    ends = zip(run(x), model(x), run.output_tensors, strict=True)
    for actual, wanted, tensor in ends:
        np.testing.assert_allclose(actual, wanted, rtol=0, atol=1.01 * tensor.scale)


def test_a_clip_after_groups(tmp_path):
    """Each of them is a convolution, which has it inside."""
    rows = [
        binary_conv(8, groups=2, activation="relu"),
        keras.layers.BatchNormalization(),
        binary_conv(8, groups=2, activation="relu"),
        binary_conv(8, groups=4, activation=tf.nn.relu6, **ZEROS),
        *head(),
    ]
    model = fake_quantize(chain(*rows), X, verify=False)
    path = tmp_path / "m.tflite"
    report = convert(model, path, data=X, int8=True, runtime="litert")
    assert report.float_ops == []
    assert report.verify["int8"]["worst_steps"] < 1.5


CLIPS = {
    "of the user's": lambda x: tf.clip_by_value(x, -0.5, 0.7),
    "half": lambda x: tf.maximum(x, -0.2),
}


@pytest.mark.parametrize("runtime", ["lce", "litert"])
def test_a_clip_is_a_range(runtime, tmp_path):
    """Also of a pool."""
    inputs, ends = keras.Input((6, 6, 3)), []
    for clip, pooled in zip(CLIPS.values(), (False, True), strict=True):
        x = keras.layers.Conv2D(4, 3)(inputs)
        x = keras.layers.MaxPooling2D()(x) if pooled else x
        ends.append(binary_conv(4)(keras.layers.Activation(clip)(x)))
    x, path = images(2, (6, 6, 3)), tmp_path / "m.tflite"
    model = fake_quantize(scrambled(keras.Model(inputs, ends)), x, verify=False)
    report = convert(model, path, data=x, int8=True, runtime=runtime)
    assert report.verify["int8"]["worst_steps"] < 1.1
    assert not {"MAXIMUM", "MINIMUM"} & {op["op"] for op in report.int8_ops}


def test_what_cannot_be(tmp_path):
    model, path = chain(binary_conv(4), *head(), stem=False), tmp_path / "m.tflite"
    with pytest.raises(ValueError, match="runtime must be one of lce, litert"):
        convert(model, path, runtime="tpu")
    with pytest.raises(ConversionError, match="contains no ranges"):
        convert(model, path, runtime="litert", int8=True)
    with pytest.raises(ConversionError, match="no ranges.*calibrate=images"):
        convert(Subclassed(binary_conv(4)), path, data=X, runtime="litert", int8=True)
    high = keras.layers.Activation(lambda x: tf.clip_by_value(x, 0.2, 0.5), name="high")
    clipped = fake_quantize(chain(binary_conv(4), high, stem=False), X, verify=False)
    with pytest.raises(ConversionError, match=r"'high' clips to.*\[0.2, 0.5\].*relu6"):
        convert(clipped, path, runtime="litert", int8=True)
    assert not path.exists()


def without_a_kernel():
    """What becomes a convolution of single channels, of vectors and sequences, too."""
    norm = keras.layers.BatchNormalization
    start, steps = keras.Input((8, 8, 3)), keras.Input((12, 6))
    first, second = binary_conv(8)(start), keras.layers.Conv2D(8, 1)(start)
    x = keras.layers.Average()([first, second])
    x = norm()(keras.layers.GlobalMaxPooling2D()(x))
    y = norm()(keras.layers.MaxPooling1D()(lq.layers.QuantConv1D(8, 3, **SIGNS)(steps)))
    ends = [
        lq.layers.QuantDense(4, **SIGNS)(x),
        lq.layers.QuantConv1D(4, 3, **SIGNS)(y),
    ]
    return scrambled(keras.Model([start, steps], ends))


def test_norms_and_means_that_no_kernel_makes(tmp_path):
    model = without_a_kernel()
    x, path = examples(model, 8), tmp_path / "m.tflite"
    model = fake_quantize(model, x, verify=False)
    report = convert(model, path, data=x, int8=True, runtime="litert")
    assert report.float_ops == []
    assert report.verify["int8"]["worst_steps"] < 1.1
