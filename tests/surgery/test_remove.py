"""The normalizer-free rewrite against networks that are built in that form."""

import larq_nobn as nobn
import numpy as np
import pytest
from larq_nobn._keras import keras


def quantizers(model):
    """Class and numbers of every quantizer of a model, by layer and place."""
    found = {}
    for layer in model.layers:
        for place in ("input_quantizer", "kernel_quantizer"):
            quantizer = getattr(layer, place, None)
            if quantizer is not None:
                config = quantizer.get_config()
                rounded = {
                    key: round(value, 6) if isinstance(value, float) else value
                    for key, value in config.items()
                    if key != "name"
                }
                found[layer.name, place] = (type(quantizer).__name__, rounded)
    return found


@pytest.mark.parametrize("rule", ["nf", "vita"])
@pytest.mark.parametrize("binary", [True, False])
def test_reactnet_becomes_what_its_builder_makes(rule, binary):
    arguments = {"width": 4, "blocks": (2, 3), "binary_weights": binary}
    build = nobn.models.ReActNet18
    given = build((8, 8, 1), 3, "batch_norm", **arguments)
    wanted = build((8, 8, 1), 3, "nobn", variance_rule=rule, **arguments)
    free = nobn.remove_batch_norm(given, 0.2, rule, variance_preserving=False)
    assert [x.name for x in free.layers] == [x.name for x in wanted.layers]
    assert quantizers(free) == quantizers(wanted)


def test_a_model_without_batch_norm_is_copied():
    given = nobn.models.ReActNet18((8, 8, 1), 3, width=4, blocks=(1, 1))
    copy, report = nobn.remove_batch_norm(given, return_report=True)
    assert report.changes == ()
    assert copy is not given
    x = np.random.default_rng(0).normal(size=(4, 8, 8, 1)).astype(np.float32)
    np.testing.assert_array_equal(copy(x), given(x))
    assert isinstance(nobn.remove_batch_norm(given), keras.Model)
