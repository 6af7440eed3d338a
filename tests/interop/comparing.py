"""Outputs of a PyTorch network against those of the model made from its checkpoint."""

import numpy as np
import torch
from interop.published import closest
from numpy.testing import assert_allclose


def save(network, path, prefix=""):
    """Writes a checkpoint as the published training loops do."""
    state = {prefix + name: value for name, value in network.state_dict().items()}
    torch.save({"epoch": 3, "state_dict": state, "best_prec1": 12.5}, path)
    return path


def images(size, count=3):
    values = np.random.default_rng(0).normal(size=(count, *size, 3))
    return values.astype(np.float32)


def outputs_of(network, x):
    with torch.no_grad():
        return network(torch.from_numpy(x.transpose(0, 3, 1, 2).copy())).numpy()


def assert_same_function(network, model, size):
    x = images(size)
    expected = outputs_of(network, x)
    # No sign stands where rounding could turn it: seeds are chosen for that.
    assert closest(network) > 1e-6
    assert np.std(expected) > 0.1
    assert_allclose(model(x).numpy(), expected, rtol=1e-4, atol=1e-4)
