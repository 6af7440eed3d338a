"""ReActNet-18, whose every shift and gain has a batch norm to be compared with."""

import larq_nobn as nobn
import numpy as np
import pytest
import tensorflow as tf
from calibration.oracle import deviation, mean, sign_inputs, tensors
from larq_nobn._keras import keras

BLOCKS = ("stage1_block1", "stage1_block2", "stage2_block1", "stage2_block2")


def images(count=64):
    rng = np.random.default_rng(0)
    # Neighbours alike, and no mean of 0, as in real images.
    coarse = rng.normal(0.3, 1.0, (count, 4, 4, 2)).repeat(2, 1).repeat(2, 2)
    fine = rng.normal(0.0, 0.5, (count, 8, 8, 2))
    return (coarse + fine).astype(np.float32)


def network(**changes):
    keras.utils.set_random_seed(0)
    settings = {"width": 8, "blocks": (2, 2), "alpha": 0.5, **changes}
    return nobn.models.ReActNet18((8, 8, 2), 3, **settings)


@pytest.fixture(scope="module")
def calibrated():
    model = network()
    nobn.calibrate(model, images())
    return model


def outputs(model, names):
    wanted = [model.get_layer(name).output for name in names]
    return dict(zip(names, tensors(model, images(), wanted), strict=True))


def test_every_sign_sees_mean_zero(calibrated):
    for value in sign_inputs(calibrated, images()):
        assert np.abs(mean(value)).max() < 1e-5 * deviation(value).min()


def test_every_branch_has_the_standard_deviation_alpha(calibrated):
    for value in outputs(calibrated, [f"{name}_conv" for name in BLOCKS]).values():
        np.testing.assert_allclose(deviation(value), 0.5, rtol=1e-5)


def test_stem_and_projection_have_the_standard_deviation_one(calibrated):
    names = ["stem_conv", "stage2_block1_shortcut_conv"]
    for value in outputs(calibrated, names).values():
        np.testing.assert_allclose(deviation(value), 1.0, rtol=1e-5)


@pytest.mark.parametrize("block", BLOCKS)
def test_rprelu_takes_the_means_of_all_branches_away(calibrated, block):
    added = {
        "stage1_block1": ["stem_conv"],
        "stage2_block1": ["stage2_block1_shortcut_conv"],
    }
    names = [f"{block}_conv", *added.get(block, [])]
    means = [mean(value) for value in outputs(calibrated, names).values()]
    shift = calibrated.get_layer(f"{block}_act").shift_in.numpy()
    np.testing.assert_allclose(shift, -sum(means), rtol=1e-4, atol=1e-6)


def test_all_other_weights_stay():
    model = network()
    before = {w.name: w.numpy() for w in model.weights}
    nobn.calibrate(model, images())
    changed = {w.name for w in model.weights if np.any(w.numpy() != before[w.name])}
    kinds = ("/shift:0", "/gain:0", "/shift_in:0")
    assert changed == {name for name in before if name.endswith(kinds)}


def normalized(x, gain=1.0):
    """Batch norm in training, without the epsilon that guards constant channels."""
    return gain * (x - mean(x)) / deviation(x)


def convolved(x, kernel, strides=1, border=0.0):
    if kernel.shape[0] == 3:
        before = 2 - strides  # as TensorFlow pads an even size
        x = np.pad(
            x, ((0, 0), (before, 1), (before, 1), (0, 0)), constant_values=border
        )
    return tf.nn.conv2d(x, kernel, strides, "VALID").numpy()


def latent(model, name):
    kernel = model.get_layer(name).kernel
    kernel = getattr(kernel, "latent_variable", kernel).numpy().astype(np.float64)
    return kernel - kernel.mean((0, 1, 2))


def block(model, x, name, strides):
    signs = np.where(x - mean(x) >= 0, 1.0, -1.0)
    kernel = np.where(latent(model, f"{name}_conv") >= 0, 1.0, -1.0)
    y = normalized(convolved(signs, kernel, strides, 1.0), 0.5)
    if strides == 2:
        x = (x[:, ::2, ::2] + x[:, 1::2, ::2] + x[:, ::2, 1::2] + x[:, 1::2, 1::2]) / 4
        kernel = np.where(latent(model, f"{name}_shortcut_conv") >= 0, 1.0, -1.0)
        x = normalized(convolved(x, kernel))
    y = y + x
    return np.maximum(y, 0) + 0.25 * np.minimum(y, 0)


def test_equals_its_counterpart_with_batch_norm(calibrated):
    x = normalized(convolved(images().astype(float), latent(calibrated, "stem_conv")))
    for name in BLOCKS:
        x = block(calibrated, x, name, 2 if name == "stage2_block1" else 1)
        found = outputs(calibrated, [f"{name}_act"])[f"{name}_act"]
        np.testing.assert_allclose(found, x, atol=1e-5)
