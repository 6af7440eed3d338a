"""What TensorFlow does beside its work, and tests do without.

But for `make test-as-users`, which runs them once a night as users run the package.
"""

import contextlib
import functools
import inspect
import operator
import os
import types
import typing
import weakref

import tensorflow as tf
from tensorflow.core.framework.graph_debug_info_pb2 import GraphDebugInfo
from tensorflow.lite.python import lite
from tensorflow.python.autograph.core.ag_ctx import ControlStatusCtx, Status
from tensorflow.python.data.ops.dataset_ops import DatasetV2
from tensorflow.python.framework import ops

AS_USERS = "TESTS_AS_USERS" in os.environ


def replace_all():
    """But AutoGraph, which some tests need."""
    if not AS_USERS:
        keep_no_stacks()
        tune_no_datasets()
        read_signatures_once()
        know_protocols()
        open_no_saved_models()


def keep_no_stacks():
    """Nobody reads where in Python each operation was made: a tenth of the time."""
    ops._create_c_op = functools.partial(ops._create_c_op, extract_traceback=False)


@contextlib.contextmanager
def without_autograph():
    """In this context, the source of Larq's layers is not read for each network anew.

    Which takes up to a third of the time, where there is no control flow in Python.
    """
    if AS_USERS:
        yield
        return
    usual = tf.function
    tf.function = functools.partial(usual, autograph=False)
    try:
        with ControlStatusCtx(Status.DISABLED):
            yield
    finally:
        tf.function = usual


def tune_no_datasets():
    """What Keras makes of arrays tunes itself as `data.load` does not, and why.

    Most iterators end when garbage is looked for, so late that many stood still. And
    most begin for a few batches, for which the fastest graph is not worth looking for.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    options.experimental_optimization.apply_default_optimizations = False
    begun = DatasetV2._apply_debug_options
    DatasetV2._apply_debug_options = lambda self: begun(self).with_options(options)


def read_signatures_once():
    """Keras and TensorFlow ask for those of their functions with each layer anew."""
    read = inspect._signature_from_function
    known = weakref.WeakKeyDictionary()

    def remembered(cls, function, **options):
        usual = options.get("skip_bound_arg", True) and not options.get("eval_str")
        usual = usual and cls is inspect.Signature and inspect.isfunction(function)
        if not usual:
            return read(cls, function, **options)
        # A test may change defaults.
        state = (function.__code__, function.__defaults__, function.__kwdefaults__)
        before = known.get(function)
        if before is None or any(map(operator.is_not, before[0], state)):
            before = known[function] = (state, read(cls, function, **options))
        return before[1]

    inspect._signature_from_function = remembered


def know_protocols():
    """What a protocol of typing asks for does not change."""
    typing._get_protocol_attrs = functools.cache(typing._get_protocol_attrs)


def open_no_saved_models():
    """TensorFlow's converter opens each twice, for lines of Python that none says."""
    opened = types.SimpleNamespace(
        signatures={"serving_default": None}, graph_debug_info=GraphDebugInfo()
    )
    lite._load = lambda *_: opened
    lite.gc = types.SimpleNamespace(collect=int)  # afterwards it looks for garbage
