"""Image files as pixels: upright, opaque, in 8 bits, and of the size of a network."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..._checks import check_kind
from ..._errors import InvalidValue, needing
from .._area import scaled

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF")
_GRAY = ("1", "L", "LA", "La")


def decode(content: bytes) -> np.ndarray:
    """Decodes an image file to 8 bits: upright, opaque.

    An image is turned as its EXIF orientation says, what is transparent is white, of
    an animation the first frame is shown, and of 16 bits the upper eight are kept.

    Arguments:
        content: A file of JPEG, PNG, WebP, BMP or GIF, whatever its name.

    Returns:
        (height, width, channels), uint8: one channel if the file is gray, else red,
        green and blue.

    Raises:
        ImportError: If Pillow is not installed.
        ValueError: If the content is no such file, or is damaged; says what is wrong.

    Example:
        ```python
        pixels = nobn.data.decode(Path("cat.jpg").read_bytes())
        ```
    """
    with needing("Images need Pillow", "data"):
        from PIL import Image, ImageOps
    check_kind("content", content, bytes, "bytes. Read the file first")
    if not content:
        raise InvalidValue("it is empty")
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as opened:
            ImageOps.exif_transpose(opened, in_place=True)
            mode, pixels = opened.mode, _pixels(opened)
    except Image.UnidentifiedImageError as problem:
        raise InvalidValue("it is not a JPEG, PNG, WebP, BMP or GIF") from problem
    except Image.DecompressionBombError as problem:
        most = 2 * (Image.MAX_IMAGE_PIXELS or 0)
        raise InvalidValue(f"it has more than {most:,} pixels") from problem
    except MemoryError:
        raise
    except Exception as problem:  # of Pillow's decoders, which complain in many ways
        kind = type(problem).__name__
        raise InvalidValue(f"it is damaged: {kind}: {problem}") from problem
    if mode in _GRAY or (mode == "P" and (pixels == pixels[..., :1]).all()):
        return pixels[..., :1]
    return pixels


def _pixels(opened: Any) -> np.ndarray:
    """Decodes an opened image to red, green and blue, on white."""
    from PIL import Image

    if opened.mode.startswith("I"):  # gray of 16 bits
        return (np.asarray(opened) >> 8).astype(np.uint8)[..., np.newaxis]
    if opened.has_transparency_data:
        white = Image.new("RGBA", opened.size, "white")
        opened = Image.alpha_composite(white, opened.convert("RGBA"))
    return np.array(opened.convert("RGB"))


def image_of(
    file: Path | bytes,
    shape: tuple[int, int, int],
    exact: bool,
    crop: float = 1.0,
    part: np.ndarray | None = None,
) -> np.ndarray:
    """Returns the image in a file, a path or its content, scaled to a shape.

    If `exact`, means of pixels stay float32, as an app computes them; else they become
    bytes again. `crop` is the fraction of the middle part that is used, per side;
    `part` is another part, as `Transform.parts` says.
    """
    pixels = decode(file if isinstance(file, bytes) else file.read_bytes())
    if part is not None:
        pixels, crop = _resized(pixels, part.tolist(), shape[:2]), 1.0
    return fitted(pixels, shape, exact, crop)


def fitted(
    pixels: np.ndarray, shape: tuple[int, int, int], exact: bool, crop: float = 1.0
) -> np.ndarray:
    """Returns an image scaled to a shape, see `image_of`."""
    if pixels.shape == shape and crop == 1:  # each new pixel is the mean of one
        return pixels.astype(np.float32) if exact else pixels
    means = scaled(pixels[np.newaxis], shape[:2], shape[2], crop)[0]
    return means if exact else np.rint(means).astype(np.uint8)


def _resized(
    pixels: np.ndarray, part: Sequence[float], size: tuple[int, int]
) -> np.ndarray:
    """Returns a part of an image in another size, smoothed where it gets smaller."""
    from PIL import Image

    (high, wide, down, right), (height, width) = part, pixels.shape[:2]
    rows = high * min(height, width * size[0] / size[1])
    columns = wide * min(width, height * size[1] / size[0])
    top, left = down * (height - rows), right * (width - columns)
    box = left, top, min(left + columns, width), min(top + rows, height)
    image = Image.fromarray(pixels if pixels.shape[2] == 3 else pixels[..., 0])
    image = image.resize(size[::-1], Image.Resampling.BILINEAR, box)
    return np.asarray(image).reshape(*size, pixels.shape[2])
