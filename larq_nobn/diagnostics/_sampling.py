from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from .._batches import batches
from .._checks import check_integer
from .._keras import keras
from .._probabilities import as_probabilities


@dataclass(frozen=True)
class SampledPredictions:
    """What `sampled_predictions` finds.

    Attributes:
        probabilities: Mean over the networks, (N, classes).
        spread: Standard deviation over the networks (population), (N, classes).
        labels: As the data gives them, (N, ...); None where it gives none.
        samples: Number of networks.
    """

    probabilities: np.ndarray
    spread: np.ndarray
    labels: np.ndarray | None
    samples: int


def sampled_predictions(
    model: keras.Model, data: Any, samples: int = 16, seed: int = 0
) -> SampledPredictions:
    r"""Averages the class probabilities of binary networks drawn from a posterior.

    Each network takes, for every natural parameter λ in a kernel of `BernoulliSign`,
    +1 with probability \((1 + \tanh\lambda)/2\) and -1 otherwise, and keeps all other
    weights. With the softmax \(q\) of each,

    \[ p(y | x) = \frac{1}{S} \sum_{s=1}^{S} q(y | x, w_s), \qquad
       w_s = \operatorname{sign}(\lambda + \delta_s) . \]

    The networks run as at inference. While they do, the kernels hold their signs;
    afterwards, also after an error, the model is what it was.

    Arguments:
        model: A classifier that ends in logits or in a softmax.
        data: Images, `(images, labels)`, or batches of either as a `tf.data.Dataset`.
        samples: Number S of networks, 1 or more.
        seed: Decides which; the first ones are the same for every S.

    Returns:
        Mean and spread of the probabilities, and the labels in the same order.

    Raises:
        TypeError: If `samples` or `seed` is not a whole number.
        ValueError: If they are out of range, the model has no kernel of
            `BernoulliSign` or more than one output, or the data holds no example.

    Example:
        ```python
        import larq as lq
        import larq_nobn as nobn
        import numpy as np
        import tensorflow as tf

        model = tf.keras.Sequential([
            tf.keras.Input((8,)),
            lq.layers.QuantDense(3, kernel_quantizer="bernoulli_sign"),
        ])
        found = nobn.diagnostics.sampled_predictions(model, np.ones((2, 8)), samples=4)
        print(found.probabilities, found.spread)
        ```

    References:
        - H. Jang, N. Skatchkovsky, O. Simeone, "BiSNN: Training Spiking Neural Networks
          with Binary Weights via Bayesian Learning", 2020, arXiv:2012.08300.
        - X. Meng, R. Bachmann, M. E. Khan, "Training Binary Neural Networks using the
          Bayesian Learning Rule", ICML 2020, arXiv:2002.10778.

    Differences from the paper:
        None known.
    """
    check_integer("samples", samples, 1, "16 is a good start.")
    check_integer("seed", seed, 0, "Any whole number from 0 will do.")
    kernels = [weight.latent_variable for weight in model.weights if _is_drawn(weight)]
    if not kernels:
        raise ValueError(
            f"The model {model.name} has no kernel of BernoulliSign to draw networks "
            "from. Use its predictions as they are, or train it with kernel_quantizer="
            '"bernoulli_sign".'
        )

    @tf.function(reduce_retracing=True)
    def run(x: Any) -> Any:
        return model(x, training=False)

    means, spreads, labels = [], [], []
    with _restored(kernels) as natural:
        networks = list(_networks(natural, samples, seed))
        for x, y in batches(data, 128):
            found = np.stack(
                [_probabilities(run, x, kernels, each) for each in networks]
            )
            means.append(found.mean(0))
            spreads.append(found.std(0))
            labels.append(y)
    if not means:
        raise ValueError("data holds no example. Pass at least one.")
    known = all(y is not None for y in labels)
    return SampledPredictions(
        np.concatenate(means),
        np.concatenate(spreads),
        np.concatenate([np.asarray(y) for y in labels]) if known else None,
        samples,
    )


def _is_drawn(weight: Any) -> bool:
    quantizer = getattr(weight, "quantizer", None)
    return getattr(quantizer, "natural_parameters", False)


@contextmanager
def _restored(kernels: list[Any]) -> Iterator[list[np.ndarray]]:
    """The values of kernels, which they have again afterwards."""
    values = [kernel.numpy() for kernel in kernels]
    try:
        yield values
    finally:
        for kernel, value in zip(kernels, values, strict=True):
            kernel.assign(value)


def _networks(
    natural: list[np.ndarray], samples: int, seed: int
) -> Iterator[list[np.ndarray]]:
    """Where each network has +1, kernel by kernel."""
    rng = np.random.default_rng(seed)
    likely = [(1 + np.tanh(each.astype(np.float64))) / 2 for each in natural]
    for _ in range(samples):
        yield [rng.random(each.shape) < each for each in likely]


def _probabilities(
    run: Callable[[Any], Any], x: Any, kernels: list[Any], network: list[np.ndarray]
) -> np.ndarray:
    """Class probabilities by one network, which is the mode of its own signs."""
    for kernel, positive in zip(kernels, network, strict=True):
        kernel.assign(np.where(positive, 1.0, -1.0).astype(kernel.dtype.name))
    outputs = run(x)
    if not tf.is_tensor(outputs) or outputs.shape.rank != 2:
        raise ValueError(
            "The model does not give one vector of classes per example. Pass a "
            "classifier of a single output."
        )
    return as_probabilities(outputs.numpy())
