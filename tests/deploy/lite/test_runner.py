"""Files take what Keras' `predict` takes, from several threads and without stderr."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import larq as lq
import numpy as np
import pytest
import tensorflow as tf
from deploy.nets import SIGNS, binary_conv, chain, head, images
from larq_nobn._keras import keras
from larq_nobn.deploy import ConversionError, Runner, benchmark, convert
from larq_nobn.deploy.lite import _converter
from numpy.testing import assert_array_equal

pytestmark = pytest.mark.convert
RUNTIMES = ("lce", "litert")
_layers = keras.layers


def two_inputs():
    """An image and tokens; two outputs."""
    image, tokens = keras.Input((8, 8, 3)), keras.Input((5,), dtype="int32")
    x = _layers.GlobalAveragePooling2D()(binary_conv(4)(image))
    y = _layers.Flatten()(_layers.Embedding(7, 2)(tokens))
    both = _layers.Concatenate()([x, y])
    return keras.Model([image, tokens], [_layers.Dense(3)(both), x])


def of_vectors():
    return keras.Sequential([keras.Input((4,)), lq.layers.QuantDense(3, **SIGNS)])


def of_bytes():
    first = _layers.Rescaling(1 / 255)
    image = keras.Input((8, 8, 3), dtype="uint8")
    return keras.Model(image, chain(binary_conv(4), *head())(first(image)))


@pytest.fixture(scope="module")
def file_of(tmp_path_factory):
    @cache
    def content(build, runtime, batch_size=1):
        keras.utils.set_random_seed(0)
        path = tmp_path_factory.mktemp("runner") / "m.tflite"
        options = {"runtime": runtime, "batch_size": batch_size, "verify": False}
        convert(build(), path, **options)
        return path.read_bytes()

    return content


def plain():
    return chain(binary_conv(4), *head())


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_numbers_of_every_type_and_nested_lists(file_of, runtime):
    run, whole = Runner(file_of(plain, runtime)), np.round(4 * images(3))
    wanted = run(whole)
    for kind in (
        "float64",
        "float16",
        ">f4",
        ">f8",
        "int8",
        ">i4",
        "int64",
        "longdouble",
    ):
        assert_array_equal(run(whole.astype(kind)), wanted, err_msg=kind)
    same = (whole.tolist(), list(whole), tuple(whole), [whole], [whole.tolist()])
    same += (tf.constant(whole), [tf.constant(whole)], whole[..., ::-1][..., ::-1])
    for given in same:
        assert_array_equal(run(given), wanted)
    assert_array_equal(run(whole[:1].tolist()), wanted[:1])
    assert_array_equal(run(whole > 0), run((whole > 0).astype(np.float32)))


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_lists_of_rows_and_of_one_row(file_of, runtime):
    run, x = Runner(file_of(of_vectors, runtime)), images(3, (4,))
    wanted = run(x)
    for given in (x.tolist(), [x], list(x)):
        assert_array_equal(run(given), wanted)
    assert_array_equal(run([x[0].tolist()]), wanted[:1])


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_each_of_several_inputs_may_be_a_list(file_of, runtime):
    run = Runner(file_of(two_inputs, runtime, 2))
    given = [images(5), np.random.default_rng(0).integers(0, 7, (5, 5))]
    wanted = run([given[0], given[1].astype("int32")])
    assert [x.shape for x in wanted] == [(5, 3), (5, 4)]
    lists = [given[0].tolist(), given[1].tolist()]
    other = (given[0].astype(">f8"), given[1].astype("float64"))
    for same in (given, lists, other):
        for actual, expected in zip(run(same), wanted, strict=True):
            assert_array_equal(actual, expected)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_no_examples_have_no_outputs(file_of, runtime):
    for batch_size in (1, 2):
        run = Runner(file_of(two_inputs, runtime, batch_size))
        made = run([np.zeros((0, 8, 8, 3)), np.zeros((0, 5), "int32")])
        assert [(x.shape, x.dtype) for x in made] == [
            ((0, n), "float32") for n in (3, 4)
        ]
    run = Runner(file_of(plain, runtime))
    assert run(np.zeros((0, 8, 8, 3), np.float32)).shape == (0, 5)
    with pytest.raises(ConversionError, match="got float64 of shape"):
        run([])


@pytest.mark.parametrize(
    "build, given, said",
    [
        (plain, [[1.0], [1.0, 2.0]], "takes examples of shape .8, 8, 3."),
        (plain, images(1)[0], "x.np.newaxis."),
        (plain, 3.0, "takes examples of shape .8, 8, 3."),
        (plain, np.full((1, 8, 8, 3), "a"), "got <U1 of shape"),
        (plain, np.zeros((1, 8, 8, 3), complex), "got complex128"),
        (plain, None, "got object of shape"),
        (two_inputs, [images(2)], "takes 2 arrays, one for each of"),
        (two_inputs, [images(2), np.zeros((3, 5))], "inputs have 2, 3 examples"),
        (two_inputs, [images(1), np.full((1, 5), 0.5)], "as int32, but some"),
        (two_inputs, [images(1), np.full((1, 5), 2.0**40)], "between 1.09951e.12"),
        (of_bytes, np.full((1, 8, 8, 3), 256), "as uint8, but some of the numbers"),
        (of_bytes, np.full((1, 8, 8, 3), -1.0), "between -1 and -1 do not fit"),
        (of_bytes, np.full((1, 8, 8, 3), np.nan), "between nan and nan do not fit"),
    ],
)
def test_what_is_no_input_is_said(file_of, build, given, said):
    with pytest.raises(ConversionError, match=said):
        Runner(file_of(build, "litert"))(given)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_threads_share_a_runner(file_of, runtime):
    run, x = Runner(file_of(plain, runtime)), images(16)
    wanted = [run(x[i : i + 1]) for i in range(16)]
    with ThreadPoolExecutor(4) as threads:
        made = list(threads.map(lambda i: run(x[i % 16 : i % 16 + 1]), range(64)))
    for i, actual in enumerate(made):
        assert_array_equal(actual, wanted[i % 16])


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_files_with_tables_are_timed(file_of, runtime, tmp_path):
    (tmp_path / "m.tflite").write_bytes(file_of(two_inputs, runtime))
    (timing,) = benchmark(tmp_path / "m.tflite", runs=2, warmup=0).timings
    assert timing.runs == 2


@pytest.mark.parametrize("there", ["closed", "none", "fd", "text"])
def test_what_native_code_prints_is_kept_without_stderr(monkeypatch, there):
    """As in services, in pythonw, behind `2>&-`, and where Python's own is closed."""
    if there == "text":
        with open(os.devnull, "w") as stream:
            pass
        monkeypatch.setattr(sys, "stderr", stream)
    elif there != "fd":
        monkeypatch.setattr(sys, "stderr", None)
    kept = os.dup(2)
    try:
        if there in ("closed", "fd"):
            os.close(2)
        with _converter.quiet() as chatter:
            os.write(2, b"a fault")
            assert chatter() == "a fault"
        if there in ("closed", "fd"):
            with pytest.raises(OSError, match="Bad file descriptor"):
                os.fstat(2)
        else:
            assert os.path.sameopenfile(2, kept)
    finally:
        os.dup2(kept, 2)
        os.close(kept)


@pytest.mark.parametrize("closed", ["2>&-", ">&-", ">&- 2>&-"])
def test_the_command_runs_without_streams(closed, tmp_path):
    command = f"{sys.executable} -m larq_nobn audit {tmp_path}/none.tflite {closed}"
    done = subprocess.run(command, shell=True, capture_output=True, text=True)
    assert done.returncode == 2  # bad input, and no fault of the command
    assert "Traceback" not in done.stdout + done.stderr


def test_numbers_for_int8_are_rounded():
    info = _converter.TensorInfo("x", (1, 3), "int8", 0.5, -2)
    for kind in ("float64", ">f4", "float32"):
        given = np.array([[-70, 0.26, 1e9]], kind)
        assert_array_equal(_converter._taken(info, given), [[-128, -1, 127]])
    with pytest.raises(ConversionError, match="between nan and nan do not fit"):
        _converter._taken(info, [[0.0, np.nan, 1.0]])


def test_a_runner_starts_no_threads(file_of):
    """Those of LCE, started by larger networks, spin while they wait."""
    tasks = Path("/proc/self/task")
    Runner(file_of(plain, "litert"))(images(1))  # what TensorFlow starts once
    before = {*tasks.iterdir()}
    run = Runner(file_of(plain, "litert"))
    run(images(4))
    assert {*tasks.iterdir()} <= before
