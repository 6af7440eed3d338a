"""The script for a Raspberry Pi computes what the package computes."""

import importlib.util
from pathlib import Path

import larq_nobn as nobn
import numpy as np
import pytest
import tensorflow as tf
from deploy.nets import scrambled
from numpy.testing import assert_array_equal

SCRIPT = Path(__file__).parents[2] / "examples" / "raspberry_pi" / "classify.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("classify", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    "side, crop, mean, std",
    [
        ((37, 53), 1.0, (0.49, 0.48, 0.45), (0.25, 0.24, 0.26)),
        ((8, 8), 0.875, (0.5, 0.4, 0.3), (0.2, 0.3, 0.1)),
        ((5, 90), 0.6, (0.3,), (0.37,)),
        ((4, 3), 1.0, (0.1, 0.2, 0.3), (1.0, 0.7, 0.9)),  # smaller than the network
    ],
)
def test_preprocessing_bit_for_bit(script, side, crop, mean, std):
    pixels = np.random.default_rng(0).integers(0, 256, (*side, 3), np.uint8)
    prepare = nobn.deploy.Preprocessing(mean, std, (8, 6), crop)
    steps = {"height": 8, "width": 6, "crop": crop, "mean": mean, "std": std}
    assert_array_equal(script.prepared(pixels, steps), prepare(pixels))


@pytest.mark.convert
@pytest.mark.parametrize("int8, pixels", [(False, False), (True, False), (True, True)])
def test_probabilities_are_those_of_the_package(script, tmp_path, capsys, int8, pixels):
    model = scrambled(nobn.models.ReActNet18((8, 8, 3), 3, width=8, blocks=(1,)))
    if not int8:
        ending = tf.keras.layers.Softmax()(model.output)
        model = tf.keras.Model(model.input, ending)
    random = np.random.default_rng(0)
    sides = (8, 8) if pixels else (20, 24)
    images = random.integers(0, 256, (6, *sides, 3), np.uint8)
    prepare = nobn.deploy.Preprocessing((0.5,) * 3, (0.25,) * 3, (8, 8))
    x = prepare(images)
    if int8:
        model = nobn.deploy.fake_quantize(model, x, verify=False)
    path = tmp_path / "model.tflite"
    labels = ["ant", "bee", "cat"]
    card = {"labels": labels, "preprocessing": prepare, "verify": False}
    card |= {"pixels": pixels, "io": "uint8" if pixels else None}
    nobn.convert(model, path, int8=int8, runtime="litert", **card)
    wanted = nobn.deploy.Runner(path)(x)
    if int8:
        wanted = tf.nn.softmax(wanted).numpy()
    names = [tmp_path / f"{number}.png" for number in range(len(images))]
    for name, image in zip(names, images, strict=True):
        name.write_bytes(tf.io.encode_png(image).numpy())
    classify = script.Classifier(path)
    for image, probabilities in zip(images, wanted, strict=True):
        np.testing.assert_allclose(classify(image), probabilities, rtol=1e-4, atol=1e-4)
    script.main(str(path), *map(str, names))
    said = [
        line.split(": ")[1].split(",")[0]
        for line in capsys.readouterr().out.splitlines()
    ]
    assert said == [labels[best] for best in wanted.argmax(-1)]
