"""Binary layers that compute the same of the same tensors are one, and counted once."""

import larq as lq
import pytest
from larq_nobn import deploy
from deploy.nets import binary_conv, images, scrambled
from deploy.sides import compared
from larq_nobn._keras import keras
from larq_nobn.quantizers import RSign

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


def equal_convolutions():
    return two(binary_conv(8), binary_conv(8))


def equal_dense():
    kwargs = {"input_quantizer": "ste_sign", "kernel_quantizer": "ste_sign"}
    return two(*(lq.layers.QuantDense(8, **kwargs) for _ in range(2)), shape=(20,))


def equal_sequences():
    kwargs = {"input_quantizer": "ste_sign", "kernel_quantizer": "ste_sign"}
    return two(*(lq.layers.QuantConv1D(8, 3, **kwargs) for _ in range(2)), (9, 8))


def equal_shifts():
    return two(*(binary_conv(8, input_quantizer=RSign()) for _ in range(2)))


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


def outputs_that_are_one():
    inputs, conv = keras.Input(SHAPE), binary_conv(8)
    return scrambled(keras.Model(inputs, [conv(inputs), conv(inputs)]))


def nested():
    inputs = keras.Input(SHAPE)
    x = layers.BatchNormalization()(binary_conv(8)(inputs))
    return keras.Model(inputs, x, name="nested")


def model_in_a_sum():
    inputs = keras.Input(SHAPE)
    s = nested()
    return scrambled(keras.Model(inputs, s(inputs) + s(s(inputs))))


def backbone_of_two_heads():
    inputs, start = keras.Input(SHAPE), keras.Input(SHAPE)
    x = layers.ReLU()(layers.Conv2D(8, 1)(start))
    backbone = keras.Model(start, binary_conv(8)(nested()(x)), name="backbone")
    ends = [layers.Dense(n)(layers.Flatten()(backbone(inputs))) for n in (3, 2)]
    return scrambled(keras.Model(inputs, ends))


def sums(first, second, kernel=None):
    """Two layers on one tensor, whose kernels have the same signs."""
    inputs = keras.Input(SHAPE)
    model = scrambled(
        keras.Model(inputs, layers.Add()([first(inputs), second(inputs)]))
    )
    values = first.kernel.latent_variable if kernel is None else kernel(first)
    second.kernel.latent_variable.assign(values)
    return model


def other_activations():
    return sums(binary_conv(8), binary_conv(8, activation="relu"))


def other_biases():
    return sums(binary_conv(8, use_bias=True), binary_conv(8, use_bias=True))


def other_scales():
    scaled = [binary_conv(8, kernel_quantizer="magnitude_aware_sign") for _ in range(2)]
    return sums(*scaled, kernel=lambda first: 3 * first.kernel.latent_variable)


def other_quantizers():
    """Of other pseudo-gradients, and then equal all the way."""
    inputs, ends = keras.Input(SHAPE), []
    for sign in ("approx_sign", "ste_sign"):
        rows = binary_conv(8, input_quantizer=sign), binary_conv(8)
        ends.append(keras.Sequential([keras.Input(SHAPE), *rows]))
    model = scrambled(keras.Model(inputs, layers.Add()([end(inputs) for end in ends])))
    equal(*ends)
    return model


def another_class():
    options = {"input_quantizer": "ste_sign", "kernel_quantizer": "ste_sign"}
    dense = lq.layers.QuantDense(8, use_bias=False, **options)
    conv = binary_conv(8, 1, padding="valid")
    return sums(conv, dense, lambda first: first.kernel.latent_variable[0, 0])


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.conv = binary_conv(8)
        self.norms = [layers.BatchNormalization() for _ in range(2)]

    def call(self, x):
        first, second = (norm(self.conv(x)) for norm in self.norms)
        return first + second


CASES = {
    equal_convolutions: (1, 1),
    equal_dense: (1, 1),
    equal_sequences: (1, 1),
    equal_shifts: (1, 1),
    equal_values: (1, 1),
    equal_branches: (2, 2),
    one_called_twice: (1, 1),
    outputs_that_are_one: (1, 1),
    model_in_a_sum: (2, 1),
    backbone_of_two_heads: (2, 2),
    other_activations: (1, 1),
    other_biases: (1, 1),
    other_scales: (1, 1),
    other_quantizers: (2, 2),
    another_class: (1, 1),
}
# Only the converter sees that these are equal.
BEHIND = (
    *(other_activations, other_biases, other_scales, other_quantizers),
    another_class,
)


@pytest.mark.parametrize("build", CASES, ids=lambda build: build.__name__)
def test_equal_layers_become_one(build, tmp_path):
    left, merged = CASES[build]
    model = build()
    report, off = compared(model, tmp_path)
    assert report.lce_bconv2d == report.binary_layers == left
    if build not in BEHIND:
        assert len(deploy.binary_layers(model)) == left
    assert len(report.merged) == merged
    assert ("merged" in str(report)) == bool(merged)
    assert report.verify["exact_share"] == 1
    assert max(off) < 1e-4


def test_a_layer_that_a_subclassed_model_calls_twice(tmp_path):
    model, x = Subclassed(), images(8, SHAPE)
    model(x)
    scrambled(model)
    report = deploy.convert(model, tmp_path / "m.tflite", data=x)
    assert report.lce_bconv2d == report.binary_layers == len(report.merged) == 1
    assert report.verify["exact_share"] == 1


class Hidden(keras.Model):
    """A model that shows none of its layers."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def call(self, x):
        return self.inner(x)


@pytest.mark.parametrize(
    "build",
    [equal_convolutions, equal_values, equal_branches, model_in_a_sum,
     backbone_of_two_heads, outputs_that_are_one],
)  # fmt: skip
def test_equal_calls_of_a_model_that_shows_no_layer(build, tmp_path):
    model, x = Hidden(build()), images(8, SHAPE)
    model(x)
    report = deploy.convert(model, tmp_path / "m.tflite", data=x)
    assert report.not_prepared is not None
    assert report.lce_bconv2d == report.binary_layers == CASES[build][0]
    assert report.verify["exact_share"] == 1


def changed_weight():
    first, second = binary_conv(8), binary_conv(8)
    model = two(first, second)
    kernel = second.kernel.latent_variable.numpy()
    kernel[1, 1, 0, 0] *= -1
    second.kernel.latent_variable.assign(kernel)
    return model


def other_inputs():
    left, right = keras.Input(SHAPE), keras.Input(SHAPE)
    conv = binary_conv(8)
    return scrambled(keras.Model([left, right], conv(left) + conv(right)))


def other_borders():
    return two(binary_conv(8), binary_conv(8, pad_values=0.0))


@pytest.mark.parametrize("build", [changed_weight, other_inputs, other_borders])
def test_different_layers_stay_apart(build, tmp_path):
    model = build()
    report, off = compared(model, tmp_path)
    assert report.lce_bconv2d == report.binary_layers == 2
    assert report.merged == []
    assert max(off) < 1e-4


def test_a_sign_that_bears_the_name_of_a_merged_layer(tmp_path):
    """The converter merges two convolutions, and calls the sign after one the other's.

    The file is right, and is not rejected for a name.
    """
    inputs = keras.Input((4, 4, 8))
    options = {"use_bias": True}
    first, second = (binary_conv(8, **options) for _ in range(2))
    sign = lq.quantizers.SteSign
    signed, x = layers.Dense(8, activation=sign()), first(inputs)
    ends = sign()(second(inputs)), first(x), signed(x)
    pool = layers.GlobalAveragePooling2D
    model = scrambled(keras.Model(inputs, [pool()(end) for end in ends]), seed=26)
    second.kernel.latent_variable.assign(first.kernel.latent_variable)
    report, off = compared(model, tmp_path, allow_float=True)
    assert report.verify["exact_share"] == 1
    assert max(off) < 1e-4


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("names", [("a", "a/1"), ("a/1", "a"), ("a", "a/1", "a_1")])
def test_names_like_those_of_parts_are_names_like_others(names, groups, tmp_path):
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
