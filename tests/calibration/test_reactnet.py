"""ReActNet-18, whose every shift and gain has a batch norm to be compared with."""

import larq_nobn as nobn
import numpy as np
import tensorflow as tf
from calibration.oracle import deviation, mean, tensors
from larq_nobn._keras import keras

BLOCKS = ("stage1_block1", "stage1_block2", "stage2_block1", "stage2_block2")


def images(count=64):
    rng = np.random.default_rng(0)
    # Neighbours alike, and no mean of 0, as in real images.
    coarse = rng.normal(0.3, 1.0, (count, 4, 4, 2)).repeat(2, 1).repeat(2, 2)
    fine = rng.normal(0.0, 0.5, (count, 8, 8, 2))
    return (coarse + fine).astype(np.float32)


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


def latent(model, name, center=np.median):
    kernel = model.get_layer(name).kernel
    kernel = getattr(kernel, "latent_variable", kernel).numpy().astype(np.float64)
    return kernel - center(kernel, (0, 1, 2))


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


def test_equals_its_counterpart_with_batch_norm():
    """By shifts of signs and activations and gains of kernels; all else stays."""
    keras.utils.set_random_seed(0)
    model = nobn.models.ReActNet18((8, 8, 2), 3, width=8, blocks=(2, 2))
    before = {w.name: w.numpy() for w in model.weights}
    nobn.calibrate(model, images())
    changed = {w.name for w in model.weights if np.any(w.numpy() != before[w.name])}
    kinds = ("/shift:0", "/gain:0", "/shift_in:0")
    assert changed == {name for name in before if name.endswith(kinds)}
    x = normalized(
        convolved(images().astype(float), latent(model, "stem_conv", np.mean))
    )
    ends = [model.get_layer(f"{name}_act").output for name in BLOCKS]
    for name, actual in zip(BLOCKS, tensors(model, images(), ends), strict=True):
        x = block(model, x, name, 2 if name == "stage2_block1" else 1)
        np.testing.assert_allclose(actual, x, atol=1e-5, err_msg=name)
