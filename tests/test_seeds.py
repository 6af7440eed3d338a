"""What draws numbers draws the same again from its seed, however it was saved."""

import inspect

import larq_nobn as nobn
import larq as lq
import numpy as np
import pytest
from larq_nobn import initializers, layers, quantizers
from larq_nobn._errors import InvalidType, InvalidValue
from larq_nobn._keras import keras
from numpy.testing import assert_array_equal

ONES = np.ones((2, 6, 6, 4), "float32")


def as_input(quantizer):
    return lq.layers.QuantConv2D(
        3, 3, input_quantizer=quantizer, kernel_initializer="ones", use_bias=False
    )


def as_kernel(quantizer):
    return lq.layers.QuantConv2D(
        3, 3, kernel_quantizer=quantizer, kernel_initializer="zeros", use_bias=False
    )


# Each draws numbers in training: (class, where it stands).
ROWS = {
    "SignFlipDropout": lambda seed: layers.SignFlipDropout(0.5, seed=seed),
    "IndependentComponent": lambda seed: layers.IndependentComponent(
        0.5, seed=seed, beta_initializer="ones"
    ),
    "ProgressiveSign": lambda seed: quantizers.ProgressiveSign(
        fraction=0.5, scale=0.3, seed=seed
    ),
    "ProgressiveSign inside": lambda seed: as_input(
        quantizers.ProgressiveSign(fraction=0.5, scale=0.3, seed=seed)
    ),
    "BernoulliSign": lambda seed: as_kernel(quantizers.BernoulliSign(seed=seed)),
    "BinaryRegularized": lambda seed: as_kernel(
        quantizers.BinaryRegularized(quantizers.BernoulliSign(seed=seed), strength=0.0)
    ),
}
every_row = pytest.mark.parametrize("make", ROWS.values(), ids=ROWS)


def drawn(model):
    return model(ONES, training=True).numpy()


def model_of(make, seed):
    start = keras.Input(ONES.shape[1:])
    return keras.Model(start, make(seed)(start))


def test_every_public_class_with_a_seed_says_it_in_its_config():
    classes = [
        cls
        for space in (layers, quantizers, initializers, nobn.regularizers)
        for cls in map(vars(space).get, space.__all__)
        if inspect.isclass(cls) and "seed" in inspect.getdoc(cls)
    ]
    assert {"SignFlipDropout", "SymmetricClasses"} < {cls.__name__ for cls in classes}
    for cls in classes:
        assert cls(seed=7).get_config()["seed"] == 7
        assert cls.from_config(cls(seed=7).get_config()).seed == 7


@every_row
def test_a_copy_and_an_opened_file_draw_what_the_model_did(make, tmp_path):
    model = model_of(make, 7)
    path = tmp_path / "model.keras"
    model.save(path)
    expected = drawn(model)
    assert (drawn(model) != expected).any()
    for other in (
        keras.models.load_model(path),
        keras.models.clone_model(model),
        keras.Model.from_config(model.get_config()),
        model_of(make, 7),
    ):
        assert_array_equal(drawn(other), expected)
    assert (drawn(model_of(make, 8)) != expected).any()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5")
@pytest.mark.parametrize(
    "name, options", [("model.h5", {}), ("model", {"save_traces": False})]
)
def test_older_formats_keep_seeds(name, options, tmp_path):
    start = keras.Input(ONES.shape[1:])
    model = keras.Model(start, [make(7)(start) for make in ROWS.values()])
    model.save(tmp_path / name, **options)
    again = keras.models.load_model(tmp_path / name)
    for one, other in zip(
        model(ONES, training=True), again(ONES, training=True), strict=True
    ):
        assert_array_equal(one, other)


@pytest.mark.parametrize(
    "seed, error",
    [(-1, InvalidValue), (0.5, InvalidType), ("7", InvalidType), (True, InvalidType)],
)
def test_what_is_no_seed(seed, error):
    for kind in (layers.SignFlipDropout, quantizers.BernoulliSign):
        with pytest.raises(error, match=rf"seed={seed!r} .*Use None"):
            kind(seed=seed)
