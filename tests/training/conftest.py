"""One tiny run, shared by the tests that only look at it."""

from __future__ import annotations

from pathlib import Path

import pytest
from larq_nobn import training

TINY = training.RunSettings(
    dataset="digits", width=8, blocks=(1,), epochs=2, batch_size=32, limit=128
)


@pytest.fixture(scope="session")
def tiny_settings() -> training.RunSettings:
    return TINY


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> training.Run:
    folder: Path = tmp_path_factory.mktemp("training") / "run"
    return training.train(TINY, folder)
