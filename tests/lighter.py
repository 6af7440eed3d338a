"""What TensorFlow does beside its work, and tests do without."""

import functools

import tensorflow as tf
from tensorflow.python.autograph.core.ag_ctx import ControlStatusCtx, Status
from tensorflow.python.data.ops.dataset_ops import DatasetV2
from tensorflow.python.framework import ops


def keep_no_stacks():
    """Nobody reads where in Python each operation was made: a tenth of the time."""
    ops._create_c_op = functools.partial(ops._create_c_op, extract_traceback=False)


def without_autograph():
    """In this context, the source of Larq's layers is not read for each network anew.

    Which takes up to a fifth of the time, where there is no control flow in Python.
    """
    return ControlStatusCtx(Status.DISABLED)


def tune_no_datasets():
    """What Keras makes of arrays tunes itself as `data.load` does not, and why.

    Most iterators end when garbage is looked for, so late that many stood still.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    begun = DatasetV2._apply_debug_options
    DatasetV2._apply_debug_options = lambda self: begun(self).with_options(options)
