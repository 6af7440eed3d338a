"""One tiny run, shared by the tests that only look at it, and what others save by."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from larq_nobn import training
from training.runs import eager, little_network, without_curves  # noqa: F401

TINY = training.RunSettings(
    "plain", dataset="digits", width=8, blocks=(1,), epochs=2, batch_size=32, limit=128
)


@pytest.fixture(scope="session")
def tiny_settings() -> training.RunSettings:
    return TINY


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> training.Run:
    folder: Path = tmp_path_factory.mktemp("training") / "run"
    return training.train(TINY, folder)


@pytest.fixture(autouse=True)
def blank_curves() -> Iterator[None]:
    """For the runs of single tests; those that tests share have a true image."""
    with without_curves():
        yield
