"""What people do with any Keras model, done with binary ones."""

import larq_nobn as nobn
import larq as lq
import numpy as np
import pytest
import tensorflow as tf
from larq_nobn._keras import keras

RNG = np.random.default_rng(0)
X = RNG.normal(size=(10, 6)).astype("f4")
Y = RNG.normal(size=(10, 3)).astype("f4")


def made(**options):
    keras.utils.set_random_seed(3)
    layer = lq.layers.QuantDense(
        3, input_quantizer="rsign", kernel_quantizer="scaled_std_sign"
    )
    model = keras.Sequential([keras.Input((6,)), layer])
    model.compile(keras.optimizers.Adam(0.05), "mse", **options)
    return model


def fit(model, x=X, y=Y, **kwargs):
    kwargs = {"batch_size": 4, "epochs": 4, "shuffle": False, "verbose": 0, **kwargs}
    return model.fit(x, y, **kwargs)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Weights after a training as anybody would make it, and a file of each epoch."""
    folder, model = tmp_path_factory.mktemp("epochs"), made()
    fit(model, callbacks=[keras.callbacks.ModelCheckpoint(f"{folder}/{{epoch}}.keras")])
    return model.get_weights(), folder


def assert_same(model, weights):
    for one, other in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_allclose(one, other, 1e-5, 1e-6)


def test_steps_that_are_executed_in_another_way_are_the_same(whole):
    """Of 3 steps, the last of 2 examples."""
    model = made(steps_per_execution=3)
    fit(model)
    assert_same(model, whole[0])


def test_checkpoints_of_every_epoch_resume(whole):
    again = keras.models.load_model(whole[1] / "2.keras")
    fit(again, epochs=2)
    assert_same(again, whole[0])


@pytest.mark.convert
def test_zero_kernels_and_pruned_zeros_are_converted(tmp_path):
    layer = lq.layers.QuantConv2D(
        32, 3, input_quantizer="ste_sign", kernel_quantizer="ste_sign"
    )
    model = keras.Sequential([keras.Input((5, 5, 4)), layer])
    kernel = RNG.normal(size=layer.kernel.shape).astype("f4")
    kernel[..., :3] = 0  # whole filters, and every other weight
    kernel[::2] = 0
    layer.kernel.latent_variable.assign(kernel)
    report = nobn.convert(model, tmp_path / "model.tflite")
    assert report.lce_bconv2d == 1
    signs = np.where(kernel >= 0, 1.0, -1.0)
    x = RNG.normal(size=(2, 5, 5, 4)).astype("f4")
    expected = tf.nn.conv2d(np.where(x >= 0, 1.0, -1.0), signs, 1, "VALID")
    np.testing.assert_allclose(
        nobn.deploy.Runner(tmp_path / "model.tflite")(x), expected, atol=1e-5
    )


def test_onnx_computes_the_same():
    import onnxruntime
    import tf2onnx

    keras.utils.set_random_seed(5)
    model = nobn.models.ReActNet18((8, 8, 1), 10, width=8, blocks=(1,))
    for weight in model.weights:
        weight.assign_add(RNG.normal(0, 0.1, weight.shape).astype("f4"))
    x = RNG.normal(size=(4, 8, 8, 1)).astype("f4")
    exported, _ = tf2onnx.convert.from_keras(model, opset=17)
    session = onnxruntime.InferenceSession(exported.SerializeToString())
    (actual,) = session.run(None, {session.get_inputs()[0].name: x})
    np.testing.assert_allclose(actual, model(x), rtol=1e-4, atol=1e-5)
