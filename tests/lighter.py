"""What TensorFlow does beside its work, and tests do without.

But for `make test-as-users`, which runs them once a night as users run the package.
"""

import contextlib
import functools
import inspect
import operator
import os
import re
import types
import typing
import weakref

import tensorflow as tf
from tensorflow.core.framework.graph_debug_info_pb2 import GraphDebugInfo
from tensorflow.lite.python import lite
from tensorflow.python import pywrap_tfe
from tensorflow.python.autograph.core.ag_ctx import ControlStatusCtx, Status
from tensorflow.python.data.ops.dataset_ops import DatasetV2
from tensorflow.python.framework import op_def_library, ops, random_seed
from tensorflow.python.ops import gen_resource_variable_ops

AS_USERS = "TESTS_AS_USERS" in os.environ


def replace_all():
    """But AutoGraph, which some tests need."""
    if not AS_USERS:
        keep_no_stacks()
        tune_no_datasets()
        read_signatures_once()
        know_protocols()
        open_no_saved_models()
        keep_kernels()
        name_no_types()


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


def keep_kernels():
    """To make a kernel, TensorFlow looks through all that it has.

    It makes them anew for each variable, which the name sets apart, and after each new
    seed, for which only those matter that draw numbers.
    """
    make = gen_resource_variable_ops.var_handle_op
    seeds, clear = random_seed.get_seed, pywrap_tfe.TFE_ContextClearCaches
    drawn, graphs = [], weakref.WeakSet()

    def nameless(*arguments, debug_name="", **options):
        return make(*arguments, **options)

    def noted(seed):
        if tf.executing_eagerly():
            drawn.append(True)
        else:
            graphs.add(ops.get_default_graph())
        return seeds(seed)

    def is_run(graph):
        """Not so Keras' graphs for shapes; data sets have kernels of their own."""
        return not re.search("_graph|^Dataset", getattr(graph, "name", ""))

    def clear_if_drawn(context):
        if drawn or any(map(is_run, graphs)):
            clear(context)
            drawn.clear()

    gen_resource_variable_ops.var_handle_op = nameless
    random_seed.get_seed = noted
    pywrap_tfe.TFE_ContextClearCaches = clear_if_drawn


def name_no_types():
    """The types that an input may have are listed for an error that is not raised."""
    check = op_def_library._SatisfiesTypeConstraint

    def satisfied(dtype, attr_def, param_name):
        if dtype not in attr_def.allowed_values.list.type:
            check(dtype, attr_def, param_name)

    op_def_library._SatisfiesTypeConstraint = satisfied
