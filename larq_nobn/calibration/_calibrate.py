from __future__ import annotations

from typing import Any

import tensorflow as tf

from .._checks import check_integer
from .._keras import keras
from ..graph import _errors, _models
from ..population._batches import model_batches
from ._rules import ComputedTensor, Rules

# Examples that are computed at a time: what a layer needs besides its output is small.
_PART = 128


def calibrate(model: keras.Model, data: Any, examples: int = 512) -> None:
    r"""Initializes thresholds, biases and gains from a batch of data.

    A new network then computes on that batch what its batch-norm counterpart would,
    after its convolutions and before its signs, as far as there are weights to hold
    the statistics. Afterwards nothing depends on a batch. Layer by layer, each after
    those that are set already, with means m and population standard deviations s per
    channel,

    \[ b_{\mathrm{RSign}} = -\beta\, m(x), \qquad
       \gamma \leftarrow \gamma\, \frac{a}{s(\mathrm{conv}(x))}, \qquad
       b_{\mathrm{RPReLU}} = -\sum_i m(\mathrm{branch}_i) . \]

    - `RSign`, as a layer or an `input_quantizer`: its shift, so that what it takes the
      sign of, the input times its scale β, has mean 0.
    - `ScaledStdSign` and `ScaledStandardization` of convolutions and dense layers: the
      gain γ, so that the output has standard deviation a. That is the quantizer's scale
      where the input is signs, and 1 for real-valued input, such as a projection's,
      whose scale only makes up for the standard deviation that its input should have. A
      bias becomes minus the mean. A layer with a bias directly before a max pool gets
      both from what the pool makes of its output, if nothing else reads that.
    - `RPReLU`: the shift in front, so that the convolutions whose outputs are added to
      its input contribute mean 0. Those since the last activation or normalization
      count, through sums, pools and concatenations, the stem and projections included.
      The mean that a shortcut brings from after an activation stays, as it does
      after batch norm.
    - `ChannelAffine`: β, so that the output has mean 0.

    All else stays as it is; so a sign without a shift sees mean 0 only where a bias
    provides for it. A channel keeps its gain if it hardly varies: by less than 1 % of
    its mean or 0.1 % of what it should. Gains keep their sign and never become 0.
    A layer that is used several times is set at its first use. The network runs as at
    inference, in parts of 128 examples; statistics are taken in float64 also of half
    precision. Thresholds, biases and gains that a model has learned are overwritten.

    Arguments:
        model: A built functional or Sequential model without batch norm, which may
            contain others; changed in place, or left as it was if anything fails.
        data: An array, `(x, y)`, or batches of either, prepared as for training: a
            `tf.data.Dataset`, a `keras.utils.Sequence` or a generator. x is a list or a
            dict for a model of several inputs. Labels play no part.
        examples: How many of the first examples to take, 1 or more. The maps of all of
            them are held in memory, a few at a time.

    Raises:
        ModelError: For a model with batch norm, one without any of the weights above, a
            subclassed model or part.
        TypeError, ValueError: For data that does not fit the model or contains no
            example, values that are not finite, or a number of examples out of range.

    Example:
        ```python
        import larq_nobn as nobn

        model = nobn.models.ReActNet18((8, 8, 1), classes=10, width=16)
        nobn.calibrate(model, nobn.data.load("digits", "train", 128))
        ```

    References:
        - P. Krähenbühl, C. Doersch, J. Donahue, T. Darrell, "Data-dependent
          Initializations of Convolutional Neural Networks", ICLR 2016,
          arXiv:1511.06856.
        - D. Mishkin, J. Matas, "All you need is a good init", ICLR 2016,
          arXiv:1511.06422.

    Differences from the paper:
        Kernels keep their initial weights, and gains take the factors instead. Shifts
        are set too, for signs depend on little else.
    """
    check_integer("examples", examples, 1, "Use 512.")
    _models.check_readable(model)
    _check_batch_norm(model)
    rules = Rules()
    try:
        inputs = _inputs(model, data, examples)
        rules.run(_models.flattened(model), inputs)
    except BaseException:
        rules.undo()
        raise
    if not rules.before:
        raise _errors.ModelError(
            f"Model {model.name!r} has no shift, gain or bias to calibrate. Pass one "
            "with RSign, RPReLU, ScaledStdSign, ScaledStandardization or BiPer, such "
            'as a network built with normalization="nobn".'
        )


def _check_batch_norm(model: keras.Model) -> None:
    names = [x.name for x in model.submodules if _models.has_batch_statistics(x)]
    if names:
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        raise _errors.ModelError(
            f"Model {model.name!r} has the batch norm {names[0]!r}{more}, which takes "
            "its statistics from every batch, so that there is nothing to calibrate. "
            'Build it with normalization="nobn", or use remove_batch_norm.'
        )


def _inputs(model: keras.Model, data: Any, examples: int) -> list[ComputedTensor]:
    """Returns the first examples, in parts."""
    parts: list[list[tf.Tensor]] = []
    left = examples
    for tensors, _ in model_batches(model, data, _PART, examples):
        parts.append([tensor[:left] for tensor in tensors])
        left -= len(parts[-1][0])
    return [ComputedTensor(list(one)) for one in zip(*parts, strict=True)]
