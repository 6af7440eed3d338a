"""Pictures as a person sees them, against pixels that the test knows."""

from __future__ import annotations

import io
from typing import Any

import larq_nobn as nobn
import numpy as np
import pytest
import tensorflow as tf
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image

RNG = np.random.default_rng(0)
COLOURS = RNG.integers(0, 256, (9, 13, 3), np.uint8)
GREY = RNG.integers(0, 256, (9, 13), np.uint8)
ALPHA = RNG.integers(0, 256, (9, 13), np.uint8)
SOFT = np.add.outer(np.arange(24) * 4, np.arange(40) * 3).astype(np.uint8)


def file(picture: Image.Image, form: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, form, **options)
    return buffer.getvalue()


def on_white(colours: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    share = alpha[..., np.newaxis] / 255
    return share * colours + (1 - share) * 255


@pytest.mark.parametrize(
    ("form", "options"), [("PNG", {}), ("BMP", {}), ("WEBP", {"lossless": True})]
)
def test_colours_of_lossless_files(form: str, options: dict[str, Any]):
    actual = nobn.data.decode(file(Image.fromarray(COLOURS), form, **options))
    assert actual.dtype == np.uint8
    assert_array_equal(actual, COLOURS)


@pytest.mark.parametrize("form", ["PNG", "BMP", "GIF"])
def test_grey_files_have_one_channel(form: str):
    actual = nobn.data.decode(file(Image.fromarray(GREY), form))
    assert_array_equal(actual, GREY[..., np.newaxis])


def test_palettes():
    palette = RNG.integers(0, 256, (4, 3), np.uint8)
    places = GREY % 4
    picture = Image.fromarray(places, "L").convert("P")
    picture.putpalette(palette.tobytes())
    for form in ("PNG", "GIF", "BMP"):
        actual = nobn.data.decode(file(picture, form))
        assert_array_equal(actual, palette[places], form)
    # One colour is transparent; in PNG two of them, one by half.
    expected = np.where((places == 2)[..., None], 255, palette[places])
    assert_array_equal(nobn.data.decode(file(picture, "GIF", transparency=2)), expected)
    alpha = bytes([255, 128, 0, 255])
    actual = nobn.data.decode(file(picture, "PNG", transparency=alpha))
    expected = on_white(palette[places], np.frombuffer(alpha, np.uint8)[places])
    assert_allclose(actual, expected, atol=1)


def test_transparent_is_white():
    picture = Image.fromarray(np.dstack([COLOURS, ALPHA]), "RGBA")
    for form, options in (("PNG", {}), ("WEBP", {"lossless": True, "exact": True})):
        actual = nobn.data.decode(file(picture, form, **options))
        assert_allclose(actual, on_white(COLOURS, ALPHA), atol=1)
    picture = Image.fromarray(np.dstack([GREY, ALPHA]), "LA")
    actual = nobn.data.decode(file(picture, "PNG"))
    assert actual.shape[-1] == 1
    assert_allclose(actual, on_white(GREY[..., np.newaxis], ALPHA), atol=1)
    one = tuple(map(int, COLOURS[3, 4]))
    actual = nobn.data.decode(file(Image.fromarray(COLOURS), "PNG", transparency=one))
    hidden = (one == COLOURS).all(-1, keepdims=True)
    assert_array_equal(actual, np.where(hidden, 255, COLOURS))


def test_sixteen_bits():
    deep = RNG.integers(0, 1 << 16, (9, 13, 3), np.uint16)
    actual = nobn.data.decode(tf.io.encode_png(deep).numpy())
    assert_array_equal(actual, deep // 256)
    actual = nobn.data.decode(tf.io.encode_png(deep[..., :1]).numpy())
    assert_array_equal(actual, deep[..., :1] // 256)


@pytest.mark.parametrize(
    ("orientation", "seen"),
    [
        (1, lambda x: x),
        (6, lambda x: np.rot90(x, -1)),
        (7, lambda x: x[::-1, ::-1].swapaxes(0, 1)),
    ],
)
def test_orientation(orientation: int, seen: Any):
    exif = Image.Exif()
    exif[0x0112] = orientation
    actual = nobn.data.decode(file(Image.fromarray(COLOURS), "PNG", exif=exif))
    assert_array_equal(actual, seen(COLOURS))
    soft = np.stack([SOFT] * 3, -1)
    actual = nobn.data.decode(
        file(Image.fromarray(soft), "JPEG", quality=98, exif=exif)
    )
    assert_allclose(actual, seen(soft).astype(float), atol=4)


WHOLE = {
    "JPEG": file(Image.fromarray(np.stack([SOFT] * 3, -1)), "JPEG"),
    "PNG": file(Image.fromarray(COLOURS), "PNG"),
    "WEBP": file(Image.fromarray(COLOURS), "WEBP", lossless=True),
    "BMP": file(Image.fromarray(COLOURS), "BMP"),
    "GIF": file(Image.fromarray(GREY), "GIF"),
}


@pytest.mark.parametrize("form", list(WHOLE))
def test_a_file_that_is_cut_off(form: str):
    content = WHOLE[form][: int(0.6 * len(WHOLE[form]))]
    with pytest.raises(
        ValueError, match="^it is (damaged: .|not a JPEG, PNG, WebP, BMP)"
    ):
        nobn.data.decode(content)


def test_a_file_of_something_else(monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(ValueError, match="^it is not a JPEG, PNG, WebP, BMP or GIF$"):
        nobn.data.decode(b"a text with the name of a picture")
    with pytest.raises(ValueError, match="^it is not a JPEG"):
        nobn.data.decode(file(Image.fromarray(COLOURS), "TIFF"))
    with pytest.raises(ValueError, match="^it is empty$"):
        nobn.data.decode(b"")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50)
    with pytest.raises(ValueError, match="^it has more than 100 pixels$"):
        nobn.data.decode(WHOLE["PNG"])
