"""What becomes of an imported network: its files, and its command."""

import larq_nobn as nobn
import numpy as np
import pytest
from click.testing import CliRunner
from interop.comparing import assert_same_function, images, save
from interop.published import randomized
from interop.published_bnn_nobn import Form, ReActNet18
from larq_nobn.cli import main
from larq_nobn.interop._half_turn import HalfTurn
from larq_nobn.training import open_model
from numpy.testing import assert_array_equal

SIZE = (16, 16)


def test_half_turn():
    x = images((4, 5))
    turned = HalfTurn()(x)
    assert_array_equal(turned, np.rot90(x, 2, (1, 2)))
    assert HalfTurn().compute_output_shape((None, 4, 5, 3)) == (None, 4, 5, 3)


def test_command_for_a_first_stage(tmp_path):
    form = Form("nobn", binary=False, alpha=0.5)
    network = randomized(ReActNet18(form, 4, (1, 1)), seed=0)
    output = tmp_path / "stage1.keras"
    words = ["import", save(network, tmp_path / "best.pth.tar"), output]
    words += ["--source", "bnn_nobn", "--real-weights", "--alpha", 0.5]
    words += ["--image-size", *SIZE]
    result = CliRunner().invoke(main, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    model = open_model(output)
    said = f"stage1.keras contains reactnet4: {model.count_params():,} values, images"
    assert f"{said} of 16x16x3, 7 classes" in result.output
    assert_same_function(network, model, SIZE)


def test_command_answers_in_a_sentence(tmp_path):
    words = ["import", tmp_path / "none.pth", tmp_path / "a.keras"]
    result = CliRunner().invoke(main, [str(word) for word in words])
    assert result.exit_code == 2
    assert result.output.startswith("Error: ") and "is not a file" in result.output


@pytest.mark.convert
@pytest.mark.slow
def test_it_converts(tmp_path):
    network = randomized(ReActNet18(Form("nobn"), 8, (1, 1)), seed=0)
    model = nobn.interop.load_bnn_nobn(save(network, tmp_path / "a.pth.tar"), SIZE)
    report = nobn.convert(model, tmp_path / "a.tflite", data=images(SIZE))
    assert report.lce_bconv2d == 2
