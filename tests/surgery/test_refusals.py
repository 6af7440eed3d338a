"""What cannot be taken apart is named."""

import larq_nobn as nobn
import pytest
from larq_nobn._keras import keras
from larq_nobn.graph import ModelError
from surgery.parts import SHAPE

each_tool = pytest.mark.parametrize(
    "tool", [nobn.fold_batch_norm, nobn.remove_batch_norm], ids=lambda f: f.__name__
)


class Subclassed(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.norm = keras.layers.BatchNormalization()

    def call(self, inputs):
        return self.norm(inputs)


@each_tool
def test_rejects_a_subclassed_part_by_name(tool):
    image = keras.Input(SHAPE)
    model = keras.Model(image, Subclassed(name="own_part")(image))
    with pytest.raises(ModelError, match="'own_part'"):
        tool(model)
    with pytest.raises(ModelError, match="'whole'"):
        tool(Subclassed(name="whole"))


@each_tool
def test_rejects_a_batch_norm_inside_a_wrapper_by_name(tool):
    clip = keras.Input((4, *SHAPE))
    inner = keras.layers.BatchNormalization(name="inside")
    model = keras.Model(clip, keras.layers.TimeDistributed(inner, name="each")(clip))
    with pytest.raises(ModelError, match="'each'.*'inside'"):
        tool(model)


@each_tool
def test_rejects_channels_first_by_name(tool):
    image = keras.Input(SHAPE)
    model = keras.Model(image, keras.layers.BatchNormalization(1, name="rows")(image))
    with pytest.raises(ModelError, match=r"'rows'.*axis"):
        tool(model)
