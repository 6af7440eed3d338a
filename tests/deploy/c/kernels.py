"""kernels.c as a library, for each set of instructions, and an oracle."""

import ctypes
import itertools
import subprocess
from functools import cache
from pathlib import Path

import larq_nobn
import numpy as np

SOURCE = Path(larq_nobn.__file__).parent / "deploy" / "c" / "kernels.c"
# The flags of each; AVX-512 in plain C, which runs on every processor.
INSTRUCTIONS = {
    "plain": ["-mno-avx", "-fsanitize=undefined", "-fno-sanitize-recover"],
    "AVX2": ["-mavx2", "-mfma"],
    "AVX-512": [
        *("-mno-avx", "-D__AVX512F__", "-D__AVX512VPOPCNTDQ__", "-U__SSE__"),
        f"-I{Path(__file__).parent / 'avx512'}",
    ],
}
FIELDS = (
    *("batch", "height", "width", "channels", "rows", "columns", "filters"),
    *("kernel_height", "kernel_width", "stride_y", "stride_x"),
    *("dilation_y", "dilation_x", "top", "left", "padding", "groups"),
)
WALKS = {"plus": "A + B * C", "total": "Y + A", "product": "Y + A * B", "copied": "A"}


@cache
def library(instructions):
    import tempfile

    folder = Path(tempfile.mkdtemp(prefix="kernels-"))
    source, built = folder / "all.c", folder / "all.so"
    walks = [f"WALK({name}, {function})" for name, function in WALKS.items()]
    walks.append("WHOLE_NUMBERS(of_bytes, uint8_t)")
    source.write_text("\n".join([f'#include "{SOURCE}"', *walks]))
    flags = ["-std=c99", "-O2", "-Dstatic=", "-w", "-shared", "-fPIC"]
    flags += INSTRUCTIONS[instructions]
    subprocess.run(["gcc", *flags, source, "-o", built, "-lm"], check=True)
    return ctypes.CDLL(str(built))


def call(instructions, name, *arguments):
    """Calls a function of kernels.c with arrays, whole numbers and real ones."""
    function = getattr(library(instructions), name)
    function.restype = None
    given = [
        ctypes.c_void_p(x.ctypes.data)
        if isinstance(x, np.ndarray)
        else ctypes.c_float(x)
        if isinstance(x, float)
        else ctypes.c_void_p(None)
        if x is None
        else ctypes.c_int(x)
        for x in arguments
    ]
    function(*given)


def window(x, y, weights, before=(0, 0), strides=(1, 1), dilations=(1, 1), **more):
    numbers = [*x, *y[1:], *weights[:2], *strides, *dilations, *before]
    numbers += [more.get("padding", 0), more.get("groups", 1)]
    assert len(numbers) == len(FIELDS)
    return np.array(numbers, np.int32)


def convolved(x, weights, sides, strides, dilations, groups=1, around=0.0):
    """A convolution, position by position, in float64."""
    pads = [(0, 0), *sides, (0, 0)]
    x = np.pad(x.astype(float), pads, constant_values=around)
    reach = [(n - 1) * d for n, d in zip(weights.shape, dilations, strict=False)]
    sizes = [
        (n - r - 1) // s + 1
        for n, r, s in zip(x.shape[1:3], reach, strides, strict=True)
    ]
    y = np.zeros((len(x), *sizes, weights.shape[-1]))
    inner, outer = x.shape[-1] // groups, weights.shape[-1] // groups
    for i, j in itertools.product(*map(range, sizes)):
        top, left = i * strides[0], j * strides[1]
        patch = x[
            :,
            top : top + reach[0] + 1 : dilations[0],
            left : left + reach[1] + 1 : dilations[1],
        ]
        for g in range(groups):
            part = patch[..., g * inner : (g + 1) * inner]
            own = weights[..., g * outer : (g + 1) * outer]
            y[:, i, j, g * outer : (g + 1) * outer] = np.einsum(
                "nabc,abcf->nf", part, own
            )
    return y


def packed(signs):
    """Signs along the last axis as words, bit by bit."""
    *shape, channels = signs.shape
    words = np.zeros((*shape, -(-channels // 32)), np.uint32)
    for c in range(channels):
        words[..., c // 32] |= (signs[..., c] > 0).astype(np.uint32) << np.uint32(
            c % 32
        )
    return words


def unpacked(words, channels):
    places = np.arange(channels)
    bits = words[..., places // 32] >> (places % 32).astype(np.uint32) & 1
    return bits.astype(float) * 2 - 1
