"""What becomes of an imported network: its files, its command, its training."""

import larq_nobn as nobn
import numpy as np
import pytest
from click.testing import CliRunner
from interop.comparing import assert_same_function, images, save
from interop.published import randomized
from interop.published_bnn_nobn import Form, ReActNet18
from interop.published_recu import ResNet20
from larq_nobn.cli import main
from larq_nobn.interop._half_turn import HalfTurn
from larq_nobn.training import open_model
from numpy.testing import assert_array_equal

SIZE = (16, 16)


@pytest.fixture(scope="module")
def resnet20():
    return randomized(ResNet20(8, (1, 1, 1)), seed=2)


def test_half_turn():
    x = images((4, 5))
    turned = HalfTurn()(x)
    assert_array_equal(turned, np.rot90(x, 2, (1, 2)))
    assert HalfTurn().compute_output_shape((None, 4, 5, 3)) == (None, 4, 5, 3)


def test_command(resnet20, tmp_path):
    checkpoint, output = tmp_path / "best.pth.tar", tmp_path / "resnet20.keras"
    save(resnet20, checkpoint)
    words = ["import", checkpoint, output, "--source", "recu", "--image-size", 16, 16]
    result = CliRunner().invoke(main, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    model = open_model(output)
    assert (
        f"resnet20.keras contains recu_resnet20: {model.count_params():,} values"
        in result.output
    )
    assert "images of 16x16x3, 7 classes" in result.output
    assert_same_function(resnet20, model, SIZE)


def test_command_for_a_first_stage(tmp_path):
    form = Form("nobn", binary=False, alpha=0.5)
    network = randomized(ReActNet18(form, 4, (1, 1)), seed=0)
    output = tmp_path / "stage1.keras"
    words = ["import", save(network, tmp_path / "best.pth.tar"), output]
    words += ["--source", "bnn_nobn", "--real-weights", "--alpha", 0.5]
    result = CliRunner().invoke(main, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    assert_same_function(network, open_model(output), (32, 32))


def test_command_answers_in_a_sentence(tmp_path):
    words = ["import", tmp_path / "none.pth", tmp_path / "a.keras", "--source", "recu"]
    result = CliRunner().invoke(main, [str(word) for word in words])
    assert result.exit_code == 2
    assert result.output.startswith("Error: ") and "is not a file" in result.output


@pytest.mark.slow
def test_it_trains_on(resnet20, tmp_path):
    model = nobn.interop.load_recu(save(resnet20, tmp_path / "best.pth.tar"), SIZE)
    tau = model.get_layer("stage1_block1_first_conv").kernel_quantizer.tau
    assert float(tau) == pytest.approx(0.97)
    before = model.get_weights()
    model.compile("sgd", "mse", run_eagerly=True)
    model.fit(images(SIZE), np.zeros((3, 7)), verbose=0)
    pairs = zip(before, model.get_weights(), strict=True)
    moved = [not np.array_equal(*pair) for pair in pairs]
    same = {w.name for w, new in zip(model.weights, moved, strict=True) if not new}
    # Batch norm takes out what alpha puts in.
    assert {name.split("/")[-1] for name in same} == {"tau:0", "alpha:0"}


@pytest.mark.convert
@pytest.mark.slow
def test_it_converts(tmp_path):
    network = randomized(ReActNet18(Form("nobn"), 8, (1, 1)), seed=0)
    model = nobn.interop.load_bnn_nobn(save(network, tmp_path / "a.pth.tar"), SIZE)
    report = nobn.convert(model, tmp_path / "a.tflite", data=images(SIZE))
    assert report.lce_bconv2d == 2


@pytest.mark.convert
@pytest.mark.slow
def test_it_converts_with_batch_norm_folded(resnet20, tmp_path):
    model = nobn.interop.load_recu(save(resnet20, tmp_path / "a.pth.tar"), SIZE)
    folded = nobn.fold_batch_norm(model)
    assert_same_function(resnet20, folded, SIZE)
    report = nobn.convert(folded, tmp_path / "a.tflite", data=images(SIZE))
    assert report.lce_bconv2d == 6
