"""Folders of tiny images, and a cache folder of the test's own."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path

import larq_nobn  # noqa: F401  (first: it selects legacy Keras)
import numpy as np
import pytest
from PIL import Image

Write = Callable[..., Path]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("LARQ_NOBN_CACHE", str(folder))
    return folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "pictures"


@pytest.fixture
def write(root: Path) -> Write:
    """Writes an image of random pixels; equal seeds give equal files."""

    def write_one(
        name: str, seed: int | None = None, shape: tuple[int, ...] = (6, 6, 3)
    ) -> Path:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        number = sum(name.encode()) if seed is None else seed
        path.write_bytes(png(number, shape))
        return path

    return write_one


def png(seed: int, shape: tuple[int, ...] = (6, 6, 3)) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def content_of(folder: Path) -> list[tuple[str, int, int]]:
    """What changes if anything in a folder is written."""
    actual = []
    for place, _, names in os.walk(folder):
        for path in (Path(place), *(Path(place, name) for name in names)):
            state = path.lstat()
            actual.append((str(path), state.st_size, state.st_mtime_ns))
    return sorted(actual)
