"""Checkpoints of A&B BNN: state dicts of parallel modules, in files named `.h5`."""

import larq_nobn as nobn
import pytest
import torch
from click.testing import CliRunner
from interop import published_ab, published_bnn_nobn
from interop.comparing import assert_same_function, images
from interop.published import randomized
from larq_nobn.cli import main
from larq_nobn.interop import load_ab, load_bnn_nobn
from larq_nobn.training import open_model

SIZE = (16, 16)


def save(network, path):
    state = network.state_dict()
    torch.save({f"module.{name}": value for name, value in state.items()}, path)
    return path


@pytest.fixture
def path(tmp_path):
    return tmp_path / "step2.h5"


@pytest.mark.parametrize(
    "name, arguments, size, found",
    [
        ("ReActNet18", {}, (32, 32), "reactnet7"),
        ("ReActNetA", {}, (32, 32), "reactnet_a"),
        ("BiRealNet18", {}, (32, 32), "birealnet7"),
        ("ReActNet18", {"large": True, "blocks": (1, 1)}, (64, 48), "reactnet4"),
        # Maps of 18x11, of which the even side starts elsewhere.
        ("XNORNet18", {"large": True, "blocks": (1, 1)}, (72, 44), "xnornet4"),
    ],
)
def test_outputs_are_those_of_pytorch(name, arguments, size, found, path):
    network = randomized(getattr(published_ab, name)(**arguments), seed=0)
    model = load_ab(save(network, path), size)
    assert model.name == found
    assert_same_function(network, model, size)


@pytest.mark.parametrize("name", ["ReActNet18", "ReActNetA", "XNORNet18"])
def test_first_step_and_another_alpha(name, path):
    # A second block, whose input has another variance by alpha.
    network = getattr(published_ab, name)(binary=False, alpha=0.4, blocks=(2, 1))
    network = randomized(network, seed=1)
    model = load_ab(save(network, path), SIZE, binary_weights=False, alpha=0.4)
    assert_same_function(network, model, SIZE)


@pytest.mark.parametrize(
    "classes, size, stride, expected",
    [
        (10, None, None, (32, 32)),
        (1000, None, None, (224, 112)),
        (10, None, 2, (224, 112)),
        (1000, None, 1, (32, 32)),
        (1000, (63, 64), None, (63, 63)),
        (10, (64, 64), None, (64, 32)),
        (10, (64, 64), 1, (64, 64)),
    ],
)
def test_images_and_stem_of_reactnet_a(classes, size, stride, expected, path):
    """Outputs of stride 2 on small images are those of `test_command`."""
    network = published_ab.ReActNetA(width=2, blocks=(1,), classes=classes)
    model = load_ab(save(randomized(network, 0), path), size, stem_stride=stride)
    stem = model.get_layer("stem_conv")
    assert (model.input_shape[1], stem.output_shape[1]) == expected
    assert model.output_shape == (None, classes)


def test_it_trains_by_the_published_rules(path):
    network = published_ab.ReActNet18(blocks=(1, 1))
    model = load_ab(save(randomized(network, 0), path), SIZE)
    sign = model.get_layer("stage2_block1_conv").input_quantizer
    assert sign.estimator == "sigmoid_sign"
    assert model.get_layer("stage2_block1_act").power_of_two is True


@pytest.mark.convert
@pytest.mark.slow
@pytest.mark.parametrize("name", ["ReActNet18", "XNORNet18"])
def test_it_converts(name, path, tmp_path):
    network = randomized(getattr(published_ab, name)(blocks=(1, 1)), seed=0)
    model = load_ab(save(network, path), SIZE)
    report = nobn.convert(model, tmp_path / "a.tflite", data=images(SIZE))
    assert report.lce_bconv2d == 2


def command(path, output, *words):
    words = ["import", str(path), str(output), "--source", "ab", *words]
    return CliRunner().invoke(main, words)


def test_command(path, tmp_path):
    network = published_ab.ReActNetA(
        binary=False, alpha=0.3, width=2, blocks=(1, 1), stem_stride=2
    )
    save(randomized(network, 0), path)
    output = tmp_path / "a.keras"
    words = ["--image-size", "32", "32", "--real-weights", "--alpha", "0.3"]
    result = command(path, output, *words, "--stem-stride", "2")
    assert result.exit_code == 0, result.output
    assert "a.keras contains reactnet_a: " in result.output
    assert "images of 32x32x3, 7 classes" in result.output
    assert_same_function(network, open_model(output), (32, 32))


def test_the_command_takes_the_published_alpha(path, tmp_path):
    """Of a network for small images, too."""
    network = randomized(published_ab.XNORNet18(width=4, blocks=(1, 1)), 0)
    output = tmp_path / "xnor.keras"
    result = command(save(network, path), output)
    assert result.exit_code == 0, result.output
    assert_same_function(network, open_model(output), (32, 32))


@pytest.fixture
def state():
    network = published_ab.XNORNet18(width=4, blocks=(1, 1))
    return dict(randomized(network, 0).state_dict())


def test_a_missing_tensor_leaves_no_file(state, path, tmp_path):
    del state["prelu1.weight"]
    torch.save(state, path)
    output = tmp_path / "xnor.keras"
    result = command(path, output)
    assert result.exit_code == 2
    assert result.output.startswith("Error: The checkpoint misses tensors: prelu1.we")
    assert not output.exists()


def test_a_file_of_keras(path):
    path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    with pytest.raises(ValueError, match="is damaged or no PyTorch checkpoint"):
        load_ab(path)


@pytest.mark.parametrize(
    "name, message",
    [
        ("ReActNet18", "is not a checkpoint of BNN-BN: it has neither"),
        ("ReActNetA", "misses tensors: feature.1.prelu1.weight, "),
    ],
)
def test_checkpoints_of_one_source_are_rejected_by_the_other(name, message, path):
    form = published_bnn_nobn.Form("nobn")
    other = getattr(published_bnn_nobn, name)(form, 4, blocks=(1,))
    save(randomized(other, 0), path)
    with pytest.raises(
        ValueError, match="is not a checkpoint of A&B BNN: it has neither"
    ):
        load_ab(path)
    ours = getattr(published_ab, name)(width=4, blocks=(1,))
    save(randomized(ours, 0), path)
    with pytest.raises(ValueError, match=message):
        load_bnn_nobn(path)


@pytest.mark.parametrize(
    "name, kept",
    [
        ("layer1.0.conv1.weight", "layer1.0.prelu.L_alpha"),
        ("feature.1.binary_3x3.weight", "feature.1.prelu1.L_alpha"),
    ],
)
def test_the_first_binary_kernel_missing(name, kept, path):
    start = {"conv1.weight": (4, 3, 3, 3), "feature.0.conv1.weight": (4, 3, 3, 3)}
    shapes = {**start, "fc.weight": (7, 4), kept: (4,)}
    torch.save({name: torch.ones(shape) for name, shape in shapes.items()}, path)
    with pytest.raises(ValueError, match=f"checkpoint's {name} is missing, but"):
        load_ab(path)


def test_wrong_shapes(state, path):
    torch.save({**state, "prelu2.weight": torch.zeros(5)}, path)
    message = r"prelu2.weight of shape \(5,\) instead of \(8,\)"
    with pytest.raises(ValueError, match=message):
        load_ab(path)


def test_stem_strides_that_are_none(state, path):
    torch.save(state, path)
    with pytest.raises(ValueError, match="stem_stride=1 is for ReActNet-A only, and"):
        load_ab(path, stem_stride=1)
    with pytest.raises(ValueError, match="stem_stride must be 1, 2, or None .*; got 3"):
        load_ab(path, stem_stride=3)


def test_alpha_and_stage(path):
    with pytest.raises(ValueError, match=r"alpha=0 is outside .* code uses 0.25"):
        load_ab(path, alpha=0)
    with pytest.raises(TypeError, match="binary_weights=2 is neither True nor False"):
        load_ab(path, binary_weights=2)
