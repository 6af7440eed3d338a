"""The regularizers' contract on every row of `regularizer_cases.py`, and beyond.

Their files are opened together with those of the other rows, in `test_contract.py`.
"""

import inspect
import json

import larq as lq
import numpy as np
import pytest
import tensorflow as tf
from contract_docstring import check_docstring
from contract_networks import HOSTS, dense_or_convolution
from gradients import finite_differences
from larq_nobn._keras import PACKAGE, keras
from larq_nobn.regularizers import BinaryRegularizer
from larq_nobn.regularizers._penalties import median
from numpy.testing import assert_allclose
from regularizer_cases import CASES

SECTIONS = [
    *("Arguments", "Raises", "Example", "References", "Differences from the paper"),
]
every_row = pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
rows_and_shapes = pytest.mark.parametrize(
    "case, shape",
    [
        pytest.param(case, shape, id=f"{case.name}-{shape}".replace(" ", ""))
        for case in CASES
        for shape in case.shapes
    ],
)


def value_and_gradient(regularizer, kernel):
    kernel = tf.Variable(kernel)
    with tf.GradientTape() as tape:
        value = regularizer(kernel)
    return value, tape.gradient(value, kernel)


@rows_and_shapes
def test_value_and_gradient(case, shape):
    kernel = np.random.default_rng(60).normal(size=shape)
    value, d_kernel = value_and_gradient(case.make(), kernel)
    assert value.dtype == d_kernel.dtype == tf.float64
    expected = case.oracle(kernel)
    assert_allclose(value, expected[0], rtol=1e-12)
    assert_allclose(d_kernel, expected[1], rtol=1e-12)
    slopes = finite_differences(lambda w: case.make()(tf.constant(w)), kernel)
    assert_allclose(d_kernel, slopes, atol=1e-6)


@every_row
def test_eager_and_graph_agree(case):
    kernel = np.random.default_rng(61).normal(size=case.shapes[0]).astype(np.float32)
    eager = case.make()(tf.constant(kernel))
    assert_allclose(tf.function(case.make())(tf.constant(kernel)), eager, rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@every_row
def test_penalties_are_float32(case, dtype):
    kernel = tf.cast(np.random.default_rng(62).normal(0, 1e3, (3, 3, 64, 64)), dtype)
    value, d_kernel = value_and_gradient(case.make(), kernel)
    assert value.dtype == tf.float32 and d_kernel.dtype == dtype
    exact = case.oracle(np.asarray(kernel, np.float64))
    assert_allclose(value, exact[0], rtol=1e-4)
    assert np.isfinite(np.asarray(d_kernel, np.float64)).all()


@every_row
def test_config(case):
    regularizer = case.make()
    config = json.dumps(regularizer.get_config(), sort_keys=True)
    regularizer(tf.ones(case.shapes[0]))
    assert json.dumps(regularizer.get_config(), sort_keys=True) == config
    again = case.cls.from_config(json.loads(config))
    assert json.dumps(again.get_config(), sort_keys=True) == config
    assert set(inspect.signature(case.cls).parameters) == set(json.loads(config))
    assert case.kwargs.items() <= json.loads(config).items()


@every_row
def test_names(case):
    registered = keras.utils.get_custom_objects().items()
    names = {name for name, cls in registered if cls is case.cls}
    assert names == {case.name, f"{PACKAGE}>{case.name}"}
    by_name = {"class_name": case.name, "config": dict(case.kwargs)}
    assert isinstance(keras.regularizers.get(by_name), case.cls)


@pytest.mark.parametrize("kind", [0, 1], ids=["larq", "keras"])
@rows_and_shapes
def test_acts_on_the_latent_kernel_of_a_layer(case, shape, kind):
    quantizer = {"kernel_quantizer": "scaled_std_sign"} if kind == 0 else {}
    layer = dense_or_convolution(
        HOSTS[len(shape)][kind], shape, kernel_regularizer=case.make(), **quantizer
    )
    model = keras.Sequential([keras.Input((*[5] * (len(shape) - 2), shape[-2])), layer])
    kernel = getattr(layer.kernel, "latent_variable", layer.kernel)
    start = kernel.numpy()
    (loss,) = model.losses
    assert_allclose(loss, case.oracle(start.astype(np.float64))[0], rtol=1e-5)
    # Without anything else to learn, a step follows the penalty's gradient.
    optimizer = keras.optimizers.SGD(0.01)
    model.compile(optimizer, lambda labels, found: 0.0 * found, run_eagerly=True)
    images = np.zeros((2, *model.input_shape[1:]), np.float32)
    model.train_on_batch(images, model(images))
    expected = start - 0.01 * case.oracle(start.astype(np.float64))[1]
    assert_allclose(kernel, expected, rtol=1e-5, atol=1e-7)


@every_row
def test_docstring(case):
    arguments = inspect.signature(case.cls).parameters
    introduction, _ = check_docstring(case.cls, SECTIONS, arguments)
    assert "**removed**" in introduction


PUBLISHED = np.array([-2, -0.5, 0.25, 1])


@pytest.mark.parametrize(
    "order, value, gradient",
    [
        (1, 2.25, [-1, 1, -1, 1]),
        (2, 1.796875, [-2.125, 0.875, -1.375, 0.125]),
    ],
)
@pytest.mark.parametrize("scale", ["mean", 0.9375])
def test_published_numbers(order, value, gradient, scale):
    found = value_and_gradient(BinaryRegularizer(order, 1, scale), PUBLISHED)
    assert_allclose(found[0], value, rtol=1e-12)
    assert_allclose(found[1], gradient, rtol=1e-12)


@pytest.mark.parametrize("order, best", [(1, "median"), (2, "mean")])
def test_no_other_scale_has_a_smaller_penalty(order, best):
    kernel = np.random.default_rng(63).lognormal(size=(3, 3, 8, 4))
    value = BinaryRegularizer(order)(kernel)
    assert value == BinaryRegularizer(order, scale=best)(kernel)
    others = [
        BinaryRegularizer(order, scale=s)(kernel) for s in np.linspace(0.1, 4, 99)
    ]
    assert value <= min(others) * (1 + 1e-12)  # rounding of the sums


def test_strength_multiplies():
    ratio = BinaryRegularizer(strength=3e-4)(PUBLISHED) / BinaryRegularizer()(PUBLISHED)
    assert_allclose(ratio, 300, rtol=1e-9)
    assert BinaryRegularizer(strength=0)(PUBLISHED) == 0


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [1, 2, 3, 4, 99, 100])
def test_median(size, dtype):
    rng = np.random.default_rng(64)
    for magnitudes in [
        rng.lognormal(size=size),
        rng.integers(0, 3, size),  # ties, zeros among them
        rng.lognormal(sigma=20, size=size),
    ]:
        vector = magnitudes.astype(dtype)
        assert median(tf.constant(vector)).numpy() == np.median(vector)


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        ({"order": 3}, ValueError, "order=3 is neither 1 nor 2. Use 1 for the sum of"),
        ({"order": True}, ValueError, "order=True is neither 1 nor 2"),
        ({"strength": -1e-6}, ValueError, r"strength=-1e-06 is outside \[0, inf\)"),
        ({"strength": "big"}, TypeError, "strength='big' is not a number"),
        ({"scale": "max"}, ValueError, "scale must be one of median.*; got 'max'"),
        ({"scale": 0}, ValueError, r"scale=0 is outside \(0, inf\). Or use 'median'"),
    ],
)
def test_rejects(arguments, error, message):
    with pytest.raises(error, match=message):
        BinaryRegularizer(**arguments)


def test_beside_a_quantizer_of_larq():
    layer = lq.layers.QuantDense(
        3, kernel_quantizer="ste_sign", kernel_constraint="weight_clip",
        kernel_regularizer=BinaryRegularizer(scale=1.0, strength=1.0),
    )  # fmt: skip
    layer(tf.ones((2, 4)))
    # The signs themselves are at the scale: it is the latent weights that are not.
    (loss,) = layer.losses
    latent = layer.kernel.latent_variable.numpy()
    assert_allclose(loss, np.sum(np.abs(1 - np.abs(latent))), rtol=1e-6)
