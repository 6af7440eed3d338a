"""Binary layers that compute the same of the same tensors are one, and counted once."""

import pytest
from larq_nobn import deploy
from deploy.nets import binary_conv, images, scrambled
from deploy.sides import beside, compared
from larq_nobn._keras import keras

pytestmark = pytest.mark.convert
layers = keras.layers
SHAPE = (6, 6, 8)


def equal(layer, other):
    other.set_weights(layer.get_weights())


def two(first, second, shape=SHAPE):
    """Two layers of equal weights on one tensor, with different ones after."""
    inputs = keras.Input(shape)
    ends = [layers.BatchNormalization()(layer(inputs)) for layer in (first, second)]
    model = scrambled(keras.Model(inputs, layers.Add()(ends)))
    equal(first, second)
    return model


def equal_values():
    """Their latent kernels differ, but not in their signs."""
    first, second = binary_conv(8), binary_conv(8)
    model = two(first, second)
    second.kernel.latent_variable.assign(3 * first.kernel.latent_variable)
    return model


def equal_branches():
    """Equal all the way, from a float layer on, with what only training needs."""
    inputs = keras.Input(SHAPE)

    def branch():
        rows = layers.Conv2D(8, 1), layers.Dropout(0.5), binary_conv(8)
        return keras.Sequential([keras.Input(SHAPE), *rows, binary_conv(8)])

    first, second = branch(), branch()
    ends = [layers.Dense(4)(layers.Flatten()(x(inputs))) for x in (first, second)]
    model = scrambled(keras.Model(inputs, ends))
    equal(first, second)
    return model


def one_called_twice():
    inputs, conv = keras.Input(SHAPE), binary_conv(8)
    ends = [layers.BatchNormalization()(conv(inputs)) for _ in range(2)]
    return scrambled(keras.Model(inputs, layers.Add()(ends)))


def nested():
    inputs = keras.Input(SHAPE)
    x = layers.BatchNormalization()(binary_conv(8)(inputs))
    return keras.Model(inputs, x, name="nested")


def model_in_a_sum():
    inputs = keras.Input(SHAPE)
    s = nested()
    return scrambled(keras.Model(inputs, s(inputs) + s(s(inputs))))


def sums(first, second, kernel=None):
    """Two layers on one tensor, whose kernels have the same signs."""
    inputs = keras.Input(SHAPE)
    model = scrambled(
        keras.Model(inputs, layers.Add()([first(inputs), second(inputs)]))
    )
    values = first.kernel.latent_variable if kernel is None else kernel(first)
    second.kernel.latent_variable.assign(values)
    return model


def other_quantizers():
    """Of other pseudo-gradients, and then equal all the way."""
    inputs, ends = keras.Input(SHAPE), []
    for sign in ("approx_sign", "ste_sign"):
        rows = binary_conv(8, input_quantizer=sign), binary_conv(8)
        ends.append(keras.Sequential([keras.Input(SHAPE), *rows]))
    model = scrambled(keras.Model(inputs, layers.Add()([end(inputs) for end in ends])))
    equal(*ends)
    return model


def changed_weight():
    first, second = binary_conv(8), binary_conv(8)
    model = two(first, second)
    kernel = second.kernel.latent_variable.numpy()
    kernel[1, 1, 0, 0] *= -1
    second.kernel.latent_variable.assign(kernel)
    return model


def aware():
    return binary_conv(8, kernel_quantizer="magnitude_aware_sign")


# Binary convolutions in the file, and layers that were merged.
CASES = {
    equal_values: (1, 1),
    equal_branches: (2, 2),
    one_called_twice: (1, 1),
    model_in_a_sum: (2, 1),
    # Different ones.
    changed_weight: (2, 0),
    (lambda: two(binary_conv(8), binary_conv(8, pad_values=0.0))): (2, 0),
    # Equal only in what the file contains of them.
    other_quantizers: (2, 2),
    (lambda: sums(binary_conv(8), binary_conv(8, activation="relu"))): (1, 1),
    (lambda: sums(aware(), aware(), lambda x: 3 * x.kernel.latent_variable)): (1, 1),
}


def test_equal_layers_become_one(tmp_path):
    report, off = compared(beside([build() for build in CASES]), tmp_path)
    left, merged = map(sum, zip(*CASES.values(), strict=True))
    assert report.lce_bconv2d == report.binary_layers == left
    assert len(report.merged) == merged
    assert "merged" in str(report)
    assert report.verify["exact_share"] == 1
    assert max(off) < 1e-4


class Twice(keras.Model):
    """Calls one layer twice on its input."""

    def __init__(self):
        super().__init__()
        self.conv = binary_conv(8)
        self.norms = [layers.BatchNormalization() for _ in range(2)]

    def call(self, x):
        first, second = (norm(self.conv(x)) for norm in self.norms)
        return first + second


class Hidden(keras.Model):
    """Shows none of the layers of the models that it contains."""

    def __init__(self, models):
        super().__init__()
        self.models = models

    def call(self, x):
        return [model(x + 0.1 * i) for i, model in enumerate(self.models)]


def test_equal_calls_in_models_that_show_no_layer(tmp_path):
    twice, x = Twice(), images(2, SHAPE)
    twice(x)
    model = Hidden([scrambled(twice), equal_values()])
    model(x)
    report = deploy.convert(model, tmp_path / "m.tflite", data=x)
    assert report.not_prepared is not None
    assert report.lce_bconv2d == report.binary_layers == 2
    assert report.verify["exact_share"] == 1


@pytest.mark.parametrize("groups, names", [(1, ("a", "a/1")), (2, ("a/1", "a", "a_1"))])
def test_names_like_those_of_parts_are_names_like_others(groups, names, tmp_path):
    inputs = keras.Input(SHAPE)
    x = inputs
    for name in names:
        parts = groups if name == "a" else 1
        x = layers.BatchNormalization()(binary_conv(8, name=name, groups=parts)(x))
    model = scrambled(keras.Model(inputs, layers.GlobalAveragePooling2D()(x)))
    report, off = compared(model, tmp_path)
    assert report.not_prepared is None
    assert report.lce_bconv2d == len(names) + groups - 1
    assert report.verify["exact_share"] == 1
    assert max(off) < 1e-4
