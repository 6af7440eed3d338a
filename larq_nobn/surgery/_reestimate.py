from __future__ import annotations

from typing import Any

import numpy as np

from .._checks import check_flag, check_integer
from .._keras import keras
from ..graph import _copies, _models
from ..population import BatchNormStatistics
from ..population._batches import model_batches
from ._report import Change, SurgeryReport


def reestimate_batch_norm(
    model: keras.Model, data: Any, batch_size: int = 128, return_report: bool = False
) -> Any:
    r"""Returns a copy whose batch norms contain the statistics of all of `data`.

    Training leaves moving averages. They lag the weights, depend on the order
    of the last batches, and are noisy if these were small. Here every batch norm gets

    \[ m = \frac{1}{N} \sum_b n_b m_b, \qquad
       v = \frac{1}{N} \sum_b n_b \big(v_b + (m_b - m)^2\big), \]

    the mean and the population variance of the \(N\) values per channel in its inputs
    for all of the data, however these are cut into batches. (Keras' own moving average
    of a fused batch norm divides by \(n_b - 1\).) Sums are taken in float64 and
    merged batch by batch, so only one batch is in memory at a time.

    The network runs as at inference, and each batch norm is set after those before it,
    from inputs that use their new statistics. That takes as many passes over the data
    as there are batch norms in a row; those in parallel branches share a pass.

    A batch norm that is used several times gets the joint statistics of all its uses. A
    `BatchKalmanNormalization` gets the posterior moments that training would find if
    the data were one batch: those of the data, mixed with its prior. Values that a mask
    excludes do not count.

    Arguments:
        model: A built functional or Sequential model, which may contain nested models.
            It is not changed.
        data: An array, `(x, y)`, or a `tf.data.Dataset` of batches of either, without
            augmentation; x is a list or a dict for a model of several inputs. Labels
            are not used.
        batch_size: Examples per batch, if `data` is arrays.
        return_report: Whether to return a `SurgeryReport` as well.

    Returns:
        The new model, not compiled, with the same layers and names, or the pair of it
        and a report that says how far the moving averages were off.

    Raises:
        ModelError: For a model without batch norm, a subclassed model or nested model,
            which it names, a layer that cannot be rebuilt, or a batch norm whose input
            depends on its own output.
        TypeError, ValueError: For data that does not fit the model or contains no
            example, or for values that are not finite; the message names the layer
            that receives them.

    Example:
        ```python
        import larq_nobn as nobn

        model = nobn.models.ReActNet18((8, 8, 1), 10, "batch_norm", width=16)
        images = nobn.data.load("digits", "test", 128)
        exact = nobn.reestimate_batch_norm(model, images)
        ```
    """
    check_integer("batch_size", batch_size, 1, "Use 128.")
    check_flag("return_report", return_report)
    _models.check_readable(model)
    _models.check_inference(model, batch_norms=False)  # their mode does not matter
    new = _copies.copied(model)
    statistics = BatchNormStatistics(new)
    before = {norm: _averages(norm) for norm in statistics.norms}
    counts = statistics.take(
        lambda: (x for x, _ in model_batches(new, data, batch_size))
    )
    if not return_report:
        return new
    changes = [_change(norm, *before[norm], count) for norm, count in counts.items()]
    return new, SurgeryReport(model.name, changes)


def _averages(norm: keras.layers.Layer) -> tuple[np.ndarray, np.ndarray]:
    return norm.moving_mean.numpy(), norm.moving_variance.numpy()


def _change(
    norm: keras.layers.Layer, old_mean: np.ndarray, old_variance: np.ndarray, count: int
) -> Change:
    mean, variance = _averages(norm)
    ratio = np.sqrt((variance + norm.epsilon) / (old_variance + norm.epsilon))
    shift = np.abs(mean - old_mean) / np.sqrt(variance + norm.epsilon)
    return Change(
        norm.name,
        type(norm).__name__,
        f"statistics of {count:,} values per channel; means moved by up to "
        f"{shift.max():.2g} standard deviations, standard deviations to "
        f"{ratio.min():.3g} to {ratio.max():.3g} times theirs",
    )
