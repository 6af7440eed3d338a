from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from .._checks import check_bounds
from .._errors import InvalidValue
from .._keras import check_model, keras
from ..population import (
    BatchNormStatistics,
    as_probabilities,
    averages_of,
    has_batch_norm,
)
from ..population._batches import batches, model_batches


@dataclass(frozen=True)
class SampledPredictions:
    """The result of `sampled_predictions`.

    Attributes:
        probabilities: Mean over the networks, (N, classes).
        spread: Standard deviation over the networks (population), (N, classes).
        labels: Labels of the data, (N, ...); None if it has none.
        samples: Number of networks.
    """

    probabilities: np.ndarray
    spread: np.ndarray
    labels: np.ndarray | None
    samples: int


def sampled_predictions(
    model: keras.Model,
    data: Any,
    samples: int = 16,
    seed: int = 0,
    statistics: Any = None,
) -> SampledPredictions:
    r"""Averages the class probabilities of networks sampled from a posterior.

    For every natural parameter λ in a kernel of `BernoulliSign`, each network has the
    weight +1 with probability \((1 + \tanh\lambda)/2\), else -1; all other weights are
    those of the model. With the softmax \(q\) of each network,

    \[ p(y | x) = \frac{1}{S} \sum_{s=1}^{S} q(y | x, w_s), \qquad
       w_s = \operatorname{sign}(\lambda + \delta_s) . \]

    The networks run as at inference. Meanwhile, the kernels of the model contain their
    signs; afterwards, also after an error, it has its own weights again.

    The inputs of a batch norm differ between networks. With `statistics`, each network
    re-estimates its batch norms from these examples before it predicts (see
    `larq_nobn.reestimate_batch_norm`).

    Arguments:
        model: A classifier that ends in logits or in a softmax.
        data: Images, `(images, labels)`, or batches of either as a `tf.data.Dataset`.
        samples: Number S of networks, 1 or more.
        seed: Seed of the draws; the first networks are the same for every S.
        statistics: A few hundred training images, in a form of `data`. None uses the
            model's statistics for all networks, which are right for only one: after
            `train`, the most probable one.

    Returns:
        Mean and spread of the probabilities, and the labels in the same order.

    Raises:
        TypeError: If `samples` or `seed` is not a whole number.
        ValueError: If they are out of range, the model has no kernel of
            `BernoulliSign` or more than one output, or the data contains no example.
        ModelError: If `statistics` are given for a model with batch norm that is not
            functional.

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
        mean = nobn.diagnostics.sampled_predictions(model, np.ones((2, 8)), samples=4)
        print(mean.probabilities, mean.spread)
        ```

    References:
        - H. Jang, N. Skatchkovsky, O. Simeone, "BiSNN: Training Spiking Neural Networks
          with Binary Weights via Bayesian Learning", 2020, arXiv:2012.08300.
        - X. Meng, R. Bachmann, M. E. Khan, "Training Binary Neural Networks using the
          Bayesian Learning Rule", ICML 2020, arXiv:2002.10778.
        - W. Maddox, T. Garipov, P. Izmailov, D. Vetrov, A. G. Wilson, "A Simple
          Baseline for Bayesian Uncertainty in Deep Learning", NeurIPS 2019,
          arXiv:1902.02476 (statistics of each network).

    Differences from the paper:
        Maddox et al. average statistics of batches over all training images; here they
        are exact statistics of the given images.
    """
    check_model(model)
    check_bounds("samples", samples)
    check_bounds("seed", seed)
    kernels = [
        weight.latent_variable
        for weight in model.weights
        if getattr(getattr(weight, "quantizer", None), "natural_parameters", False)
    ]
    if not kernels:
        raise InvalidValue(
            f"The model {model.name} has no kernel of BernoulliSign to sample networks "
            "from. Use its own predictions, or train it with kernel_quantizer="
            '"bernoulli_sign".'
        )

    @tf.function(reduce_retracing=True)
    def run(x: Any) -> Any:
        return model(x, training=False)

    means, spreads, labels = [], [], []
    averages, statistics_batches = [], []
    if statistics is not None and has_batch_norm(model):
        norms = BatchNormStatistics(model)
        averages = averages_of(model)
        statistics_batches = [x for x, _ in model_batches(model, statistics, 128)]
    variables = [*kernels, *averages]
    before = [variable.numpy() for variable in variables]
    try:
        networks = []
        for signs in _signs(before[: len(kernels)], samples, seed):
            _assign(kernels, signs)
            if averages:
                norms.take(lambda: statistics_batches)
            networks.append([*signs, *(average.numpy() for average in averages)])
        for x, y in batches(data, 128):
            probabilities = np.stack(
                [_probabilities(run, x, variables, network) for network in networks]
            )
            means.append(probabilities.mean(0))
            spreads.append(probabilities.std(0))
            labels.append(y)
    finally:
        _assign(variables, before)
    if not means:
        raise InvalidValue("data contains no example. Pass at least one.")
    labeled = all(y is not None for y in labels)
    return SampledPredictions(
        np.concatenate(means),
        np.concatenate(spreads),
        np.concatenate([np.asarray(y) for y in labels]) if labeled else None,
        samples,
    )


def _assign(variables: list[Any], values: list[np.ndarray]) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value.astype(variable.dtype.name))


def _signs(
    natural: list[np.ndarray], samples: int, seed: int
) -> Iterator[list[np.ndarray]]:
    """Yields the signs of each network, kernel by kernel."""
    rng = np.random.default_rng(seed)
    probabilities = [(1 + np.tanh(x.astype(np.float64))) / 2 for x in natural]
    for _ in range(samples):
        positive = (rng.random(p.shape) < p for p in probabilities)
        yield [2 * signs.astype(np.int8) - 1 for signs in positive]


def _probabilities(
    run: Callable[[Any], Any], x: Any, variables: list[Any], values: list[np.ndarray]
) -> np.ndarray:
    """Returns the class probabilities of the network with these values."""
    _assign(variables, values)
    outputs = run(x)
    if not tf.is_tensor(outputs) or outputs.shape.rank != 2:
        raise InvalidValue(
            "The model does not return one vector of classes per example. Pass a "
            "classifier with a single output."
        )
    return as_probabilities(outputs.numpy())
