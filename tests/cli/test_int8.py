"""`larq-nobn convert --int8`."""

from collections.abc import Callable
from pathlib import Path

import larq_nobn as nobn
import pytest
from larq_nobn import deploy
from click.testing import Result
from deploy.nets import binary_conv, chain, head, images

pytestmark = pytest.mark.convert
Invoke = Callable[..., Result]


def test_a_quantized_model_becomes_an_int8_file(tmp_path: Path, invoke: Invoke):
    given, file = tmp_path / "m.keras", tmp_path / "m.tflite"
    deploy.fake_quantize(chain(binary_conv(), *head()), images()).save(given)
    result = invoke("convert", given, file, "--int8")
    assert result.exit_code == 0, result.output
    (tensor,) = deploy.Runner(file.read_bytes()).input_tensors
    assert tensor.dtype == "int8"
    assert not nobn.audit(file).float_ops


def test_another_model_is_rejected_in_one_sentence(tmp_path: Path, invoke: Invoke):
    given, file = tmp_path / "m.keras", tmp_path / "m.tflite"
    chain(binary_conv(), *head()).save(given)
    result = invoke("convert", given, file, "--int8")
    assert result.exit_code == 2
    assert "contains no FakeQuantization" in result.output
    assert not file.exists()
