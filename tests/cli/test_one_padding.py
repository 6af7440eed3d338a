"""A file whose binary convolutions are padded with zeros, converted on request."""

import json
from collections.abc import Callable
from pathlib import Path

import larq as lq
import pytest
from click.testing import Result
from larq_nobn._keras import keras


@pytest.mark.convert
def test_a_map_smaller_than_its_kernel_is_padded_with_ones(
    tmp_path: Path, invoke: Callable[..., Result]
):
    conv = lq.layers.QuantConv2D(
        32,
        3,
        padding="same",
        input_quantizer="ste_sign",
        kernel_quantizer="ste_sign",
        kernel_constraint="weight_clip",
        name="conv",
    )
    given, file = tmp_path / "model.keras", tmp_path / "model.tflite"
    keras.Sequential([keras.Input((2, 2, 32)), conv]).save(given)
    zeros, ones = (
        json.loads(invoke("convert", given, file, *option, "--json", "-").stdout)
        for option in ((), ("--one-padding", "--force"))
    )
    assert (zeros["repadded"], ones["repadded"]) == ([], ["conv"])
    assert ([row["layer"] for row in zeros["rewritten"]], ones["rewritten"]) == (
        ["conv"],
        [],
    )
    assert file.exists()
