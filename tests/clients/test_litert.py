"""Files for LiteRT as apps open them: types outside, pixels, and TFLite metadata."""

import io
import zipfile
from itertools import product

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from deploy.nets import INPUT, binary_conv, chain, head, images
from flatbuffers import table
from larq_nobn._keras import keras
from larq_nobn.deploy import (
    ConversionError,
    Preprocessing,
    Runner,
    convert,
    fake_quantize,
    read_card,
)
from larq_nobn.deploy.lite._file import unpacked

MEAN, STD = (0.49, 0.48, 0.45), (0.25, 0.24, 0.26)
LABELS = ["cat", "dog", "grün", "two words", "e"]
PIXELS = np.random.default_rng(0).integers(0, 256, (8, *INPUT), np.uint8)
# In float64, by hand.
NORMALIZED = ((PIXELS / 255 - MEAN) / STD).astype(np.float32)

# For LCE they are compared with themselves alone.
PLAIN = [*product(["litert"], ("float", "float32", "uint8", "int8"))]
WITH_PIXELS = [*PLAIN[:3], ("lce", "float"), ("lce", "int8")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One network, in all forms that clients open."""
    folder = tmp_path_factory.mktemp("litert")
    model = chain(binary_conv(8), binary_conv(8), *head())
    ranged = fake_quantize(model, NORMALIZED, verify=False)
    steps = Preprocessing(MEAN, STD, INPUT[:2])
    known = {"labels": LABELS, "preprocessing": steps, "data": NORMALIZED}
    for pixels, forms in ((False, PLAIN), (True, WITH_PIXELS)):
        for runtime, kind in forms:
            given, options = model, {"runtime": runtime, "pixels": pixels, **known}
            if kind != "float":
                given = ranged
                options |= {"int8": True, "io": kind}
            name = f"{runtime}_{kind}{'_pixels' * pixels}.tflite"
            convert(given, folder / name, **options)
    return folder


def opened(path, kind):
    """LiteRT's interpreter, which takes and gives this type, and its scales."""
    interpreter = Interpreter(str(path))
    interpreter.allocate_tensors()
    ends = interpreter.get_input_details(), interpreter.get_output_details()
    ((given,), (made,)) = ends
    assert given["dtype"] == made["dtype"] == np.dtype(kind)

    def run(batch):
        outputs = []
        for x in batch:
            interpreter.set_tensor(given["index"], x[None])
            interpreter.invoke()
            outputs.append(interpreter.get_tensor(made["index"])[0])
        return np.array(outputs)

    return run, given["quantization"], made["quantization"]


def in_steps(x, kind, scale, zero):
    ends = np.iinfo(kind)
    return np.clip(np.rint(x / scale) + zero, ends.min, ends.max).astype(kind)


def test_types_outside(folder):
    """The same network inside, whose outputs are equal."""
    run, _, _ = opened(folder / "litert_float32.tflite", "float32")
    wanted = run(NORMALIZED)
    for kind in ("uint8", "int8"):
        run, given, (scale, zero) = opened(folder / f"litert_{kind}.tflite", kind)
        made = run(in_steps(NORMALIZED, kind, *given)).astype(float)
        np.testing.assert_allclose((made - zero) * scale, wanted, rtol=1e-6)
    np.testing.assert_array_equal(
        Runner(folder / "litert_float32.tflite")(NORMALIZED).argmax(1), wanted.argmax(1)
    )


def test_int8_of_litert_is_float32_outside_by_default(tmp_path):
    model = fake_quantize(chain(binary_conv(), *head()), images(4), verify=False)
    for runtime, kind in (("litert", "float32"), ("lce", "int8"), ("micro", "int8")):
        path = tmp_path / f"{runtime}.tflite"
        convert(model, path, runtime=runtime, int8=True, verify=False)
        (given,), (made,) = Runner(path).input_tensors, Runner(path).output_tensors
        assert given.dtype == made.dtype == kind


@pytest.mark.parametrize("kind", ["float", "float32", "uint8"])
def test_pixels_go_in_as_they_are(folder, kind):
    dtype = "float32" if kind == "float" else kind
    run, _, (scale, zero) = opened(folder / f"litert_{kind}_pixels.tflite", dtype)
    made = run(PIXELS.astype(dtype)).astype(float)
    other = folder / f"litert_{kind.replace('uint8', 'float32')}.tflite"
    plain, _, _ = opened(other, "float32")
    wanted = plain(NORMALIZED)
    if kind == "uint8":
        made = (made - zero) * scale
    if kind == "float":
        np.testing.assert_allclose(made, wanted, rtol=1e-3, atol=1e-3)
    assert (made.argmax(1) == wanted.argmax(1)).mean() >= 0.75


@pytest.mark.parametrize("runtime, kind", WITH_PIXELS)
def test_the_runner_takes_bytes_and_normalized_images(folder, runtime, kind):
    run = Runner(folder / f"{runtime}_{kind}_pixels.tflite")
    np.testing.assert_array_equal(run(PIXELS), run(NORMALIZED))
    card = read_card(folder / f"{runtime}_{kind}_pixels.tflite")
    scale, offset = card.to_dict()["input"]["steps"]
    np.testing.assert_allclose(PIXELS * scale + offset, NORMALIZED, atol=1e-5)
    plain = read_card(folder / "litert_float.tflite").to_dict()
    assert "steps" not in plain["input"]


# --- metadata, read by the numbers of fields in Google's public schema


def tables(path):
    """The tables of a file's metadata, and the archive behind it."""
    content = path.read_bytes()
    model = unpacked(content)
    (entry,) = (x for x in model.metadata if x.name == b"TFLITE_METADATA")
    data = bytearray(bytes(model.buffers[entry.buffer].data))
    assert data[4:8] == b"M001"
    start = flatbuffers.encode.Get(flatbuffers.packer.uoffset, data, 0)
    return table.Table(data, start), content


def field(of, number):
    offset = of.Offset(4 + 2 * number)
    assert offset
    return offset


def inner(of, number, place=None):
    if place is None:
        return table.Table(of.Bytes, of.Indirect(of.Pos + field(of, number)))
    start = of.Vector(field(of, number)) + 4 * place
    return table.Table(of.Bytes, of.Indirect(start))


def numbers(of, number):
    start, count = of.Vector(field(of, number)), of.VectorLen(field(of, number))
    return np.frombuffer(of.Bytes, "<f4", count, start)


def small(of, number):
    return of.Get(flatbuffers.number_types.Int8Flags, of.Pos + field(of, number))


@pytest.mark.parametrize("kind", ["float", "float32", "uint8"])
def test_metadata_name_classes_and_say_how_pixels_are_taken(folder, kind):
    model, content = tables(folder / f"litert_{kind}_pixels.tflite")
    graph = inner(model, 3, 0)
    image, scores = inner(graph, 2, 0), inner(graph, 3, 0)
    assert small(inner(image, 3), 0) == 2  # the content is an image
    assert small(inner(inner(image, 3), 1), 0) == 1  # in RGB
    unit = inner(image, 4, 0)
    assert small(unit, 0) == 1  # which is normalized
    np.testing.assert_array_equal(numbers(inner(unit, 1), 0), [0])
    np.testing.assert_array_equal(numbers(inner(unit, 1), 1), [1])
    np.testing.assert_array_equal(numbers(inner(image, 5), 0), [255])
    file = inner(scores, 6, 0)
    assert file.String(file.Pos + field(file, 0)) == b"labels.txt"
    assert small(file, 2) == 2  # of the places along an axis
    archive = zipfile.ZipFile(io.BytesIO(content))
    assert archive.read("labels.txt").decode().split("\n") == LABELS


def test_metadata_do_not_lie(folder, tmp_path):
    """One mean for all channels is another normalization than one for each."""
    model, _ = tables(folder / "litert_float.tflite")
    image = inner(inner(model, 3, 0), 2, 0)
    assert not image.Offset(4 + 2 * 4)
    gray, path = Preprocessing((0.5,), (0.25,), (8, 8)), tmp_path / "gray.tflite"
    network = chain(binary_conv(), *head(), shape=(8, 8, 1))
    convert(network, path, runtime="litert", preprocessing=gray, verify=False)
    unit = inner(inner(inner(tables(path)[0], 3, 0), 2, 0), 4, 0)
    np.testing.assert_allclose(numbers(inner(unit, 1), 0), [127.5])
    np.testing.assert_allclose(numbers(inner(unit, 1), 1), [63.75])


def test_what_cannot_be(tmp_path, caplog):
    path = tmp_path / "m.tflite"
    model = chain(binary_conv(), *head())
    two = keras.Model(model.inputs, [model.output, model.layers[1].output])
    steps = Preprocessing(MEAN, STD, INPUT[:2])
    for options, said in (
        ({"io": "int8"}, "io='int8' is for int8 files.*--int8"),
        ({"io": "uint8", "pixels": True}, "io='uint8' is for int8 files"),
        ({"io": "float16"}, "io must be one of float32, uint8, int8"),
        ({"pixels": True}, "needs mean and standard deviation.*normalizes images"),
        ({"pixels": True, "preprocessing": (0, 1)}, "preprocessing"),
    ):
        with pytest.raises((ValueError, TypeError, ConversionError), match=said):
            convert(model, path, runtime="litert", **options)
    with pytest.raises(ValueError, match="io='uint8' is for LiteRT and Micro"):
        convert(model, path, int8=True, io="uint8")
    with pytest.raises(ValueError, match="a C file takes floats"):
        convert(model, tmp_path / "m.c", io="float32")
    with pytest.raises(ConversionError, match="one input and one output"):
        convert(two, path, runtime="litert", preprocessing=steps, pixels=True)
    for layer in (
        keras.layers.Rescaling(2.0),
        keras.layers.Normalization(mean=0, variance=1),
    ):
        own = chain(layer, binary_conv(), *head(), stem=False)
        with pytest.raises(ConversionError, match=f"{layer.name!r} .* does it already"):
            convert(own, path, runtime="litert", preprocessing=steps, pixels=True)
    assert not [*tmp_path.iterdir()] and not caplog.messages
    later = chain(keras.layers.Rescaling(2.0), *head())  # of maps
    convert(later, path, runtime="litert", preprocessing=steps, verify=False)
    (said,) = caplog.messages
    assert "one for each" in said and "--pixels" in said
    convert(later, path, runtime="litert", preprocessing=steps, pixels=True)
    assert caplog.messages == [said]


def test_a_report_counts_the_metadata(tmp_path):
    """They are part of the file that was verified."""
    model, path = chain(binary_conv(), *head()), tmp_path / "m.tflite"
    report = convert(model, path, runtime="litert", labels=LABELS)
    assert report.size_bytes == path.stat().st_size == len(tables(path)[1])
