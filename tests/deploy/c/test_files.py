"""C files of networks: right, without warnings, and refused in a sentence."""

import json
import re
import subprocess

import larq_nobn as nobn
import larq as lq
import numpy as np
import pytest
import tensorflow as tf
from deploy.nets import binary_conv, chain, head, images, scrambled
from larq_nobn._keras import keras
from larq_nobn.deploy import ConversionError, Runner, VerificationError, audit
from larq_nobn.deploy._prepared import lowered_model, opened_model
from larq_nobn.deploy.c import _calls, _write
from larq_nobn.deploy.c._write import CFile
from larq_nobn.deploy.device import Preprocessing
from larq_nobn.deploy.verify._c import verify_c

LABELS = [f'class "{i}"??/é*/' for i in range(3)]
COMPILERS = {
    "gcc": ["gcc", "-std=c99"],
    "clang": ["clang", "-std=c99"],
    "g++": ["g++", "-x", "c++"],
    "clang++": ["clang++", "-x", "c++"],
}
WARNINGS = ["-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror", "-O1", "-c"]


def network():
    """Two inputs, two outputs, paddings of all kinds, and signs after sums alone."""
    image, other = keras.Input((8, 8, 3), name="image"), keras.Input((4,), name="int")
    x = keras.layers.Conv2D(16, 3, padding="same", activation="relu")(image)
    x = binary_conv(24, pad_values=1.0)(x)
    x = binary_conv(40, strides=2, pad_values=0.0)(x)
    x = binary_conv(33, pad_values=-1.0)(x)
    x = keras.layers.PReLU(shared_axes=(1, 2))(x)
    x = keras.layers.MaxPooling2D(3, 2, "same")(x)
    x = keras.layers.Concatenate()([x, keras.layers.LayerNormalization()(x)])
    x = keras.layers.Conv2DTranspose(5, 3, 2, "same")(x)
    flat = keras.layers.Flatten()(x)
    first = keras.layers.Dense(3, activation="softmax", name="head")(flat)
    both = keras.layers.Concatenate()([flat, other])
    second = keras.layers.Dense(2, name="dense")(both)
    return keras.Model([image, other], [first, second], name="of_two")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("c")


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(1)
    return scrambled(network())


@pytest.fixture(scope="module")
def report(folder, model):
    return nobn.convert(model, folder / "net.c")


@pytest.fixture(scope="module")
def classifier():
    return chain(binary_conv(16), *head(), name="classifier")


@pytest.fixture(scope="module")
def described(folder, classifier):
    classes = classifier.output_shape[-1]
    labels = [f'class {i} "?\\*/é' for i in range(classes)]
    x = np.random.default_rng(1).normal(size=(20, *classifier.input_shape[1:]))
    y = classifier.predict(x, verbose=0).argmax(axis=-1)
    y[:3] = (y[:3] + 1) % classes  # 17 of 20 are right
    path, data = folder / "named.c", (x.astype("f4"), y)
    return labels, nobn.convert(classifier, path, labels=labels, data=data)


def examples(count=5):
    random = np.random.default_rng(0)
    return [random.normal(size=(count, *s)).astype("f4") for s in ((8, 8, 3), (4,))]


def test_the_file_computes_what_the_model_does(folder, model, report):
    run, given = Runner(folder / "net.c"), examples()
    assert run.runtime == "c"
    assert run.input_names == ["image", "int"]
    for mine, theirs in zip(run.outputs(given), model.predict(given), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-5)
    assert report.verify["unexplained"] == 0
    assert report.binary_layers == report.lce_bconv2d == 3


@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize("name", ["net", "named"])
def test_no_compiler_warns(folder, report, described, compiler, name):
    out = folder / f"{name}.{compiler}.o"
    call = [*COMPILERS[compiler], *WARNINGS, folder / f"{name}.c", "-o", out]
    done = subprocess.run(call, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_no_sanitizer_finds_a_fault(folder, model, report):
    """In a program with memory of exactly the size that the header says."""
    given = examples(1)
    main = folder / "main.c"
    arrays = [
        f"static const float in_{i}[] = {{{', '.join(f'{x:.9g}' for x in a.ravel())}}};"
        for i, a in enumerate(given)
    ]
    main.write_text(
        '#include <stdio.h>\n#include <stdlib.h>\n#include "net.h"\n'
        + "\n".join(arrays)
        + """
int main(void) {
  float first[NET_OUTPUT_HEADS], second[NET_OUTPUT_DENSES];
  void *memory = malloc(NET_MEMORY_BYTES);
  int i;
  net_run(in_0, in_1, first, second, memory);
  for (i = 0; i < NET_OUTPUT_HEADS; i++) printf("%.9g\\n", first[i]);
  for (i = 0; i < NET_OUTPUT_DENSES; i++) printf("%.9g\\n", second[i]);
  free(memory);
  return 0;
}
"""
    )
    flags = ["-std=c99", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover"]
    program = folder / "main"
    call = ["gcc", *flags, main, folder / "net.c", "-o", program, "-lm"]
    subprocess.run(call, check=True)
    printed = subprocess.run([program], check=True, capture_output=True, text=True)
    wanted = np.concatenate([y.ravel() for y in model.predict(given, verbose=0)])
    np.testing.assert_allclose(
        [float(x) for x in printed.stdout.split()], wanted, rtol=1e-4, atol=1e-5
    )


def test_head_and_header_say_what_it_is(folder, model, report, described):
    source, header = ((folder / f"net.{x}").read_text() for x in "ch")
    start = source[: source.index("*/")]
    assert "network of_two" in start and "Verified against Keras on 34" in start
    assert "Accuracy" not in start  # of inputs that are made up
    assert "Accuracy of Keras on them: 85.0%" in (folder / "named.c").read_text()
    for line in (
        f"#define NET_MEMORY_BYTES {report.arena_bytes}",
        "#define NET_INPUT_IMAGE_HEIGHT 8",
        "#define NET_INPUT_INT_SIZE 4",
        "#define NET_OUTPUT_HEADS 3",
        "void net_run(const float *input_image, const float *input_int, "
        "float *output_head, float *output_dense, void *memory);",
    ):
        assert line in header


def test_labels_are_strings_of_c(folder, described):
    labels, _ = described
    main = folder / "print.c"
    main.write_text(
        '#include <stdio.h>\n#include "named.h"\nint main(void) {\n  int i;\n'
        "  for (i = 0; i < NAMED_OUTPUTS; i++) puts(named_labels[i]);\n  return 0;\n}\n"
    )
    call = ["gcc", "-std=c99", main, folder / "named.c", "-o", folder / "p", "-lm"]
    subprocess.run(call, check=True)
    printed = subprocess.run([folder / "p"], check=True, capture_output=True)
    assert printed.stdout.decode().splitlines() == labels
    assert list(nobn.deploy.read_card(folder / "named.c").labels) == labels


def test_audit_counts(folder, report):
    found = audit(folder / "net.c")
    by_name = {row["op"]: 0 for row in found.operations}
    for row in found.operations:
        by_name[row["op"]] += row["binary_macs"] + row["float_macs"]
    sums = 8 * 8 * 9 * 16 * 24 + 4 * 4 * 9 * (24 * 40 + 40 * 33)
    assert found.binary_macs == sums == report.binary_macs
    assert by_name["convolution"] == 8 * 8 * 9 * 3 * 16 + 320 * 3 // 4 + 84 * 2
    assert found.flash_bytes == report.flash_bytes
    # That of the first convolution, 8x8x16, and four patches of 3x3x3 numbers.
    assert found.arena_bytes == 4 * (8 * 8 * 16 + 4 * 3 * 3 * 3)
    assert found.runtime == "c" and "c: none" in str(found)
    assert json.loads(report.to_json())["runtime"] == "c"


def test_what_fits_no_board_says_so(tmp_path, caplog):
    """One line, of a file for boards alone; one that fits is told its board."""
    for units, name, board in (
        *((4, "small.c", "256 kB of both"), (100, "middle.c", "512 kB of both")),
        *((600, "large.c", "none of the usual"), (600, "large.tflite", None)),
    ):
        caplog.clear()
        dense = keras.layers.Dense(units)  # 4 kB a unit
        model = chain(keras.layers.Flatten(), dense, shape=(32, 32, 1), stem=False)
        path, runtime = tmp_path / name, None if board else "litert"
        report = nobn.convert(
            model, path, verify=False, runtime=runtime, allow_float=True
        )
        said = [x for x in caplog.messages if "fits none of the usual boards" in x]
        assert said == report.warnings and len(said) == (name == "large.c")
        for shown in (str(report), str(audit(path))):
            assert board in shown if board else "board that it fits" not in shown


def test_signs_of_sums_are_integers(folder, report):
    """Where a sign alone reads a binary convolution, nothing is real."""
    source = (folder / "net.c").read_text()
    assert source.count(", 0, 0, least_") == 2
    assert "static void levels" not in source  # a file has what it calls


@pytest.mark.parametrize("seed", range(3))
def test_thresholds_are_those_of_floats(seed):
    random, most = np.random.default_rng(seed), 50
    scale = np.append(random.uniform(0, 2, 30), [0, 0, 1e-30, 1.0, 0.5]).astype("f4")
    bias = np.append(random.normal(0, 20, 30), [1, -1, 1, 0, -24.75]).astype("f4")
    shift = random.choice([0.0, 1.5, np.inf, -np.inf], 35, p=[0.5, 0.3, 0.1, 0.1])
    least = _calls.thresholds(scale, bias, shift, most)
    sums = np.arange(-most, most + 1, dtype=np.float32)[:, None]
    wanted = (sums * scale + bias) + shift.astype("f4") >= 0
    np.testing.assert_array_equal(sums >= least, wanted)


def test_pixels_are_normalized_inside(folder, classifier):
    shape = classifier.input_shape[1:]
    steps = Preprocessing([0.4] * shape[2], [0.25] * shape[2], shape[:2])
    path = folder / "bytes.c"
    nobn.convert(classifier, path, False, pixels=True, preprocessing=steps)
    assert "const uint8_t *input" in (folder / "bytes.h").read_text()
    image = np.random.default_rng(0).integers(0, 256, (3, *shape), np.uint8)
    normalized = ((image / 255 - 0.4) / 0.25).astype("f4")
    wanted, run = classifier.predict(normalized, verbose=0), Runner(path)
    for given in (image, normalized):
        np.testing.assert_allclose(run(given), wanted, rtol=1e-4, atol=1e-4)


def test_small_kernels_of_two_values_are_bits(folder):
    layer = lq.layers.QuantConv2D(32, 3, kernel_quantizer="magnitude_aware_sign")
    net = chain(layer, binary_conv(16), *head())
    sizes = [
        nobn.convert(net, folder / "some.c", verify=False, small=small).flash_bytes
        for small in (False, True)
    ]
    weights = layer.kernel.shape.num_elements()
    words = 32 * (-(-weights // 32 // 32) + 1)  # with a scale for each filter
    assert sizes[0] - sizes[1] == 4 * (weights - words)


def test_several_examples_at_once(folder, classifier):
    path = folder / "three.c"
    nobn.convert(classifier, path, batch_size=3, verify=False)
    given = images(5)
    wanted = classifier.predict(given, verbose=0)
    np.testing.assert_allclose(Runner(path)(given), wanted, rtol=1e-4, atol=1e-5)


def test_outputs_of_the_same_numbers_have_their_own_shapes(folder):
    image = keras.Input((8, 8, 3))
    x = binary_conv(4)(image)
    net = keras.Model(image, [x, keras.layers.Flatten()(x), x, image], name="same")
    nobn.convert(net, folder / "same.c")
    given = images(2)
    made = Runner(folder / "same.c").outputs([given])
    for mine, theirs in zip(made, net.predict(given, verbose=0), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_whole_numbers_take_rows_of_a_table(folder):
    ids = keras.Input((6,), dtype="int32", name="ids")
    x = keras.layers.Embedding(11, 32)(ids)
    x = lq.layers.QuantConv1D(
        16, 3, input_quantizer="ste_sign", kernel_quantizer="ste_sign"
    )(x)
    net = keras.Model(ids, keras.layers.GlobalMaxPooling1D()(x), name="words")
    report = nobn.convert(net, folder / "words.c")
    given = np.random.default_rng(0).integers(0, 11, (4, 6), np.int32)
    wanted = net.predict(given, verbose=0)
    np.testing.assert_allclose(Runner(folder / "words.c")(given), wanted, rtol=1e-5)
    assert report.lce_bconv2d == 1
    assert "const int32_t *input" in (folder / "words.h").read_text()


# --- what is refused


@pytest.mark.parametrize(
    "name", ["my-model 1.c", "3d.c", "int.c", "math.c", "_x.c", "é.c", ".c"]
)
def test_names_that_c_does_not_know(tmp_path, classifier, name):
    with pytest.raises(ValueError, match=re.escape(name)):
        nobn.convert(classifier, tmp_path / name, runtime="c")
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("net.c", {"int8": True}, "int8=True is not for C files"),
        ("net.c", {"runtime": "lce"}, "Choose one that ends in .tflite"),
        ("net.tflite", {"runtime": "c"}, "Choose one that ends in .c"),
        ("net.tflite", {"small": True}, "small=True is for C files"),
        ("net.c", {"pixels": True}, "needs mean and standard deviation"),
        ("none/net.c", {"verify": False}, "cannot be written"),
    ],
)
def test_options_that_do_not_fit(tmp_path, classifier, name, options, message):
    with pytest.raises((ConversionError, ValueError, OSError), match=message):
        nobn.convert(classifier, tmp_path / name, **options)
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    ("compiler", "message"),
    [("no-such-cc", "No C compiler"), ("false", "The compiler 'false' failed")],
)
def test_compilers_that_are_missing_or_fail(
    tmp_path, classifier, monkeypatch, compiler, message
):
    monkeypatch.setenv("CC", compiler)
    with pytest.raises(ConversionError, match=message):
        nobn.convert(classifier, tmp_path / "net.c")
    assert not [*tmp_path.iterdir()]
    report = nobn.convert(classifier, tmp_path / "net.c", verify=False)
    assert report.verify is None and report.summary().endswith("not verified")
    assert "Not verified" in (tmp_path / "net.c").read_text()
    assert sorted(x.name for x in tmp_path.iterdir()) == ["net.c", "net.h"]


def test_models_of_more_than_compilers_take(tmp_path, classifier, monkeypatch):
    monkeypatch.setattr(_write, "_MOST", 1000)
    with pytest.raises(ConversionError, match="Constants take 0 MB, and compilers"):
        nobn.convert(classifier, tmp_path / "net.c")
    assert not [*tmp_path.iterdir()]


def test_an_operation_that_c_lacks_is_named(tmp_path):
    net = chain(binary_conv(16), keras.layers.Lambda(tf.math.cumsum, name="sums"))
    with pytest.raises(ConversionError, match="'sums' needs the operation 'Cumsum'"):
        nobn.convert(net, tmp_path / "net.c")
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    "content", [b"/* of somebody */ int main;", b"/* {} */", b'/*\n{"format": 1} */']
)
def test_files_of_others(tmp_path, content):
    path = tmp_path / "other.c"
    path.write_bytes(content)
    for read in (audit, Runner):
        with pytest.raises(ConversionError, match="is not a C file that convert wrote"):
            read(path)


# --- what the proof finds


@pytest.fixture(scope="module")
def stages(model):
    whole, given, _ = opened_model(model, None)
    return lowered_model(whole, given, runtime="c")


@pytest.mark.parametrize("planted", ["kernel", "scale", "least", "slope", "bias"])
def test_a_wrong_constant_is_found(model, stages, monkeypatch, planted):
    given, done = _calls.Calls.constant, []

    def wrong(self, kind, name, numbers):
        if name.startswith(planted):
            numbers = np.array(numbers)
            if not done:
                own = numbers.flat[-1]
                other = own * 2 + 3 if planted != "least" else 51 if own < 0 else -51
                numbers.flat[-1] = other
            done.append(name)
        return given(self, kind, name, numbers)

    monkeypatch.setattr(_calls.Calls, "constant", wrong)
    file = CFile(_calls.Calls(stages.spelled), stages.io, "net")
    wanted = model.predict(examples(8), verbose=0)
    with pytest.raises(VerificationError, match="something else than its operation"):
        verify_c(stages, wanted, file, examples(8), 1e-3)
    assert done
