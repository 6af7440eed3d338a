"""The command under test, and one tiny run and file that its tests share."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from larq_nobn.cli import main
from training.runs import eager, little_network, step_by_step  # noqa: F401

Invoke = Callable[..., Result]
TINY = (
    *("--dataset", "digits", "--width", "8", "--blocks", "1"),
    *("--epochs", "1", "--batch-size", "32", "--limit", "128"),
)


def _invoke(*arguments: object) -> Result:
    return CliRunner().invoke(
        main, [str(part) for part in arguments], prog_name="larq-nobn"
    )


@pytest.fixture(autouse=True)
def _same_logging_afterwards(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The command silences libraries for its process; here others share it."""
    monkeypatch.setenv(
        "TF_CPP_MIN_LOG_LEVEL", os.environ.get("TF_CPP_MIN_LOG_LEVEL", "2")
    )
    silenced = ("larq", "tensorflow", "absl", "matplotlib")
    loggers = [logging.getLogger(name) for name in silenced]
    levels = [logger.level for logger in loggers]
    yield
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)


@pytest.fixture(scope="session")
def invoke() -> Invoke:
    return _invoke


@pytest.fixture(scope="session")
def tiny() -> tuple[str, ...]:
    return TINY


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    folder = tmp_path_factory.mktemp("cli") / "run"
    with step_by_step():
        return folder, _invoke("train", *TINY, "--output", folder)


@pytest.fixture(scope="session")
def run_folder(trained: tuple[Path, Result]) -> Path:
    folder, result = trained
    assert result.exit_code == 0, result.output
    return folder


@pytest.fixture(scope="session")
def converted(
    run_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Result]:
    folder = tmp_path_factory.mktemp("phone")
    file, report = folder / "model.tflite", folder / "report.json"
    return file, _invoke("convert", run_folder, file, "--json", report)


@pytest.fixture(scope="session")
def lite_file(converted: tuple[Path, Result]) -> Path:
    file, result = converted
    assert result.exit_code == 0, result.output
    return file
