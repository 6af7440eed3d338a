"""Networks of several inputs and outputs, of models inside models, and of batches."""

from functools import cache

import numpy as np
import pytest
from deploy.nets import binary_conv, chain, head, images, scrambled, small
from deploy.sides import beside, compared
from larq_nobn._keras import keras
from larq_nobn.deploy import ConversionError, Runner, binary_layers
from larq_nobn.deploy import convert as convert_to
from larq_nobn.deploy.lite._converter import io_spec
from numpy.testing import assert_allclose

pytestmark = pytest.mark.convert
_layers = keras.layers


@pytest.fixture
def convert(tmp_path):
    """Converts, and returns the report and what runs the file."""

    def run(model, **options):
        path = tmp_path / "m.tflite"
        report = convert_to(model, path, **options)
        return report, Runner(path.read_bytes())

    return run


def body(x, name):
    x = _layers.Conv2D(8, 3, name=f"{name}_stem")(x)
    x = binary_conv(8, name=f"{name}_binary")(x)
    return _layers.GlobalAveragePooling2D(name=f"{name}_pool")(x)


def parts():
    """Two images and ids go in, three things of different sizes come out."""
    inputs = [
        keras.Input((8, 8, 3), name="zebra"),
        keras.Input((6, 6, 1), name="antelope", dtype="uint8"),
        keras.Input((5,), name="mole", dtype="int32"),
    ]
    ids = _layers.Flatten()(_layers.Embedding(11, 4)(inputs[2]))
    small = _layers.Rescaling(1 / 255)(inputs[1])
    x = _layers.Concatenate()([body(inputs[0], "one"), body(small, "two"), ids])
    outputs = [
        _layers.Dense(4, name="yak")(x),
        _layers.Reshape((2, 3), name="bear")(_layers.Dense(6)(x)),
        _layers.Dense(1, name="cat")(x),
    ]
    return inputs, outputs


@cache
def fresh():
    """A model of these parts as it starts."""
    return keras.Model(*parts())


def examples(count=6):
    random = np.random.default_rng(3)
    return [
        random.normal(size=(count, 8, 8, 3)).astype(np.float32),
        random.integers(0, 256, (count, 6, 6, 1)).astype(np.uint8),
        random.integers(0, 11, (count, 5)).astype(np.int32),
    ]


def test_inputs_and_outputs_keep_their_order_and_names(convert):
    model = scrambled(keras.Model(*parts()))
    report, run = convert(model, data=examples())
    assert report.lce_bconv2d == report.binary_layers == 2
    assert report.verify["unexplained"] == 0
    wanted = model(examples())
    actual = run(examples())
    assert [y.shape for y in actual] == [(6, 4), (6, 2, 3), (6, 1)]
    for output, expected in zip(actual, wanted, strict=True):
        assert_allclose(output, expected, rtol=0, atol=1e-4)
    assert run.input_names == ["zebra", "antelope", "mole"]
    assert run.output_names == ["yak", "bear", "cat"]


def test_dicts_are_in_the_order_of_their_keys(convert):
    inputs, outputs = parts()
    model = keras.Model(
        dict(zip("qpr", inputs, strict=True)), dict(zip("cab", outputs, strict=True))
    )
    data = dict(zip("qpr", examples(), strict=True))
    report, run = convert(scrambled(model), data=(data, np.zeros(6)))
    assert report.verify["examples"] == 6
    assert (run.input_names, run.output_names) == (["p", "q", "r"], ["a", "b", "c"])
    actual = run([data[key] for key in "pqr"])
    for output, key in zip(actual, "abc", strict=True):
        assert_allclose(output, model(data)[key], rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    "data, message",
    [
        (
            examples()[:2],
            r"data contains examples of shape \(8, 8, 3\) and \(6, 6, 1\)",
        ),
        ({"zebra": examples()[0]}, r"data contains inputs named \['zebra'\], but"),
    ],
)
def test_data_that_does_not_fit_is_rejected(convert, data, message):
    with pytest.raises(ConversionError, match=message):
        convert(fresh(), data=data)


def nested_twice():
    deep = keras.Sequential([_layers.Conv2D(8, 1), binary_conv(8)], name="deep")
    return chain(keras.Sequential([deep, binary_conv(8)], name="outer"), *head())


def shared():
    inner = chain(binary_conv(32), stem=False, shape=(8, 8, 32), name="inner")
    rows = inner, _layers.BatchNormalization(), inner, *head()
    return chain(*rows, name="twice")


def test_models_inside_models_are_opened(tmp_path):
    model = beside([nested_twice(), shared()])
    report, off = compared(model, tmp_path)
    assert report.lce_bconv2d == len(binary_layers(model)) == 4
    assert report.not_prepared is None
    assert max(off) < 1e-4


@cache
def of_batches(fixed):
    inputs = keras.Input((8, 8, 3), batch_size=fixed)
    return scrambled(keras.Model(inputs, _layers.Dense(5)(body(inputs, "a"))))


@pytest.mark.parametrize("fixed, batch_size", [(None, 3), (4, 1)])
def test_a_file_takes_batches(convert, fixed, batch_size):
    model = of_batches(fixed)
    report, run = convert(model, batch_size=batch_size, data=images(4))
    assert report.verify["examples"] == 4
    assert run.batch_size == batch_size
    assert report.binary_macs == 36 * 9 * 8 * 8
    assert report.float_macs == 36 * 9 * 3 * 8 + 8 * 5
    expected = keras.Model(model.input, model.output)(images(8)).numpy()
    assert_allclose(run(images(8)), expected, rtol=0, atol=1e-4)


def test_names_are_made_what_tensorflow_takes():
    names = ["image", "Image", "my/image", "1st", "while"]
    inputs = [keras.Input((2,), name=name) for name in names]
    model = keras.Model(inputs, _layers.Add()(inputs))
    actual = [spec.name for spec in io_spec(model).inputs]
    assert actual == ["image", "Image_1", "my_image", "input_1st", "input_while"]


def test_inputs_of_other_types_are_rejected(convert):
    inputs = keras.Input((8, 8, 3), dtype="float64", name="image")
    outputs = binary_conv(8)(_layers.Rescaling(2.0, dtype="float32")(inputs))
    with pytest.raises(ConversionError, match="'image', which is float64, but"):
        convert(keras.Model(inputs, outputs))


def test_outputs_that_are_no_rows_of_examples_are_rejected(convert):
    rows = _layers.Lambda(lambda x: keras.backend.reshape(x, (-1, 8)), name="rows")
    with pytest.raises(ConversionError, match=r"Output 'rows' of .* rows for \d+ e"):
        convert(chain(binary_conv(8), rows))


def test_inputs_may_be_called_as_arguments_of_functions_are(convert):
    inputs = [keras.Input((4,), name=name) for name in ("self", "cls", "class")]
    model = keras.Model(inputs, _layers.Dense(2)(_layers.Add()(inputs)))
    _, run = convert(model, allow_float=True, verify=False)
    assert run.input_names == ["input_self", "cls", "input_class"]


def test_what_does_not_fit_the_file_is_rejected(convert):
    _, run = convert(small(), verify=False)
    assert (run.input_names, run.output_names) == (["input"], ["output"])
    assert run(images()).shape == (8, 5)
    message = r"of shape \(8, 8, 3\) as input, but got .*, 1\)\."
    with pytest.raises(ConversionError, match=message):
        run(images(shape=(8, 8, 1)))
