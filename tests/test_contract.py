"""Every check of the contract on every row of `cases.py`."""

import inspect
import json
import re
from collections import Counter

import larq_nobn as nobn
import larq as lq
import numpy as np
import pytest
import tensorflow as tf
from callback_cases import CASES as CALLBACKS
from cases import CASES
from contract_case import PENALTY, ROLES
from contract_docstring import check_docstring
from contract_files import class_names, outputs, without_build_shapes
from contract_networks import (
    HOSTS,
    call,
    dense_or_convolution,
    deployed_network,
    draw,
    gradients,
    host,
    input_shapes,
    names,
    network,
    perturb,
    policy,
    side_by_side,
    trained_network,
)
from contract_operations import branches, flatbuffer
from gradients import assert_is_gradient
from larq_nobn._keras import PACKAGE, keras
from larq_nobn.loading._configuration import check_model_file
from numpy.testing import assert_allclose, assert_array_equal
from regularizer_cases import CASES as REGULARIZERS

# Keras says so of every .h5 file; that the format still works is the point here.
pytestmark = pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5")

NAMESPACES = (nobn.quantizers, nobn.layers, nobn.regularizers, nobn.callbacks)
TABLES = (CASES, REGULARIZERS, CALLBACKS)
SECTIONS = (
    "Arguments",
    "Weights",
    "Input shape",
    "Output shape",
    "Raises",
    "Example",
    "References",
    "Differences from the paper",
)


every_row = pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
every_shape = pytest.mark.parametrize(
    "case, shape",
    [
        pytest.param(case, shape, id=f"{case.name}-{shape}".replace(" ", ""))
        for case in CASES
        for shape in case.shapes
    ],
)


def arrays(actual):
    return [np.asarray(tensor) for tensor in tf.nest.flatten(actual)]


def assert_same(actual, expected, tolerance=1e-5):
    """Up to float32 rounding, where two programs may sum in different orders."""
    for one, other in zip(arrays(actual), arrays(expected), strict=True):
        assert_allclose(one, other, rtol=tolerance, atol=tolerance)


def feed(case, shape, factor=1.0):
    """Inputs of the object itself, in the policy's dtype."""
    dtype = keras.mixed_precision.global_policy().compute_dtype
    drawn = draw(case, shape, factor)
    return tf.nest.map_structure(lambda x: tf.cast(x, dtype), drawn)


def built(case, shape):
    """A layer with perturbed weights."""
    layer = case.make()
    layer(feed(case, shape))
    perturb(layer)
    return layer


def own_arguments(cls):
    """What the package's own `__init__` methods take, `**kwargs` aside."""
    return {
        name
        for base in cls.__mro__
        if base.__module__.startswith(PACKAGE) and "__init__" in vars(base)
        for name, parameter in inspect.signature(base.__init__).parameters.items()
        if name != "self" and parameter.kind is not parameter.VAR_KEYWORD
    }


def assert_finite_differences_agree(case, layer, inputs, upstream, variable, exact):
    """Those of the layer itself."""
    start = variable.numpy()

    def loss(values):
        variable.assign(values)
        actual = arrays(call(case, layer, inputs))
        return sum(map(np.vdot, actual, upstream)) + sum(arrays(layer.losses))

    assert_is_gradient(exact, loss, start)
    variable.assign(start)


@pytest.fixture(autouse=True)
def _seeded():
    keras.utils.set_random_seed(20)


def test_completeness():
    public = [
        getattr(space, name)
        for space in NAMESPACES
        for name in space.__all__
        if inspect.isclass(getattr(space, name))
    ]
    rows = [case.cls for table in TABLES for case in table]
    # Abstract: each is checked by the rows of its subclasses.
    bases = [nobn.quantizers.KernelQuantizer, nobn.quantizers.ScaledKernel]
    bases.append(nobn.layers.ChannelwiseLayer)
    assert all(any(issubclass(cls, base) for cls in rows) for base in bases)
    assert Counter(rows + bases) == Counter(public)


@every_shape
def test_calls_agree(case, shape):
    """AutoGraph rewrites for one shape what it does for all."""
    if shape == case.shapes[0]:
        assert_calls_agree(case, shape)
    else:
        tf.autograph.experimental.do_not_convert(assert_calls_agree)(case, shape)


def assert_calls_agree(case, shape):
    """Eager and symbolic, of unknown sizes; and for one shape, in every other way."""
    layer, inputs = built(case, shape), feed(case, shape)
    called, outer = host(case, shape, layer)
    unknown = network(called, outer, unknown=True)
    perturb(unknown)
    images, start = draw(case, outer), unknown.get_weights()
    eager = call(case, layer, inputs)
    assert_computed_shape(layer, shape, eager)
    if case.role == "kernel":
        assert_is_keras_layer_of_kernel(called, inputs, eager, unknown, images)
    else:
        assert_same(call(case, unknown, images), eager)
    expected = arrays(call(case, unknown, images))
    for tensor, array in zip(unknown.outputs, expected, strict=True):
        assert tensor.shape.rank == array.ndim
        assert tensor.shape.is_compatible_with(array.shape)
        assert tensor.shape[-1] == array.shape[-1]
    if shape == case.shapes[0]:
        static = network(called, outer, unknown=False)
        # Training may have moved what an inference shows.
        static.set_weights(start)
        assert_graphs_and_modes_agree(case, layer, inputs, static, images)


def assert_graphs_and_modes_agree(case, layer, inputs, static, images):
    """In both modes, in a graph, and symbolic of known sizes."""
    modes = [arrays(static(images, training=mode)) for mode in (False, True)]
    equal = all(map(np.array_equal, *modes))
    assert equal == (case.training is None or case.same_value)
    eager = call(case, layer, inputs)
    assert_same(tf.function(lambda x: call(case, layer, x))(inputs), eager)
    if case.role != "kernel":
        assert_same(call(case, static, images), eager)


def assert_is_keras_layer_of_kernel(called, latent, kernel, model, images):
    """A Larq layer with the quantizer is the Keras layer with the quantized kernel."""
    called.kernel.latent_variable.assign(latent)
    plain = dense_or_convolution(HOSTS[len(kernel.shape)][1], tuple(kernel.shape))
    plain.build(images.shape)
    plain.kernel.assign(kernel)
    assert_same(model(images), plain(images))


def assert_computed_shape(layer, shape, actual):
    given = [tf.TensorShape(each) for each in input_shapes(shape)]
    computed = layer.compute_output_shape(
        given if isinstance(shape, list) else given[0]
    )
    real = tf.nest.map_structure(lambda y: y.shape, actual)
    tf.nest.map_structure(lambda y, z: assert_array_equal(y, z), computed, real)


@pytest.mark.parametrize(
    "case", [pytest.param(c, id=c.name) for c in CASES if c.role != "kernel"]
)
def test_an_example_sees_the_rest_of_its_batch_only_if_the_row_says_so(case):
    layer = built(case, case.shapes[0])
    one, other = draw(case, case.shapes[0]), draw(case, case.shapes[0])
    features = other[0] if isinstance(other, list) else other
    features[1:] = 5 - 3 * features[1:]
    for training in (False, True):
        outputs = []
        for batch in (one, other):
            keras.utils.set_random_seed(27)  # the same draws of what is random
            outputs.append(tf.nest.flatten(layer(batch, training=training))[0][0])
        assert np.array_equal(*outputs) != (training and case.sees_batch)


@every_row
@pytest.mark.filterwarnings("ignore:Exception encountered|Masking is not supported")
@tf.autograph.experimental.do_not_convert
def test_a_mask_passes_on_to_the_first_output(case):
    shape, masking, layer = case.shapes[0], keras.layers.Masking(), case.make()
    arrays = np.random.default_rng(23).integers(0, 2, input_shapes(shape)[0])
    nodes = [keras.Input(batch_shape=each) for each in input_shapes(shape)]
    drawn = tf.nest.map_structure(tf.constant, feed(case, shape))
    eager = [tf.cast(arrays, "float32"), *tf.nest.flatten(drawn)[1:]]
    for first, *others in (nodes, eager):
        given = [masking(first), *others]
        made = call(case, layer, given if others else given[0])
        masks = [getattr(y, "_keras_mask", None) for y in tf.nest.flatten(made)]
        assert masks[0] is not None or case.drops_mask
        assert masks[1 - case.drops_mask :] == [None] * (
            len(masks) - 1 + case.drops_mask
        )
    if not case.drops_mask:
        assert_array_equal(masks[0], arrays.any(axis=-1))


@every_row
def test_config(case):
    def text(layer):
        return without_build_shapes(json.dumps(layer.get_config()))

    layer = case.make()
    before = text(layer)
    layer(feed(case, case.shapes[0]))
    assert text(layer) == before
    again = case.cls.from_config(json.loads(before))
    assert text(again) == before
    arguments = own_arguments(case.cls)
    assert arguments <= set(json.loads(before))
    kwargs = case.kwargs() if callable(case.kwargs) else case.kwargs
    assert set(kwargs) <= arguments
    plain = {k: v for k, v in kwargs.items() if isinstance(v, str | int | float)}
    assert plain.items() <= json.loads(before).items()


@every_shape
def test_gradients(case, shape):
    with policy("float64"):
        layer, inputs = built(case, shape), feed(case, shape)
        assert names(layer.trainable_weights) == case.weights
        assert names(layer.non_trainable_weights) == case.state
        rng = np.random.default_rng(24)
        upstream = tf.nest.map_structure(
            lambda y: rng.normal(size=y.shape), call(case, layer, inputs)
        )
        actual = gradients(case, layer, inputs, upstream)
        weights = dict(zip(names(layer.weights), layer.get_weights(), strict=True))
        x = tf.nest.map_structure(np.asarray, inputs)
        expected = case.oracle(x, weights, upstream)
        assert actual.keys() == expected.keys()
        for name in expected:
            assert_same(actual[name], expected[name], tolerance=1e-9)
        if case.smooth:
            places = tf.nest.map_structure(tf.Variable, x)
            variables = [*tf.nest.flatten(places), *layer.trainable_weights]
            exact = arrays([actual["x"], *(actual[name] for name in case.weights)])
            given = case, layer, places, arrays(upstream)
            for variable, slope in zip(variables, exact, strict=True):
                assert_finite_differences_agree(*given, variable, slope)


@pytest.mark.parametrize("role", ROLES)
def test_one_step_changes_every_weight(role):
    """Rows of a role side by side, in a single graph."""
    cases = [case for case in CASES if case.role == role]
    networks = [trained_network(case, case.make()) for case in cases]
    model = side_by_side(alone for alone, _ in networks)
    rng = np.random.default_rng(25)
    targets = [rng.normal(size=y.shape).astype(y.dtype.name) for y in model.outputs]
    drawn = [
        draw(case, shape) for case, (_, shape) in zip(cases, networks, strict=True)
    ]
    inputs = [tf.convert_to_tensor(each) for each in tf.nest.flatten(drawn)]
    before = [w.numpy() for w in model.trainable_weights]

    def step(inputs, targets):
        """By hand: a loss and a metric of Keras' per output would take most of it."""
        with tf.GradientTape() as tape:
            pairs = zip(model(inputs, training=True), targets, strict=True)
            errors = [
                tf.reduce_mean((actual - wanted) ** 2) for actual, wanted in pairs
            ]
            loss = tf.add_n([*errors, *model.losses])
        weights = model.trainable_weights
        for weight, slope in zip(weights, tape.gradient(loss, weights), strict=True):
            weight.assign_sub(0.1 * tf.convert_to_tensor(slope))

    tf.function(step, autograph=False)(inputs, targets)
    for weight, start in zip(model.trainable_weights, before, strict=True):
        assert not np.array_equal(weight, start), weight.name
    for weight in model.weights:
        assert np.isfinite(weight).all(), weight.name


@pytest.mark.slow
@pytest.mark.parametrize("role", [*ROLES, PENALTY])
@tf.autograph.experimental.do_not_convert
def test_files_open(role, tmp_path):
    """Rows of a role side by side.

    What the import alone registers, and nothing else of the package, is known to
    `test_package.py`.
    """
    parts, images = [], []
    for case in (*CASES, *REGULARIZERS):
        if case.role == role:
            called, shape = host(case, case.shapes[0], case.make())
            parts.append(network(called, shape, unknown=True))
            drawn = draw(case, shape)
            images += drawn if isinstance(shape, list) else [drawn]
    model = side_by_side(parts)
    perturb(model)
    expected = outputs(model, images)
    # Traces take most of the time, and only a process without the package reads them.
    for name, kind in {
        "model.keras": {},
        "model.h5": {},
        "model": {"save_traces": False},
    }.items():
        model.save(tmp_path / name, **kind)
        if not kind:  # a SavedModel nobody opens without trusting it
            check_model_file(tmp_path / name)
        again = keras.models.load_model(tmp_path / name)
        assert class_names(again) == class_names(model), name
        one, other = (without_build_shapes(m.to_json()) for m in (again, model))
        assert one == other, name
        # The same kernels run on the same numbers.
        for pair in zip(outputs(again, images), expected, strict=True):
            assert_array_equal(*pair, err_msg=name)


@every_row
def test_names_and_serialized_forms(case):
    registered = keras.utils.get_custom_objects().items()
    bare = {case.name, f"{PACKAGE}>{case.name}"}
    aliases = {name for name, cls in registered if cls is case.cls} - bare
    assert aliases == ({case.alias} if case.alias else set())
    given = case.make()
    for module in (lq.quantizers, keras.activations):
        again = module.deserialize(module.serialize(given))
        assert type(again) is case.cls and again is not given
        assert again.get_config() == given.get_config()
    if case.alias is not None:
        names = (case.alias, case.name, case.cls())
        actual = [lq.quantizers.get(name) for name in names]
        assert {type(each) for each in actual} == {case.cls}
        one, two, three = ({**x.get_config(), "name": ""} for x in actual)
        assert one == two == three


def converted_together():
    """Rows by their roles, and alone what makes the converter quantize all around."""
    groups = {role: [] for role in (*ROLES, "quantized")}
    for case in CASES:
        key = "quantized" if "DEQUANTIZE" in case.float_ops else case.role
        groups[key].append(case)
    return [pytest.param(cases, id=key) for key, cases in groups.items()]


@pytest.mark.convert
@pytest.mark.parametrize("cases", converted_together())
def test_converted_file(cases):
    """Side by side, because what a conversion costs it costs mostly per model."""
    import larq_compute_engine as lce

    alone = [deployed_network(case, case.make()) for case in cases]
    model = side_by_side(alone)
    perturb(model)
    images, rng = [], np.random.default_rng(26)
    for case, image in zip(cases, model.inputs, strict=True):
        drawn = case.draw(rng, (2, *image.shape[1:]))
        images.append(drawn.astype("float32"))
    expected = arrays(model(images, training=False))
    buffer = flatbuffer(model)
    names, parts = branches(buffer)  # in an order of its own
    entries = [names.index(name) for name in model.input_names]
    given = [images[entries.index(place)] for place in range(len(names))]
    actual = lce.testing.Interpreter(buffer).predict(given)
    actual = actual if isinstance(actual, list) else [actual]
    for part, output in zip(parts, actual, strict=True):
        place = entries.index(part.entry)
        case, counts = cases[place], part.operations
        assert counts.pop("LceBconv2d", 0) == case.lce_bconv2d, case.name
        # A binary convolution that feeds a second one writes bits itself.
        assert counts.pop("LceQuantize", 0) == min(1, case.lce_bconv2d), case.name
        assert counts == case.float_ops, case.name
        # Sums of 288 products, whose multiplier the file contains in float32.
        assert_allclose(output, expected[place], 1e-4, 1e-4, err_msg=case.name)


@every_row
def test_docstring(case):
    owned = case.weights + case.state
    titles = [s for s in SECTIONS if owned or s != "Weights"]
    arguments = [*own_arguments(case.cls), r"\*\*kwargs"]
    introduction, sections = check_docstring(case.cls, titles, arguments)
    assert f"**{case.inference}**" in introduction
    for name in owned:
        assert re.search(rf"\b{name}\b", sections["Weights"])
