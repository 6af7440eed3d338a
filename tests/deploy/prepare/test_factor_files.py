"""What positive factors cost in a converted file."""

import larq_nobn as nobn
import pytest
from deploy.nets import binary_conv, head, images, scrambled
from deploy.prepare.factor_nets import as_written, factor, factors_left, network
from larq_nobn._keras import keras
from larq_nobn.deploy.inspection._audit import audit_bytes
from larq_nobn.deploy.lite import inference, io_spec, to_flatbuffer
from larq_nobn.deploy.prepare._prepare import prepare

pytestmark = pytest.mark.convert
_layers, _nobn = keras.layers, nobn.layers


def operations(model):
    content = to_flatbuffer(inference(model), model.variables, io_spec(model))
    return audit_bytes(content, "net").ops


@pytest.mark.parametrize(
    "rectifier", [_layers.ReLU(), _layers.Activation("relu")], ids=["layer", "function"]
)
def test_a_relu_stays_part_of_its_convolution(rectifier):
    def build(x):
        return _layers.Add()([rectifier(binary_conv()(x)), factor()(x)])

    model = network(build)
    assert factors_left(model) == {"factor": 0.25}
    assert operations(prepare(model)) == operations(as_written(model))


def reactnet_a(scaled):
    """Two blocks, of stride 2 and twice as wide, after a stem and before a head."""
    inputs = keras.Input((16, 16, 3))
    x = _layers.Conv2D(32, 3, padding="same", name="stem")(inputs)
    for i, beta in enumerate((0.96, 0.93)):
        channels = x.shape[-1]
        sign, kernel = nobn.quantizers.RSign, nobn.quantizers.ScaledStdSign
        conv = binary_conv(
            channels,
            strides=2,
            input_quantizer=sign(beta),
            kernel_quantizer=kernel(scale=0.2),
        )
        shortcut = _layers.AveragePooling2D()(
            factor(beta, name=f"beta{i}")(x) if scaled else x
        )
        h = _nobn.RPReLU()(_layers.Add()([conv(x), shortcut]))
        t = sign(0.95)(h)
        halves = [
            _layers.Add()([half(t), h])
            for half in (
                binary_conv(channels, 1, input_quantizer=None, kernel_quantizer=k)
                for k in (kernel(scale=0.2), kernel(scale=0.2))
            )
        ]
        x = _nobn.RPReLU()(_layers.Concatenate()(halves))
    for layer in head():
        x = layer(x)
    return scrambled(keras.Model(inputs, x))


def test_scaled_shortcuts_cost_nothing(tmp_path):
    model = reactnet_a(scaled=True)
    assert operations(as_written(model))["MUL"] == 2
    x = images(16, (16, 16, 3))
    report = nobn.convert(model, tmp_path / "model.tflite", data=x)
    counts = {op["op"]: op["count"] for op in report.float_ops}
    unscaled = operations(prepare(reactnet_a(scaled=False)))
    assert counts == {op: n for op, n in unscaled.items() if not op.startswith("Lce")}
    assert "MUL" not in counts
    assert report.lce_bconv2d == 6
    assert report.verify["unexplained"] == 0
    assert report.verify["prepared"]["unexplained"] == 0
