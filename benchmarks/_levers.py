"""Changes of networks that the package has no option for, unless one of them gains.

Each is a context in which networks are built with the change.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from unittest.mock import patch

import larq_nobn as nobn
import numpy as np
import tensorflow as tf
from larq_nobn.models import _residual18
from larq_nobn.models._parts import Parts

IMAGES, ROUNDS = 512, 3
_projection, _binary_conv = Parts.projection, Parts.binary_conv


def real_projections(settings):
    """The 1x1 kernels of shortcuts are real-valued."""

    def real(self, x, channels, name, scale, **options):
        return _projection(
            self, x, channels, name, scale, **{**options, "binary": False}
        )

    return patch.object(Parts, "projection", real)


@contextmanager
def measured_variances(settings):
    """β is 1/σ, α is σ times what it was; σ: standard deviation of a block's input.

    A factor changes the inputs after it, so they are measured again, block by block in
    rounds.
    """
    with ExitStack() as stack:
        if settings.normalization == "nobn":
            sigmas = [[1.0] * 4] * 4
            for _ in range(ROUNDS):
                with scaled(sigmas):
                    sigmas = deviations(settings)
            print("sigmas", np.round(np.concatenate(sigmas), 2).tolist(), flush=True)
            stack.enter_context(scaled(sigmas))
        yield


@contextmanager
def scaled(sigmas):
    def variances(*_):
        return [[sigma**2 for sigma in stage] for stage in sigmas]

    def conv(self, x, channels, size, strides, name, alpha, beta, **options):
        shape = channels, size, strides, name
        return _binary_conv(self, x, *shape, alpha / beta, beta, **options)

    with (
        patch.object(_residual18, "expected_variances", variances),
        patch.object(Parts, "binary_conv", conv),
    ):
        yield


def deviations(settings):
    """The standard deviations of the inputs of blocks, by stage, when calibrated."""
    tf.keras.utils.set_random_seed(settings.seed)
    data = nobn.data.open_dataset(settings.dataset)
    images = next(iter(data.batches("train", IMAGES, seed=settings.seed)))[0]
    network = nobn.models.ReActNet18((32, 32, 3), 10, width=settings.width)
    nobn.calibration.calibrate(network, images)
    blocks = [x.name for x in network.layers if x.name.endswith("_add")]
    convolutions = [network.get_layer(x.replace("_add", "_conv")) for x in blocks]
    inputs = tf.keras.Model(network.inputs, [x.input for x in convolutions])
    found = [float(np.std(x)) for x in inputs.predict(images, verbose=0)]
    return [found[i : i + 4] for i in range(0, len(found), 4)]


LEVERS = {
    "real_projections": real_projections,
    "measured_variances": measured_variances,
}
