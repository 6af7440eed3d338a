"""The regularizers' contract on every row of `regularizer_cases.py`, and beyond.

Their files are opened together with those of the other rows, in `test_contract.py`.
"""

import inspect
import json

import numpy as np
import pytest
import tensorflow as tf
from contract_docstring import check_docstring
from contract_networks import HOSTS, dense_or_convolution
from gradients import finite_differences
from larq_nobn._keras import PACKAGE, keras
from larq_nobn.regularizers import BinaryRegularizer
from larq_nobn.regularizers._binary_regularizer import median
from numpy.testing import assert_allclose
from regularizer_cases import CASES

SECTIONS = [
    *("Arguments", "Raises", "Example", "References", "Differences from the paper")
]
every_row = pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])


def value_and_gradient(regularizer, kernel):
    kernel = tf.Variable(kernel)
    with tf.GradientTape() as tape:
        value = regularizer(kernel)
    return value, tape.gradient(value, kernel)


@every_row
def test_value_and_gradient(case):
    for shape in case.shapes:
        kernel = np.random.default_rng(60).normal(size=shape)
        value, d_kernel = value_and_gradient(case.make(), kernel)
        assert value.dtype == d_kernel.dtype == tf.float64
        expected = case.oracle(kernel)
        assert_allclose(value, expected[0], rtol=1e-12)
        assert_allclose(d_kernel, expected[1], rtol=1e-12)
    slopes = finite_differences(lambda w: case.make()(tf.constant(w)), kernel)
    assert_allclose(d_kernel, slopes, atol=1e-6)
    graph = tf.function(case.make())(tf.constant(kernel))
    assert_allclose(graph, expected[0], rtol=1e-12)


@every_row
def test_penalties_are_float32(case):
    drawn = np.random.default_rng(62).normal(0, 1e3, (3, 3, 8, 8))
    for dtype in ("float32", "float16", "bfloat16"):
        kernel = tf.cast(drawn, dtype)
        value, d_kernel = value_and_gradient(case.make(), kernel)
        assert value.dtype == tf.float32 and d_kernel.dtype == dtype
        exact = case.oracle(np.asarray(kernel, np.float64))
        assert_allclose(value, exact[0], rtol=1e-4)
        assert np.isfinite(np.asarray(d_kernel, np.float64)).all()


@every_row
def test_config_and_names(case):
    regularizer = case.make()
    config = json.dumps(regularizer.get_config(), sort_keys=True)
    regularizer(tf.ones(case.shapes[0]))
    assert json.dumps(regularizer.get_config(), sort_keys=True) == config
    again = case.cls.from_config(json.loads(config))
    assert json.dumps(again.get_config(), sort_keys=True) == config
    assert set(inspect.signature(case.cls).parameters) == set(json.loads(config))
    assert case.kwargs.items() <= json.loads(config).items()
    registered = keras.utils.get_custom_objects().items()
    names = {name for name, cls in registered if cls is case.cls}
    assert names == {case.name, f"{PACKAGE}>{case.name}"}
    by_name = {"class_name": case.name, "config": dict(case.kwargs)}
    assert isinstance(keras.regularizers.get(by_name), case.cls)


@pytest.mark.parametrize("kind", [0, 1], ids=["larq", "keras"])
@every_row
def test_acts_on_the_latent_kernel_of_a_layer(case, kind):
    quantizer = {"kernel_quantizer": "scaled_std_sign"} if kind == 0 else {}
    shape = case.shapes[0]
    layer = dense_or_convolution(
        HOSTS[len(shape)][kind], shape, kernel_regularizer=case.make(), **quantizer
    )
    model = keras.Sequential([keras.Input((*[5] * (len(shape) - 2), shape[-2])), layer])
    kernel = getattr(layer.kernel, "latent_variable", layer.kernel)
    start = kernel.numpy()
    expected, slope = case.oracle(start.astype(np.float64))
    (loss,) = model.losses
    assert_allclose(loss, expected, rtol=1e-5)
    # Without anything else to learn, a step follows the penalty's gradient.
    optimizer = keras.optimizers.SGD(0.01)
    model.compile(optimizer, lambda labels, actual: 0.0 * actual, run_eagerly=True)
    images = np.zeros((2, *model.input_shape[1:]), np.float32)
    model.train_on_batch(images, model(images))
    assert_allclose(kernel, start - 0.01 * slope, rtol=1e-5, atol=1e-7)


@every_row
def test_docstring(case):
    arguments = inspect.signature(case.cls).parameters
    introduction, _ = check_docstring(case.cls, SECTIONS, arguments)
    assert "**removed**" in introduction


PUBLISHED = np.array([-2, -0.5, 0.25, 1])


@pytest.mark.parametrize(
    "order, value, gradient",
    [(1, 2.25, [-1, 1, -1, 1]), (2, 1.796875, [-2.125, 0.875, -1.375, 0.125])],
)
def test_published_numbers(order, value, gradient):
    for scale in ("mean", 0.9375):
        actual = value_and_gradient(BinaryRegularizer(order, 1, scale), PUBLISHED)
        assert_allclose(actual[0], value, rtol=1e-12)
        assert_allclose(actual[1], gradient, rtol=1e-12)
    tenth = BinaryRegularizer(order, 0.1, "mean")(PUBLISHED)
    assert_allclose(tenth, value / 10, rtol=1e-9)


@pytest.mark.parametrize("order, best", [(1, "median"), (2, "mean")])
def test_no_other_scale_has_a_smaller_penalty(order, best):
    kernel = np.random.default_rng(63).lognormal(size=(3, 3, 8, 4))
    value = BinaryRegularizer(order)(kernel)
    assert value == BinaryRegularizer(order, scale=best)(kernel)
    others = [
        BinaryRegularizer(order, scale=s)(kernel) for s in np.linspace(0.1, 4, 99)
    ]
    assert value <= min(others) * (1 + 1e-12)  # rounding of the sums


def test_median():
    rng = np.random.default_rng(64)
    for size in (1, 2, 3, 100):
        # With ties, zeros among them, and with numbers far apart.
        apart = rng.lognormal(sigma=20, size=size)
        ties = rng.integers(0, 3, size).astype(float)
        for vector in (ties, apart, apart.astype(np.float32)):
            assert median(tf.constant(vector)).numpy() == np.median(vector)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"order": 3}, "order=3 is neither 1 nor 2. Use 1 for the sum of"),
        ({"order": True}, "order=True is neither 1 nor 2"),
        ({"strength": -1e-6}, r"strength=-1e-06 is outside \[0, inf\)"),
        ({"scale": "max"}, "scale must be one of median.*; got 'max'"),
        ({"scale": 0}, r"scale=0 is outside \(0, inf\). Use a positive number"),
    ],
)
def test_rejects(arguments, message):
    with pytest.raises(ValueError, match=message):
        BinaryRegularizer(**arguments)
