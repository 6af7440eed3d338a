"""Weight vectors against class centers, with NumPy loops as oracle."""

import inspect
import json
import math
import re
import textwrap

import larq_nobn as nobn
import larq as lq
import numpy as np
import pytest
import tensorflow as tf
from larq_nobn._keras import dtype_policy, keras
from numpy.testing import assert_allclose, assert_array_equal

RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(30, 4, 4, 1)).astype("float32")
LABELS = RNG.integers(0, 3, 30)


def preprocessing():
    image = keras.Input((4, 4, 1))
    return keras.Model(image, keras.layers.Rescaling(2.0, 0.5)(image), name="scaling")


def body(image):
    x = keras.layers.Conv2D(5, 3, activation="relu")(image)
    return keras.layers.GlobalAveragePooling2D(name="features")(x)


def functional(head=None):
    image = keras.Input((4, 4, 1))
    head = head or keras.layers.Dense(3, name="head")
    return keras.Model(image, head(body(preprocessing()(image))), name="net")


def sequential():
    """The classifier is the last dense layer, whatever its name."""
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((4, 4, 1)),
            layers.Flatten(),
            layers.Dense(5, "relu", name="features"),
            layers.Dropout(0.5),
            layers.Dense(3, "softmax", name="classifier"),
        ]
    )


def nested():
    """The whole classifier in a model of its own, after a wrapper for the data."""
    image = keras.Input((4, 4, 1))
    return keras.Model(image, functional()(preprocessing()(image)))


def named_before_last():
    """A head with something dense after it that is not the classifier."""
    image = keras.Input((4, 4, 1))
    classes = keras.layers.Dense(3, name="head")(body(image))
    return keras.Model(image, [classes, keras.layers.Dense(2, name="other")(classes)])


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.hidden = keras.layers.Dense(5, "relu", name="features")
        self.head = keras.layers.Dense(3, name="head")

    def call(self, inputs):
        return self.head(self.hidden(keras.layers.Flatten()(inputs)))


def subclassed():
    model = Subclassed()
    model(IMAGES)
    return model


def find(model, name):
    return next(m for m in model.submodules if getattr(m, "name", None) == name)


def features_of(model):
    """What the layer called features puts out."""
    if isinstance(model, Subclassed):
        return model.hidden(IMAGES.reshape(30, -1)).numpy()
    names = [layer.name for layer in model.layers]
    if "features" in names:
        output = model.get_layer("features").output
        return keras.Model(model.inputs, output)(IMAGES).numpy()
    *front, inner = model.layers[1:]
    images = IMAGES
    for part in front:
        images = part(images)
    output = inner.get_layer("features").output
    return keras.Model(inner.inputs, output)(images).numpy()


def by_hand(features, kernel, labels):
    """The definitions as loops, in float64."""
    classes = kernel.shape[1]
    result = {"cosine": [], "weight_norm": [], "center_norm": [], "examples": []}
    for k in range(classes):
        members = [f.astype(float) for f, label in zip(features, labels, strict=True)
                   if label == k]  # fmt: skip
        center, w = sum(members) / len(members), kernel[:, k].astype(float)
        result["examples"].append(len(members))
        result["weight_norm"].append(math.sqrt(w @ w))
        result["center_norm"].append(math.sqrt(center @ center))
        result["cosine"].append(
            w @ center / math.sqrt(w @ w) / math.sqrt(center @ center)
        )
    angles = []
    for j in range(classes):
        for k in range(j):
            a, b = kernel[:, j].astype(float), kernel[:, k].astype(float)
            cosine = a @ b / math.sqrt(a @ a) / math.sqrt(b @ b)
            angles.append(math.degrees(math.acos(cosine)))
    total = sum(kernel[:, k].astype(float) for k in range(classes))
    mean = sum(angles) / len(angles)
    return result | {
        "weight_sum_norm": math.sqrt(total @ total),
        "angle_mean": mean,
        "angle_std": math.sqrt(sum((a - mean) ** 2 for a in angles) / len(angles)),
        "angle_min": min(angles),
        "angle_max": max(angles),
    }


def assert_found(found, expected, rtol=1e-5):
    for name, value in expected.items():
        assert_allclose(getattr(found, name), value, rtol=rtol, err_msg=name)


@pytest.mark.parametrize(
    "network, layer",
    [
        (functional, "head"),
        (sequential, "classifier"),
        (nested, "net/head"),
        (named_before_last, "head"),
        (subclassed, "head"),
    ],
)
def test_against_loops(network, layer):
    keras.utils.set_random_seed(2)
    model = network()
    kernel = find(model, layer.rpartition("/")[2]).kernel.numpy()
    found = nobn.class_center_alignment(model, (IMAGES, LABELS))
    assert_found(found, by_hand(features_of(model), kernel, LABELS))
    assert found.layer == layer


def test_weights_that_are_the_class_means_have_cosine_1():
    model = functional()
    features = features_of(model)
    means = [features[k == LABELS].mean(0) for k in range(3)]
    model.get_layer("head").kernel.assign(np.stack(means, 1))
    found = nobn.class_center_alignment(model, (IMAGES, LABELS))
    assert_allclose(found.cosine, np.ones(3), rtol=1e-6)
    assert_allclose(found.weight_norm, found.center_norm, rtol=1e-6)


def test_vectors_in_a_plane_at_equal_angles_add_up_to_nothing():
    model = functional(keras.layers.Dense(4, name="head"))
    turns = 2 * np.pi * np.arange(4) / 4
    kernel = np.zeros((5, 4))
    kernel[:2] = np.cos(turns), np.sin(turns)
    model.get_layer("head").kernel.assign(kernel)
    found = nobn.class_center_alignment(model, (IMAGES, LABELS))
    assert found.weight_sum_norm == pytest.approx(0, abs=1e-6)
    assert_allclose([found.angle_min, found.angle_max], [90, 180], rtol=1e-5)
    assert found.angle_mean == pytest.approx((4 * 90 + 2 * 180) / 6)


def symmetric_on_features():
    """A symmetric head whose features are the inputs."""
    keras.utils.set_random_seed(3)
    head = nobn.layers.SymmetricHead(7, scale=3.0, name="head")
    return keras.Sequential([keras.Input((5,)), head]), head


def test_features_at_the_vectors_of_a_symmetric_head_have_cosine_1():
    model, head = symmetric_on_features()
    labels = np.repeat(np.arange(7), 2)
    features = head.class_vectors().numpy().T[labels]
    features *= np.where(np.arange(14) % 2, 0.2, 5.0)[:, None]
    found = nobn.class_center_alignment(model, (features, labels))
    assert found.layer == "head" and found.examples == (2,) * 7
    assert_allclose(found.cosine, np.ones(7), rtol=1e-6)
    assert_allclose(found.weight_norm, np.full(7, 3.0), rtol=1e-6)
    assert found.weight_sum_norm == pytest.approx(0, abs=1e-5)
    assert found.angle_min == pytest.approx(360 / 7, rel=1e-5)
    turned = nobn.class_center_alignment(model, (features, (labels + 1) % 7))
    assert_allclose(turned.cosine, np.full(7, np.cos(2 * np.pi / 7)), rtol=1e-5)


def test_a_symmetric_head_against_loops():
    keras.utils.set_random_seed(2)
    head = nobn.layers.SymmetricHead(3)  # the last of its kind, whatever its name
    model = functional(head)
    found = nobn.class_center_alignment(model, (IMAGES, LABELS))
    kernel = head.class_vectors().numpy()
    assert_found(found, by_hand(features_of(model), kernel, LABELS))


def test_every_form_of_data_gives_the_same():
    model = functional()
    expected = nobn.class_center_alignment(model, (IMAGES, LABELS))
    columns = LABELS[:, None].astype("float32")
    one_hot = np.eye(3)[LABELS]
    for labels in (LABELS, columns, one_hot):
        batches = tf.data.Dataset.from_tensor_slices((IMAGES, labels)).batch(7)
        found = nobn.class_center_alignment(model, batches)
        assert found.examples == expected.examples
        assert_allclose(found.cosine, expected.cosine, rtol=1e-5)
    weighted = tf.data.Dataset.from_tensors((IMAGES, LABELS, np.ones(30)))
    found = nobn.class_center_alignment(model, weighted)
    assert_allclose(found.cosine, expected.cosine, rtol=1e-5)


def test_a_quantized_head_is_looked_at_after_its_quantizers():
    keras.utils.set_random_seed(0)  # of other signs, a cosine may be 0 but for rounding
    head = lq.layers.QuantDense(
        3, name="head", input_quantizer=nobn.quantizers.RSign(),
        kernel_quantizer=nobn.quantizers.ScaledStdSign(),
    )  # fmt: skip
    model = functional(head)
    head.input_quantizer.shift.assign(tf.fill((5,), -0.2))
    found = nobn.class_center_alignment(model, (IMAGES, LABELS))
    signs = head.input_quantizer(features_of(model)).numpy()
    kernel = head.kernel_quantizer(head.kernel.latent_variable).numpy()
    assert 0 < np.mean(signs > 0) < 1
    assert_found(found, by_hand(signs, kernel, LABELS))


def test_mixed_precision():
    with dtype_policy("mixed_float16"):
        model = functional(keras.layers.Dense(3, name="head", dtype="float32"))
    found = nobn.class_center_alignment(model, (IMAGES, LABELS))
    kernel = model.get_layer("head").kernel.numpy()
    assert_found(found, by_hand(features_of(model), kernel, LABELS), rtol=1e-3)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("name", ["ste_sign", "scaled_std_sign", "recu", "reste", None])
def test_the_kernel_of_a_head_is_that_of_its_forward_pass(name, policy):
    with dtype_policy(policy):
        head = lq.layers.QuantDense(
            3, name="head", kernel_quantizer=name, use_bias=False
        )
        model = functional(head)
    offsets = np.sign(np.sin(1 + np.arange(15.0))).reshape(5, 3)
    getattr(head.kernel, "latent_variable", head.kernel).assign(1 + 1e-5 * offsets)
    for weight in getattr(head.kernel_quantizer, "trainable_weights", []):
        weight.assign(np.linspace(0.3, 0.7, 3))
    units = tf.constant(np.eye(5), head.compute_dtype)  # each shows a row of the kernel
    kernel = head(units).numpy().astype(np.float64)
    found = nobn.class_center_alignment(model, (IMAGES, LABELS))
    assert_allclose(found.weight_norm, np.linalg.norm(kernel, axis=0), rtol=1e-6)
    total = np.linalg.norm(kernel.sum(1))
    assert_allclose(found.weight_sum_norm, total, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("quantizer", [lq.quantizers.SteSign, nobn.quantizers.RSign])
def test_metrics_of_a_head_are_those_of_its_forward_pass(quantizer):
    inputs = keras.Input((5,), batch_size=10)
    sign = quantizer(metrics=["flip_ratio"])
    head = lq.layers.QuantDense(3, name="head", input_quantizer=sign)
    model = keras.Model(inputs, head(inputs))
    images = tf.data.Dataset.from_tensor_slices((IMAGES[:, 0, :, 0], LABELS)).map(
        lambda x, y: (tf.pad(x, [[0, 1]]), y)
    )
    nobn.class_center_alignment(model, images.batch(10))
    assert float(sign.flip_ratio.count) == 3  # batches


def test_the_model_is_left_as_it_was():
    model = sequential()
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    before, expected = model.get_weights(), model(IMAGES).numpy()
    head = model.layers[-1]
    nobn.class_center_alignment(model, (IMAGES, LABELS))
    assert "call" not in vars(head)
    assert_array_equal(model(IMAGES), expected)
    for now, then in zip(model.get_weights(), before, strict=True):
        assert_array_equal(now, then)
    with pytest.raises(ValueError, match="Labels go from"):
        nobn.class_center_alignment(model, (IMAGES, LABELS + 1))
    assert "call" not in vars(head)


def test_a_class_without_examples_is_marked():
    some = LABELS != 1
    found = nobn.class_center_alignment(functional(), (IMAGES[some], LABELS[some]))
    assert found.examples[1] == 0
    assert_array_equal(np.isnan(found.cosine), [False, True, False])
    as_json = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert as_json["cosine"][1] is None and as_json["center_norm"][1] is None
    assert as_json["cosine"][0] == found.cosine[0]
    assert set(as_json) == set(vars(found))


def test_what_is_printed():
    found = nobn.diagnostics.ClassCenterAlignment(
        layer="head", examples=(3, 0), cosine=(0.98765, math.nan),
        weight_norm=(1.5, 2.0), center_norm=(0.25, math.nan), weight_sum_norm=3.25,
        angle_mean=60.0, angle_std=1.25, angle_min=58.0, angle_max=61.0,
    )  # fmt: skip
    lines = str(found).splitlines()
    assert lines[0].strip() == "Class centers at head"
    (first,) = (line for line in lines if "0.988" in line)
    assert [cell.strip() for cell in first.strip("│").split("│")] == [
        *("0", "3", "0.988", "1.5", "0.25")
    ]
    assert "60.0° ± 1.2° (58.0° to 61.0°)" in " ".join(str(found).split())
    assert "sum 3.25" in " ".join(str(found).split())


def unbuilt():
    return Subclassed()


def without_dense():
    return keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Flatten()])


def one_unit():
    return functional(keras.layers.Dense(1, name="head"))


def per_position():
    return keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Dense(3)])


class Auxiliary(Subclassed):
    def call(self, inputs):
        return self.hidden(keras.layers.Flatten()(inputs))


def not_used():
    model = Auxiliary()
    model.head.build((None, 5))
    model(IMAGES)
    return model


@pytest.mark.parametrize(
    "network, message",
    [
        (unbuilt, "The model subclassed[_0-9]* has no weights yet. Build it or"),
        (
            without_dense,
            r"The model sequential[_0-9]* has no dense layer whose",
        ),
        (one_unit, "The layer head has units=1, but angles need two classes or more"),
        (per_position, r"takes inputs of shape \(30, 4, 4, 1\), more than one vector"),
        (not_used, "does not use its last dense layer head at inference. Name the"),
    ],
)
def test_a_model_that_is_no_classifier(network, message):
    with pytest.raises(ValueError, match=message):
        nobn.class_center_alignment(network(), (IMAGES, LABELS))


@pytest.mark.parametrize(
    "data, error, message",
    [
        (IMAGES, TypeError, "data, a ndarray, is neither "),
        (tf.data.Dataset.from_tensors(IMAGES), TypeError, "is neither "),
        (
            tf.data.Dataset.from_tensor_slices((IMAGES, LABELS)),
            TypeError,
            r"a tf.data.Dataset of single examples needs .batch\(\)",
        ),
        ((IMAGES, LABELS + 1), ValueError, "Labels go from 1 to 3, but the last dense"),
        ((IMAGES, LABELS - 1), ValueError, "Labels go from -1 to 1, but the last"),
        ((IMAGES, LABELS + 0.5), ValueError, r"Labels of shape \(30,\) and type"),
        ((IMAGES, np.eye(4)[LABELS]), ValueError, r"Labels of shape \(30, 4\)"),
        ((IMAGES[:0], LABELS[:0]), ValueError, "data contains no examples. Give"),
    ],
)  # fmt: skip
def test_bad_data(data, error, message):
    with pytest.raises(error, match=message):
        nobn.class_center_alignment(functional(), data)


def test_the_example_runs():
    text = inspect.getdoc(nobn.class_center_alignment)
    (example,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    exec(textwrap.dedent(example), {"__name__": "example"})
