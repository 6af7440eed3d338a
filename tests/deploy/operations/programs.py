"""Networks that the tests of operations share, and how they compare and count."""

import larq_nobn as nobn
import larq as lq
import numpy as np
import tensorflow as tf
from deploy.nets import binary_conv, chain, head, images, scrambled
from deploy.sides import beside
from larq_nobn._keras import keras
from larq_nobn.deploy._audit import audit_bytes
from larq_nobn.deploy._opening import as_functional
from larq_nobn.deploy.lite._converter import Runner, io_spec, to_flatbuffer
from larq_nobn.deploy.operations import stages_of
from larq_nobn.deploy.operations._kinds import Affine, Constant, Sign
from larq_nobn.deploy.trace._operation_names import layer_name
from larq_nobn.deploy.trace._trace import Trace
from numpy.testing import assert_allclose

layers = keras.layers
SHAPE = (8, 8, 32)
BOTH_SIGNS = np.linspace(-1.55, 1.55, 32)
POSITIVE = np.linspace(0.1, 3.2, 32)
SOME_ZERO = np.where(np.arange(32) < 8, 0.0, BOTH_SIGNS)


def affine(gain, name="affine", seed=0):
    """A batch norm of given gains and of random other numbers, 8 in 32 of them 0."""
    random = np.random.default_rng(seed)
    beta, mean = random.normal(size=(2, len(gain)))
    beta[:8] = mean[:8] = 0

    def constant(values):
        return keras.initializers.Constant(values)

    return layers.BatchNormalization(
        epsilon=1e-3,
        gamma_initializer=constant(gain * np.sqrt(1.001)),
        beta_initializer=constant(beta),
        moving_mean_initializer=constant(mean),
        name=name,
    )


def factor(scale=0.25, offset=0.0, name="factor"):
    """Powers of two commute with rounding: no sign near 0 falls the other way."""
    return layers.Rescaling(scale, offset, name=name)


def rsign_conv(**changes):
    arguments = {"use_bias": True, "kernel_quantizer": "magnitude_aware_sign"}
    return binary_conv(input_quantizer=nobn.quantizers.RSign(), **arguments, **changes)


def scaled_conv(**changes):
    arguments = {"kernel_quantizer": "magnitude_aware_sign", "use_bias": True}
    return binary_conv(bias_initializer="normal", **{**arguments, **changes})


# Layers by the words of which the tests make rows.
LAYERS = {
    "tanh": lambda: layers.Activation("tanh"),
    # Batch norms by their scales.
    "positive": lambda: affine(POSITIVE),
    "both": lambda: affine(BOTH_SIGNS),
    "zero": lambda: affine(POSITIVE - POSITIVE[5]),
    "tiny": lambda: affine(np.append(POSITIVE[1:], 1e-20)),
    "second": lambda: affine(BOTH_SIGNS, "second", 1),
    "third": lambda: affine(POSITIVE, "third", 2),
    "turned": lambda: layers.Rescaling(-0.5, 0.1),
    "negative": lambda: layers.BatchNormalization(
        center=False, gamma_initializer=keras.initializers.Constant(-1.0)
    ),
    "norm": lambda: layers.BatchNormalization(),
    "skip": lambda: nobn.layers.SkipInit(),
    "factor": lambda: factor(),
    # What is binary.
    "binary": lambda: binary_conv(),
    "binary-1x1": lambda: binary_conv(size=1),
    "zero-padded": lambda: binary_conv(pad_values=0.0),
    "binary-relu": lambda: binary_conv(activation="relu"),
    "scaled": lambda: scaled_conv(),
    "rsign": lambda: rsign_conv(),
    "rsign-layer": lambda: nobn.quantizers.RSign(2.0),
    "sign": lambda: lq.quantizers.SteSign(),
    "binary-dense": lambda: lq.layers.QuantDense(5, input_quantizer="ste_sign"),
    "real-of-signs": lambda: lq.layers.QuantConv2D(8, 1, input_quantizer="ste_sign"),
    # Real kernels.
    "conv": lambda: layers.Conv2D(8, 3),
    "conv-same": lambda: layers.Conv2D(8, 3, padding="same"),
    "conv-ones": lambda: lq.layers.QuantConv2D(8, 3, padding="same", pad_values=1.0),
    "conv-32": lambda: layers.Conv2D(32, 1),
    "strided": lambda: layers.Conv2D(8, 3, strides=2, use_bias=False),
    "groups": lambda: layers.Conv2D(8, 1, groups=2),
    "depthwise": lambda: layers.DepthwiseConv2D(3, depth_multiplier=2),
    "dense": lambda: layers.Dense(8),
    "conv-relu": lambda: layers.Conv2D(8, 3, activation="relu"),
    "conv-tanh": lambda: layers.Conv2D(8, 3, activation="tanh"),
    # What has no weights, or those of an activation.
    "relu": lambda: layers.ReLU(),
    "relu6": lambda: layers.ReLU(6.0),
    "prelu": lambda: layers.PReLU("normal", shared_axes=[1, 2]),
    "rprelu": lambda: nobn.layers.RPReLU(),
    "maximum": lambda: layers.MaxPooling2D(3, 2, padding="same"),
    "average": lambda: layers.AveragePooling2D(3, 2, padding="same"),
    "average-valid": lambda: layers.AveragePooling2D(),
    "global-maximum": lambda: layers.GlobalMaxPooling2D(),
    "padding": lambda: layers.ZeroPadding2D(),
    "dropout": lambda: layers.Dropout(0.5),
    "flatten": lambda: layers.Flatten(),
    "reshape": lambda: layers.Reshape((4, 16, 32)),
    "layer-norm": lambda: layers.LayerNormalization(),
}


def made(*parts):
    """Layers in a row; a text is words, each of them the name of one in `LAYERS`."""
    for part in parts:
        if isinstance(part, str):
            yield from (LAYERS[word]() for word in part.split())
        else:
            yield part


def row(*parts, scramble=False, **options):
    """A model of layers in a row, with the numbers that they start with."""
    keras.utils.set_random_seed(3)
    options = {"stem": False, "shape": SHAPE, **options}
    return chain(*made(*parts), scramble=scramble, **options)


def network(build, shape=SHAPE):
    """A model of `build(map)`, pooled and classified."""
    inputs = keras.Input(shape)
    x = build(inputs)
    for layer in head():
        x = layer(x)
    return scrambled(keras.Model(inputs, x))


def equal(made, model, x, tolerance=1e-5):
    """Sees a function compute what a model does."""
    for actual, expected in zip(
        tf.nest.flatten(made(x)),
        tf.nest.flatten(model(x, training=False)),
        strict=True,
    ):
        atol = tolerance * np.abs(expected).max()
        assert_allclose(actual, expected, rtol=0, atol=atol)


def lowered(model, runtime="lce"):
    """What the file of a model is written from."""
    model = as_functional(model)
    return stages_of(Trace(model, io_spec(model)), runtime)


def program_of(model, x=None, runtime="lce"):
    """What a file is written from, once it is seen to compute what the model does."""
    form = lowered(model, runtime)
    run = tf.function(lambda *inputs: form.function()(inputs))
    x = images(1, model.input_shape[1:]) if x is None else x[:1]
    equal(run, model, x, 1e-4)
    return form.spelled


def kinds_of(program):
    """The kinds of all nodes but constants; of TensorFlow operations their types."""
    nodes = [node for node in program.nodes if not node.is_a(Constant)]
    return [node.type or type(node).__name__ for node in nodes]


def nodes_of(program, kind, layer=None):
    """The nodes of a kind or type, of a layer or of all."""
    actual = [node for node in program.nodes if node.is_a(kind)]
    return [node for node in actual if layer in (None, layer_name(node.name))]


def factors_left(model):
    """The gains that are left in a file, by layer: of one number that."""
    left = {}
    for node in nodes_of(program_of(model), Affine):
        if np.any(node.k != 1):
            one = np.unique(np.float32(node.k))
            left[node.name.split("/")[1]] = one[0] if one.size == 1 else node.k
    return left


def additions(model):
    """How many constants a file adds to maps on their own."""
    program = program_of(model)
    signs, affines = (nodes_of(program, kind) for kind in (Sign, Affine))
    shifts = [*(x.shift for x in signs), *(x.b for x in affines)]
    return sum(map(np.any, shifts))


def file_of(model, runtime="lce"):
    """The bytes of a model's file."""
    form = lowered(model, runtime)
    return to_flatbuffer(form.function(), form.io, runtime=runtime)


def audited(model):
    return audit_bytes(file_of(model), "net")


def operations(model):
    """The operations of the converted file, once it is seen to compute the same."""
    content = file_of(model)
    x = images(4, model.input_shape[1:])
    equal(lambda x: Runner(content).outputs([x]), model, x, 1e-4)
    return audit_bytes(content, "net").ops


def check_together(models, x, tolerance=0.0, wanted=None, runtime="lce"):
    """Compares one file of several models with what they compute.

    Arguments:
        models: Models by name.
        x: What all of them take.
        tolerance: How far results may be off, as a part of the largest.
        wanted: What they should compute, if that is not what they do.

    Returns:
        The audit of the file.
    """
    content = file_of(beside(models.values()), runtime)
    actual = iter(Runner(content).outputs([x] * len(models)))
    for name, model in models.items():
        given = model(x, training=False) if wanted is None else wanted[name]
        for expected in tf.nest.flatten(given):
            atol = tolerance * np.abs(expected).max()
            assert_allclose(next(actual), expected, rtol=0, atol=atol, err_msg=name)
    return audit_bytes(content, "net")
