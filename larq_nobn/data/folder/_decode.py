"""Decodes image files to 8 bits, upright and opaque, and scales them for a network."""

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
    """Decodes an image file to 8 bits, upright and opaque.

    Images are rotated as their EXIF orientation says, transparent pixels become white,
    animations give their first frame, and 16 bits give the upper eight.

    Arguments:
        content: The bytes of a JPEG, PNG, WebP, BMP or GIF file.

    Returns:
        (height, width, channels), uint8: one channel if the file is gray, else red,
        green and blue.

    Raises:
        ImportError: If Pillow is not installed.
        ValueError: If the content is another kind of file, or damaged; says which.

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
    except Exception as problem:  # Pillow's decoders raise errors of many types
        kind = type(problem).__name__
        raise InvalidValue(f"it is damaged: {kind}: {problem}") from problem
    if mode in _GRAY or (mode == "P" and (pixels == pixels[..., :1]).all()):
        return pixels[..., :1]
    return pixels


def _pixels(opened: Any) -> np.ndarray:
    """Decodes an opened image to red, green and blue, on a white background."""
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
    region: np.ndarray | None = None,
) -> np.ndarray:
    """Returns the image in a file, given as path or content, scaled to a shape.

    If `exact`, means of pixels stay float32, as apps compute them; else they are
    rounded to bytes. `crop` is the fraction of each side in a center crop. `region` is
    another part of the image, see `Transform.regions`.
    """
    pixels = decode(file if isinstance(file, bytes) else file.read_bytes())
    if region is not None:
        pixels, crop = _resized(pixels, region.tolist(), shape[:2]), 1.0
    return fitted(pixels, shape, exact, crop)


def fitted(
    pixels: np.ndarray, shape: tuple[int, int, int], exact: bool, crop: float = 1.0
) -> np.ndarray:
    """Returns an image scaled to a shape, see `image_of`."""
    if pixels.shape == shape and crop == 1:  # scaling would not change a pixel
        return pixels.astype(np.float32) if exact else pixels
    means = scaled(pixels[np.newaxis], shape[:2], shape[2], crop)[0]
    return means if exact else np.rint(means).astype(np.uint8)


def _resized(
    pixels: np.ndarray, region: Sequence[float], size: tuple[int, int]
) -> np.ndarray:
    """Returns a region of an image in another size, smoothed if it gets smaller."""
    from PIL import Image

    (high, wide, down, right), (height, width) = region, pixels.shape[:2]
    rows = high * min(height, width * size[0] / size[1])
    columns = wide * min(width, height * size[1] / size[0])
    top, left = down * (height - rows), right * (width - columns)
    box = left, top, min(left + columns, width), min(top + rows, height)
    image = Image.fromarray(pixels if pixels.shape[2] == 3 else pixels[..., 0])
    image = image.resize(size[::-1], Image.Resampling.BILINEAR, box)
    return np.asarray(image).reshape(*size, pixels.shape[2])
