"""`larq-nobn audit` on files of other converters, and on files that are none."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from larq_nobn import deploy
from click.testing import Result
from deploy.audit.lite_files import plain_file
from deploy.nets import binary_conv, chain
from larq_nobn._keras import keras

pytestmark = pytest.mark.convert
Invoke = Callable[..., Result]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("audit")
    zeros = [binary_conv(32, pad_values=0.0) for _ in range(2)]
    zeros += [keras.layers.ReLU(), binary_conv(32)]
    for name, layers in (("one", [binary_conv(32)]), ("zero", zeros)):
        content = plain_file(chain(*layers, name=name))
        (folder / f"{name}.tflite").write_bytes(content)
    return folder / "one.tflite", folder / "zero.tflite"


def test_it_shows_operations_and_savings(files: tuple[Path, Path], invoke: Invoke):
    shown = invoke("audit", files[1])
    assert shown.exit_code == 0
    assert "LceBconv2d (zero-pad)" in shown.stdout
    assert "what could be saved" in shown.stdout
    shown = invoke("audit", files[0])
    assert "what could be saved" not in shown.stdout
    assert invoke("summary", files[0]).stdout == shown.stdout


def test_it_compares(files: tuple[Path, Path], invoke: Invoke):
    shown = invoke("audit", files[1], "--against", files[0])
    assert shown.exit_code == 0
    assert "float RELU" in shown.stdout
    assert "binary macs" in shown.stdout
    report = invoke("audit", files[1], "--against", files[0], "--json", "-")
    assert json.loads(report.stdout) == deploy.diff(*files[::-1])
