"""Imported networks: their outputs, signs, files and command."""

import larq_nobn as nobn
import larq as lq
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from interop.published import (
    ReActNet18,
    ReActNetA,
    assert_same_function,
    save,
    state_of,
)
from larq_nobn.cli import main
from larq_nobn.interop._reactnets import convolution
from larq_nobn.quantizers import ScaledStdSign
from larq_nobn.training import open_model
from numpy.testing import assert_array_equal

SIZE = (16, 16)


@pytest.mark.parametrize(
    "kind, form, arguments, size",
    [
        (ReActNet18, "nobn", {}, (16, 12)),
        (ReActNet18, "batch_norm", {"large": True, "blocks": (1, 1)}, (40, 32)),
        (ReActNetA, "batch_norm", {}, (32, 24)),
        (ReActNet18, "ab", {"large": True, "blocks": (2, 3, 2)}, (64, 32)),
        (ReActNetA, "ab", {"blocks": (1, 2, 2)}, (16, 12)),
    ],
    ids=["18-nobn", "18-imagenet", "a-batch_norm", "34-ab", "a-ab"],
)
def test_outputs_are_those_of_the_formulas(kind, form, arguments, size, tmp_path):
    network = kind(form, **arguments)
    path = save(network, tmp_path / "checkpoint.pth.tar", prefix="module.")
    assert_same_function(network, nobn.interop.import_checkpoint(path, size), size)


def test_a_source_that_it_is_not_of(tmp_path):
    network = ReActNet18("ab", 4, (1, 1))
    path = save(network, tmp_path / "ab.pth")
    with pytest.raises(ValueError, match="source='bnn_nobn', but of A&B BNN"):
        nobn.interop.import_checkpoint(path, SIZE, source="bnn_nobn")
    result = command(path, tmp_path / "ab.keras", "--source", "ab")
    assert result.exit_code == 0, result.output
    assert open_model(tmp_path / "ab.keras").input_shape == (None, 32, 32, 3)
    state = {k: v for k, v in state_of(network).items() if "gain" not in k}
    torch.save(state, path)
    with pytest.raises(ValueError, match="not the gains"):
        nobn.interop.import_checkpoint(path)


def test_first_stage_and_another_alpha(tmp_path):
    # A second block, whose input has another variance by alpha.
    network = ReActNetA("nobn", blocks=(2, 1), binary=False, alpha=0.3, seed=1)
    path = save(network, tmp_path / "stage1.pth.tar")
    model = nobn.interop.load_bnn_nobn(path, SIZE, binary_weights=False, alpha=0.3)
    assert_same_function(network, model, SIZE)


def kernel_of_ties():
    """A tenth of the weights are within a few digits of the mean in float32."""
    random = np.random.default_rng(0)
    kernel = random.normal(0.02, 0.3, (8, 512, 3, 3)).astype(np.float32)
    tied = random.random(kernel.shape) < 0.1
    digits = random.integers(-20, 21, kernel.shape).astype(np.float32)
    for _ in range(12):  # every weight put there moves the mean a tenth as far
        mean = kernel.mean((1, 2, 3), keepdims=True)
        kernel = np.where(tied, mean + digits * np.spacing(mean), kernel)
    return kernel, tied


def sides_here(kernel):
    values = ScaledStdSign()(np.ascontiguousarray(kernel.transpose(2, 3, 1, 0)))
    return np.sign(values).transpose(3, 2, 0, 1)


def test_weights_beside_the_mean_fall_where_pytorch_has_them():
    kernel, tied = kernel_of_ties()
    weights = torch.from_numpy(kernel)
    # As the published code takes the mean.
    _, mean = torch.std_mean(weights, dim=[1, 2, 3], keepdim=True, unbiased=False)
    there = (weights - mean).sign().numpy()
    layer = lq.layers.QuantConv2D(8, 3, kernel_quantizer=ScaledStdSign(), name="conv")
    layer(np.zeros((1, 3, 3, 512), np.float32))
    set_here = convolution("conv", layer)["conv.weight"].arrange(kernel)
    moved = set_here[::-1, ::-1].transpose(3, 2, 0, 1)
    assert (sides_here(kernel) != there)[there != 0].any()
    assert_array_equal(sides_here(moved)[there != 0], there[there != 0])
    assert_array_equal(moved[~tied], kernel[~tied])
    assert np.abs(moved - kernel).max() <= 2e-6 * np.abs(kernel).max()


def command(*words):
    return CliRunner().invoke(main, ["import", *map(str, words)])


def test_command_for_a_first_stage(tmp_path):
    network = ReActNet18("nobn", 4, (1, 1), binary=False, alpha=0.5)
    path, output = save(network, tmp_path / "best.pth.tar"), tmp_path / "stage1.keras"
    words = ["--real-weights", "--alpha", 0.5]
    result = command(path, output, *words, "--image-size", *SIZE)
    assert result.exit_code == 0, result.output
    model = open_model(output)
    said = f"stage1.keras contains ReActNet4: {model.count_params():,} values, inputs"
    assert f"{said} of 16x16x3, 7 classes" in result.output
    assert_same_function(network, model, SIZE)
    result = command(tmp_path / "none.pth", tmp_path / "a.keras")
    assert result.exit_code == 2
    assert result.output.startswith("Error: ") and "is not a file" in result.output
