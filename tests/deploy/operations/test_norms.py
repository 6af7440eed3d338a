"""Normalizers other than batch norm: as operations, and in files."""

import larq_nobn as nobn
import numpy as np
import pytest
from deploy.nets import binary_conv, chain, head, images, scrambled
from deploy.operations.programs import (
    nodes_of,
    operations,
    program_of,
    row,
)
from deploy.sides import beside
from larq_nobn._keras import keras
from larq_nobn.deploy import binary_layers
from larq_nobn.deploy.operations._kinds import Affine, Kernel
from larq_nobn.deploy.trace._operation_names import layer_name
from larq_nobn.layers import BatchNormalizationPreconditioning, ProxyNormalization
from numpy.testing import assert_allclose, assert_array_equal

layers = keras.layers


def network(norm):
    """The norm before a shifted sign and a shortcut that both need its output."""
    keras.utils.set_random_seed(5)
    image = keras.Input((4, 4, 8))
    x = norm(layers.Conv2D(8, 3, padding="same")(image))
    branch = binary_conv(
        8,
        input_quantizer=nobn.quantizers.RSign(),
        kernel_quantizer=nobn.quantizers.ScaledStdSign(),
    )(x)
    model = keras.Model(image, layers.Add()([branch, x]))
    rng = np.random.default_rng(6)
    for weight in model.weights:
        if weight.shape.rank == 1:
            weight.assign_add(rng.uniform(-0.5, 0.5, weight.shape))
    return model


GROUPS = {
    "one group": lambda: layers.GroupNormalization(1),
    "four groups": lambda: layers.GroupNormalization(4, epsilon=1e-5),
    "a group per channel": lambda: layers.GroupNormalization(-1),
    "no affine": lambda: layers.GroupNormalization(4, center=False, scale=False),
}
OTHERS = {
    "layer norm over positions": lambda: layers.LayerNormalization(axis=(1, 2, 3)),
    "unit": lambda: layers.UnitNormalization(),
}


@pytest.mark.convert
def test_they_convert_beside_a_shortcut(tmp_path):
    makers = [GROUPS["four groups"], *OTHERS.values()]
    model = beside([network(make()) for make in makers])
    data = len(makers) * [images(2, (4, 4, 8))]
    report = nobn.convert(model, tmp_path / "model.tflite", data=data)
    assert report.lce_bconv2d == len(makers)
    assert report.verify["unexplained"] == 0


@pytest.mark.parametrize("name", GROUPS)
def test_group_norm_reshapes_statistics_and_no_map(name):
    program = program_of(network(GROUPS[name]()))
    sizes = [np.prod(node.y.shape) for node in nodes_of(program, "Reshape")]
    assert bool(sizes) == (name in ("four groups", "no affine"))
    assert set(sizes) <= {8, 4}  # of 128 numbers


# --- Proxy norm: group norm, activation and a constant shift.


def proxy(activation, **changes):
    return ProxyNormalization(activation, name="proxy", **changes)


@pytest.mark.parametrize(
    "activation, groups, num_samples",
    [("linear", 4, 50), ("relu", 1, None), ("tanh", 1, 50)],
)
def test_proxy_norm_ends_with_one_affine_operation(activation, groups, num_samples):
    layer = proxy(activation, groups=groups, num_samples=num_samples)
    model = chain(binary_conv(), layer, layers.Activation("tanh"))
    *_, last, _ = program_of(model).nodes
    assert isinstance(last, Affine)


def test_its_constants_are_those_of_the_proxy():
    layer = proxy("tanh", num_samples=1000)
    *_, last = program_of(chain(layer)).nodes
    gamma, beta = (w.numpy() for w in (layer.gamma, layer.beta))
    spread = gamma * (1 + layer.proxy_gamma.numpy())
    normal = np.random.default_rng(0).normal(size=(200_000, 1))
    values = np.tanh(gamma * layer.proxy_beta.numpy() + beta + spread * normal)
    rate = 1 / np.sqrt(values.var(0) + 0.03)
    assert_allclose(last.k, rate, rtol=0.02)
    assert_allclose(last.b, -values.mean(0) * rate, atol=0.02)


@pytest.mark.convert
def test_before_a_sign_it_costs_six_operations_less():
    model = row("tanh", proxy("tanh"), "binary", scramble=True)
    # Its formula takes SUB, MUL, ADD, TANH, SUB, MUL on the map.
    once = ("SQUARED_DIFFERENCE", "SUB", "RSQRT", "LceQuantize", "LceBconv2d")
    expected = {"TANH": 1, "MEAN": 2, "ADD": 2, "MUL": 2, **dict.fromkeys(once, 1)}
    assert operations(model) == expected


@pytest.mark.convert
def test_it_costs_two_multiplications_a_block():
    """Its last factor is within those of the statistics, whatever the shortcut is."""
    options = {"width": 8, "normalization": "proxy", "blocks": (3,)}
    model = scrambled(nobn.models.ReActNet18((8, 8, 1), 4, **options))
    found = operations(model)
    assert found["LEAKY_RELU"] == found["RSQRT"] == 3
    assert found["MUL"] == 2 * 3


# --- What only training needs: wrappers that precondition.


def wrapped(wrap):
    """Two binary convolutions with a bias, a real-valued one and a head."""
    conv = {"use_bias": True, "kernel_quantizer": "scaled_std_sign"}
    return chain(
        wrap(binary_conv(name="first", **conv)),
        layers.Dropout(0.5),
        wrap(binary_conv(name="second", activation="relu", **conv)),
        wrap(layers.Conv2D(8, 1, name="float")),
        *head(),
        scramble=False,
    )


def renamed(layer):
    return BatchNormalizationPreconditioning(layer, name=f"{layer.name}_wrapper")


def test_conversion_sees_the_layers_inside_wrappers():
    model = scrambled(wrapped(renamed))
    before, weights = model.get_config(), model.get_weights()
    assert binary_layers(model) == ["first", "second"]
    _, *kernels, _, _ = nodes_of(program_of(model), Kernel)
    assert [layer_name(kernel.name) for kernel in kernels] == ["first", "second"]
    assert all(kernel.binary for kernel in kernels)
    assert model.get_config() == before
    for now, then in zip(model.get_weights(), weights, strict=True):
        assert_array_equal(now, then)
