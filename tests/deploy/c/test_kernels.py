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
    (10, 6, (3, 3), (1, 1), (1, 1), (1, 1)),
    (33, 33, (2, 3), (1, 2), (1, 2), (2, 1)),
    (70, 17, (3, 2), (2, 0), (2, 2), (1, 3)),
    (1500, 9, (1, 3), (0, 1), (1, 1), (1, 1)),
]


def drawn(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def signs(shape, seed=0):
    return np.where(drawn(shape, seed) >= 0, 1.0, -1.0)


def kernel_words(weights):
    """[tap][word][filter], of as many taps in a word as have room."""
    *size, channels, filters = weights.shape
    joined, taps = max(32 // channels, 1), np.prod(size)
    flat = weights.reshape(taps, channels, filters)
    groups = [flat[i : i + joined] for i in range(0, taps, joined)]
    rows = [packed(part.reshape(-1, filters).T).T for part in groups]
    return np.ascontiguousarray(np.concatenate(rows))


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
    patch = np.zeros(2 * size[0] * size[1] * bits.shape[-1], np.uint32)
    scale, bias = np.full(filters, 0.5, np.float32), drawn(filters, 2)
    y = np.zeros(sums.shape, np.float32)
    start = instructions, "binary_convolution", bits, own, words
    call(*start, scale, bias, None, patch, y)
    np.testing.assert_allclose(y, 0.5 * sums + bias, rtol=1e-6, atol=1e-6)
    least = np.random.default_rng(3).integers(-20, 20, filters).astype(np.int32)
    made = np.zeros((*sums.shape[:3], -(-filters // 32)), np.uint32)
    call(*start, None, None, least, patch, made)
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
    x, weights = drawn((2, 3, 2, 4)), drawn((3, 2, 5, 4))
    sides, strides, shape = [(1, 1), (0, 1)], (2, 2), (2, 6, 4, 5)
    wanted = np.zeros(shape)
    for place in np.ndindex(shape[1:]):
        unit = np.zeros((1, *shape[1:]))
        unit[0][place] = 1
        column = convolved(unit, weights, sides, strides, (1, 1))[:, :3, :2]
        wanted[(slice(None), *place)] = np.einsum("nijc,ijc->n", x, column[0])
    y = np.ones(shape, np.float32)
    own = window(shape, x.shape, weights.shape, (1, 0), strides)
    call(instructions, "transposed_convolution", x, own, weights, y)
    np.testing.assert_allclose(y, wanted, rtol=1e-5, atol=1e-5)


def test_whole_numbers(instructions):
    image, k, b = np.arange(12, dtype=np.uint8), drawn(3), drawn(3, 1)
    y = np.zeros((4, 3), np.float32)
    call(instructions, "of_bytes", image, 4, 3, k, b, y)
    np.testing.assert_allclose(y, k * image.reshape(4, 3) + b, rtol=1e-5, atol=1e-5)


def walk(sizes, *steps):
    rows = [[1] * (6 - len(sizes)) + list(sizes)]
    rows += [[0] * (6 - len(sizes)) + list(step) for step in steps]
    return np.array(rows, np.int32)


# Sizes; of A, B, C and the result: axes along which each has no numbers of its own.
WALKS = {
    "plus": ((4, 3, 20), [(), (1,), (0, 1), ()]),
    "total": ((4, 3, 20), [(), (), (), (1,)]),
    "product": ((2, 7, 5, 18), [(3,), (1,), (), (2,)]),
}


@pytest.mark.parametrize("name", WALKS)
def test_walks(instructions, name):
    sizes, spread = WALKS[name]
    shapes = [[1 if i in x else n for i, n in enumerate(sizes)] for x in spread]
    a, b, c = (drawn(shape, i) for i, shape in enumerate(shapes[:3]))
    y = np.zeros(shapes[3], np.float32)
    views = [np.broadcast_to(x, sizes).strides for x in (a, b, c, y)]
    own = walk(sizes, *([n // 4 for n in steps] for steps in views))
    call(instructions, name, a, b, c, own, y)
    wanted = {"plus": a + b * c, "total": a, "product": a.astype(float) * b}[name]
    for axis in spread[3]:
        wanted = wanted.sum(axis, keepdims=True)
    np.testing.assert_allclose(y, wanted, rtol=1e-5, atol=1e-5)
    if name == "plus":  # in place
        call(instructions, name, a, b, c, own, a)
        np.testing.assert_array_equal(a, y)


def test_a_walk_turns_a_map(instructions):
    x, turned = drawn((4, 3, 20)), np.zeros((20, 4, 3), np.float32)
    own = walk((20, 4, 3), *[(1, 60, 20)] * 3, (12, 3, 1))
    call(instructions, "copied", x, x, x, own, turned)
    np.testing.assert_array_equal(turned, x.transpose(2, 0, 1))
