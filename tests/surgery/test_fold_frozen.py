"""What trained before folding still trains: it does not go into frozen layers."""

import larq_nobn as nobn
import pytest
from deploy.nets import binary_conv
from larq_nobn._keras import keras
from surgery.parts import settled

layers = keras.layers
FROZEN = {
    "before": lambda norm, conv: [conv, norm],
    "behind": lambda norm, conv: [norm, conv],
}
KERNELS = {
    "float": lambda: layers.Conv2D(8, 3, trainable=False, name="conv"),
    "binary": lambda: binary_conv(
        8, pad_values=0.0, trainable=False, name="conv", kernel_quantizer="ste_sign"
    ),
}


def network(place, kernel, **kwargs):
    norm = layers.BatchNormalization(name="norm", **kwargs)
    rows = FROZEN[place](norm, KERNELS[kernel]())
    return settled(keras.Sequential([keras.Input((8, 8, 8)), *rows]))


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("place", FROZEN)
def test_beside_a_frozen_layer_a_gain_and_a_bias_stay_to_be_trained(place, kernel):
    folded = nobn.fold_batch_norm(network(place, kernel))
    names = [weight.name for weight in folded.trainable_weights]
    assert names == ["norm/gamma:0", "norm/beta:0"]


def test_what_does_not_train_either_goes_into_a_frozen_layer():
    folded = nobn.fold_batch_norm(network("before", "float", scale=False, center=False))
    assert [layer.name for layer in folded.layers[1:]] == ["conv"]
    assert folded.trainable_weights == []
