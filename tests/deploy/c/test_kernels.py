"""The functions of kernels.c against NumPy, each set of instructions by itself."""

import numpy as np
import pytest
from deploy.c.kernels import INSTRUCTIONS, call, convolved, packed, unpacked, window

pytestmark = pytest.mark.parametrize("instructions", INSTRUCTIONS)
# Channels, filters, kernel, padding on all sides, strides, dilations.
SHAPES = [
    (3, 5, (3, 3), (1, 1), (1, 1), (1, 1)),
    (16, 16, (3, 3), (1, 1), (2, 1), (1, 1)),
    (32, 40, (1, 1), (0, 0), (1, 1), (1, 1)),
    (33, 33, (2, 3), (1, 2), (1, 2), (2, 1)),
    (70, 17, (3, 2), (2, 0), (2, 2), (1, 3)),
    (1500, 9, (1, 3), (0, 1), (1, 1), (1, 1)),
]


def drawn(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def signs(shape, seed=0):
    return np.where(drawn(shape, seed) >= 0, 1.0, -1.0)


def kernel_words(weights):
    """[row][column][word][filter]."""
    return np.ascontiguousarray(packed(weights.swapaxes(2, 3)).swapaxes(2, 3))


@pytest.mark.parametrize("padding", [0, 1, -1])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_binary_convolution(instructions, shape, padding):
    channels, filters, size, sides, strides, dilations = shape
    x, weights = signs((2, 5, 6, channels)), signs((*size, channels, filters), 1)
    pairs = [(side, side) for side in sides]
    sums = convolved(x, weights, pairs, strides, dilations, around=padding)
    own = window(
        x.shape, sums.shape, weights.shape, sides, strides, dilations, padding=padding
    )
    bits, words = packed(x), kernel_words(weights)
    patch = np.zeros(words.shape[0] * words.shape[1] * words.shape[2], np.uint32)
    scale, bias = np.full(filters, 0.5, np.float32), drawn(filters, 2)
    y = np.zeros(sums.shape, np.float32)
    call(instructions, "binary_convolution", bits, own, words, scale, bias, patch, y)
    np.testing.assert_allclose(y, 0.5 * sums + bias, rtol=1e-6, atol=1e-6)
    least = np.random.default_rng(3).integers(-20, 20, filters).astype(np.int32)
    made = np.zeros((*sums.shape[:3], -(-filters // 32)), np.uint32)
    call(instructions, "binary_convolution_sign", bits, own, words, least, patch, made)
    np.testing.assert_array_equal(made, packed(np.where(sums >= least, 1, -1)))


@pytest.mark.parametrize("channels", [1, 7, 16, 31, 32, 40, 64, 77])
def test_sign_bits(instructions, channels):
    x, shift = drawn((9, channels)), drawn(channels, 1)
    x[3], x[4] = -shift, np.nextafter(-shift, -9)
    x[5], shift[::2], x[5, ::2] = -shift, 0, -0.0  # the sign of 0 is +1, that of -0 too
    words = np.zeros((9, -(-channels // 32)), np.uint32)
    call(instructions, "sign_bits", x, 9, channels, shift, words)
    np.testing.assert_array_equal(words, packed(np.where(x + shift >= 0, 1, -1)))
    np.testing.assert_array_equal(unpacked(words, channels)[5], 1)


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize(
    "shape",
    [
        *[(4, 6, *rest) for _, _, *rest in SHAPES],
        (6, 16, (3, 3), (1, 1), (1, 1), (1, 1)),
        (8, 42, (1, 1), (0, 0), (1, 1), (1, 1)),
        (2, 64, (5, 5), (2, 2), (3, 2), (1, 1)),
    ],
    ids=str,
)
def test_convolution(instructions, shape, groups):
    channels, filters, size, sides, strides, dilations = shape
    x, weights = drawn((2, 5, 6, channels)), drawn((*size, channels // groups, filters))
    pairs, bias = [(side, side) for side in sides], drawn(filters, 2)
    wanted = convolved(x, weights, pairs, strides, dilations, groups) + bias
    geometry = sides, strides, dilations
    own = window(x.shape, wanted.shape, weights.shape, *geometry, groups=groups)
    patch = np.zeros(4 * weights[..., 0].size, np.float32)
    if size == (1, 1) and groups == 1:
        patch = None
    y = np.zeros(wanted.shape, np.float32)
    call(instructions, "convolution", x, own, weights, bias, patch, y)
    np.testing.assert_allclose(y, wanted, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("shape", [(5, 3, *rest) for _, _, *rest in SHAPES], ids=str)
def test_convolution_of_signs(instructions, shape):
    channels, filters, size, sides, strides, dilations = shape
    x, weights = drawn((2, 5, 6, channels)), signs((*size, channels, filters))
    scale, bias = drawn(filters, 1), drawn(filters, 2)
    pairs = [(side, side) for side in sides]
    wanted = scale * convolved(x, weights, pairs, strides, dilations) + bias
    own = window(x.shape, wanted.shape, weights.shape, sides, strides, dilations)
    flat = weights.reshape(-1, filters)
    y, patch = np.zeros(wanted.shape, np.float32), np.zeros(len(flat), np.float32)
    bits = packed(np.ascontiguousarray(flat.T))
    call(instructions, "convolution_of_signs", x, own, bits, scale, bias, patch, y)
    np.testing.assert_allclose(y, wanted, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("each", [1, 3])
def test_depthwise_convolution(instructions, each):
    x, weights, bias = drawn((2, 5, 6, 4)), drawn((3, 2, 4, each)), drawn(4 * each, 1)
    sides, strides = [(1, 0), (0, 1)], (2, 1)
    wanted = np.concatenate(
        [
            convolved(
                x[..., c : c + 1], weights[:, :, c : c + 1], sides, strides, (1, 1)
            )
            for c in range(4)
        ],
        axis=-1,
    )
    y = np.zeros(wanted.shape, np.float32)
    own = window(x.shape, wanted.shape, weights.shape, (1, 0), strides)
    call(instructions, "depthwise_convolution", x, own, weights, bias, y)
    np.testing.assert_allclose(y, wanted + bias, rtol=1e-5, atol=1e-5)


def test_pools(instructions):
    x = drawn((2, 5, 6, 3))
    parts = [
        [x[:, max(i - 1, 0) : i + 2, j : j + 2] for j in (0, 2, 4)] for i in (0, 2, 4)
    ]
    own = window(x.shape, (2, 3, 3, 3), (3, 2), (1, 0), (2, 2))
    for name, pool in (("max_pool", np.max), ("average_pool", np.mean)):
        y = np.zeros((2, 3, 3, 3), np.float32)
        call(instructions, name, x, own, y)
        wanted = [[pool(part, axis=(1, 2)) for part in row] for row in parts]
        wanted = np.array(wanted).transpose(2, 0, 1, 3)
        np.testing.assert_allclose(y, wanted, rtol=1e-6, atol=1e-6)


def test_transposed_convolution(instructions):
    """The gradient of a convolution, whose matrix turns around."""
    x, weights, bias = drawn((2, 3, 2, 4)), drawn((3, 2, 5, 4)), drawn(5, 1)
    sides, strides, shape = [(1, 1), (0, 1)], (2, 2), (2, 6, 4, 5)
    wanted = np.zeros(shape)
    for place in np.ndindex(shape[1:]):
        unit = np.zeros((1, *shape[1:]))
        unit[0][place] = 1
        column = convolved(unit, weights, sides, strides, (1, 1))[:, :3, :2]
        wanted[(slice(None), *place)] = np.einsum("nijc,ijc->n", x, column[0])
    y = np.zeros(shape, np.float32)
    own = window(x.shape, shape, weights.shape, (1, 0), strides)
    call(instructions, "transposed_convolution", x, own, weights, bias, y)
    np.testing.assert_allclose(y, wanted + bias, rtol=1e-5, atol=1e-5)


def test_matrix_product(instructions):
    x, z = drawn((3, 7, 5)), drawn((3, 5, 18), 1)
    y = np.zeros((3, 7, 18), np.float32)
    call(instructions, "matrix_product", x, z, 3, 7, 5, 18, y)
    np.testing.assert_allclose(y, x.astype(float) @ z, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("channels", [3, 16, 37])
def test_channels_and_numbers(instructions, channels):
    x, k, b = drawn((6, channels)), drawn(channels, 1), drawn(channels, 2)
    y = x.copy()  # in place
    call(instructions, "affine", y, 6, channels, k, b, y)
    np.testing.assert_allclose(y, k * x + b, rtol=1e-6, atol=1e-6)
    call(instructions, "prelu", x, 6, channels, k, y)
    np.testing.assert_allclose(y, np.where(x >= 0, x, k * x), rtol=1e-6)
    call(instructions, "clip", x, x.size, -0.5, float("inf"), y)
    np.testing.assert_array_equal(y, np.maximum(x, -0.5))
    call(instructions, "levels", x, x.size, -1.0, 1.0, 0.25, 4.0, y)
    np.testing.assert_allclose(y, np.floor(np.clip(x, -1, 1) * 4 + 0.5) / 4)
    call(instructions, "softmax", x, 6, channels, y)
    wanted = np.exp(x.astype(float))
    np.testing.assert_allclose(y, wanted / wanted.sum(-1, keepdims=True), rtol=1e-5)
    image = np.arange(2 * channels, dtype=np.uint8)
    call(instructions, "pixels", image, 2, channels, k, b, y)
    wanted = k * image.reshape(2, channels) + b
    np.testing.assert_allclose(y[:2], wanted, rtol=1e-5, atol=1e-5)


def walk(sizes, *steps):
    rows = [[1] * (6 - len(sizes)) + list(sizes)]
    rows += [[0] * (6 - len(sizes)) + list(step) for step in steps]
    return np.array(rows, np.int32)


def test_walks(instructions):
    x, z, y = drawn((4, 3, 20)), drawn((4, 1, 20), 1), np.zeros((4, 3, 20), np.float32)
    own = walk((4, 3, 20), (60, 20, 1), (20, 0, 1), (60, 20, 1))
    call(instructions, "plus", x, z, own, y)
    np.testing.assert_array_equal(y, x + z)
    turned, sums = np.zeros((20, 4, 3), np.float32), np.zeros((4, 20), np.float32)
    own = walk((20, 4, 3), (1, 60, 20), (1, 60, 20), (12, 3, 1))
    call(instructions, "copied", x, x, own, turned)
    np.testing.assert_array_equal(turned, x.transpose(2, 0, 1))
    own = walk((4, 3, 20), (60, 20, 1), (60, 20, 1), (20, 0, 1))
    call(instructions, "total", x, x, own, sums)
    np.testing.assert_allclose(sums, x.sum(1), rtol=1e-6, atol=1e-6)
