"""Training over several devices or machines, with the results of one."""

from __future__ import annotations

import functools
import json
import os
import re
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import tensorflow as tf
from tensorflow.python.eager import context

from ..._checks import check_bounds, check_choice
from ..._names import STRATEGIES
from ...data._batches import Share
from ._meeting import given_up_after, meet

# Seconds that a worker waits for the others, and those that TensorFlow gets then.
WAIT, _LIMIT = 600, 30
_ADDRESS = re.compile(r"[^\s]+:[0-9]{1,5}")
_GONE = (
    "Another worker has stopped, or cannot be reached, and no worker trains alone. See "
    "what it said, then start all of them again with --resume (resume=True)."
)
_EXAMPLE = (
    '{"cluster": {"worker": ["host1:2222", "host2:2222"]}, '
    '"task": {"type": "worker", "index": 0}}'
)


def strategy_for(name: str, wait: float = WAIT) -> tf.distribute.Strategy:
    """Returns what TensorFlow runs a training step on.

    Arguments:
        name: `"none"` for the first device, `"mirrored"` for all GPUs of this machine
            (all virtual CPUs where there is none), `"multi_worker"` for the machines
            that the environment variable TF_CONFIG names. The last has to come before
            anything else that TensorFlow does in the process, and waits until all
            workers are there.
        wait: How many seconds, at most.

    Raises:
        ValueError: If there is no such strategy, or TF_CONFIG does not describe one.
        RuntimeError: If TensorFlow has begun to work already.
        ConnectionError: If a worker is not there in time.

    Example:
        ```python
        with strategy_for("mirrored").scope():
            network = nobn.models.ReActNet18((32, 32, 3), 10, width=16)
        ```
    """
    check_choice("strategy", name, STRATEGIES)
    check_bounds("wait", wait)
    if name == "none":
        return tf.distribute.get_strategy()
    if name == "multi_worker":
        config = _check_cluster(os.environ.get("TF_CONFIG"))
        if name not in _made:
            meet(config, wait)
    if name not in _made:
        _made[name] = _make(name)
    return _made[name]


# Strategies number their messages, each from the same number on: of two in a process
# the second would get answers that were meant for the first.
_made: dict[str, tf.distribute.Strategy] = {}


def _make(name: str) -> tf.distribute.Strategy:
    if name == "mirrored":
        devices = tf.config.list_logical_devices
        return tf.distribute.MirroredStrategy(
            [each.name for each in devices("GPU") or devices("CPU")]
        )
    try:
        with _heard_afterwards(), _limited(), given_up_after(2 * _LIMIT, _GONE):
            return tf.distribute.MultiWorkerMirroredStrategy()
    except tf.errors.OpError as error:
        raise ConnectionError(_GONE) from error
    except RuntimeError as error:
        raise RuntimeError(
            "strategy='multi_worker' comes too late: TensorFlow has begun to work in "
            "this process. Train in a fresh process, or before all else."
        ) from error


@contextmanager
def _limited() -> Iterator[None]:
    """Lets TensorFlow give up workers that went after all have met."""
    around = context.context()
    configure = around.configure_coordination_service
    around.configure_coordination_service = functools.partial(
        configure, cluster_register_timeout_in_ms=1000 * _LIMIT
    )
    try:
        yield
    finally:
        around.configure_coordination_service = configure


@contextmanager
def _heard_afterwards() -> Iterator[None]:
    """Keeps SIGTERM for later, which TensorFlow would take for itself, and lose.

    Meanwhile Ctrl-C ends the process at once: nothing has been written yet.
    """
    main = threading.current_thread() is threading.main_thread()
    if not main or not hasattr(signal, "pthread_sigmask"):
        yield
        return
    handler = signal.getsignal(signal.SIGTERM)
    interrupt = signal.signal(signal.SIGINT, signal.SIG_DFL)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, interrupt)
        signal.signal(signal.SIGTERM, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def has_workers(strategy: tf.distribute.Strategy) -> bool:
    """Whether several processes train together, of which this is one."""
    cluster = strategy.cluster_resolver
    return cluster is not None and bool(cluster.cluster_spec().jobs)


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Whether this process is the one of all workers that writes the run folder."""
    cluster = strategy.cluster_resolver
    if not has_workers(strategy):
        return True
    has_chief = "chief" in cluster.cluster_spec().jobs
    return cluster.task_type == "chief" or (not has_chief and cluster.task_id == 0)


def check_shares(strategy: tf.distribute.Strategy, batch_size: int, parts: int) -> None:
    """Refuses a batch that replicas cannot share evenly.

    Arguments:
        strategy: Where it is computed.
        batch_size: Images per step, over all replicas.
        parts: How many micro-batches each replica makes of its share.

    Raises:
        ValueError: If they do not get equal numbers of images.
    """
    replicas = strategy.num_replicas_in_sync
    if batch_size % (replicas * parts):
        each = f" in {parts} parts each (accumulate={parts})" if parts > 1 else ""
        raise ValueError(
            f"batch_size={batch_size} cannot be shared evenly by {replicas} "
            f"replicas{each}. Choose a multiple of {replicas * parts}."
        )


@contextmanager
def with_all_workers() -> Iterator[None]:
    """Says in a sentence that another worker is gone; without it none can go on.

    TensorFlow notices at once if the first worker's process ends, and within some ten
    seconds for the others.

    Raises:
        ConnectionError: If that happens.
    """
    try:
        yield
    except tf.errors.UnavailableError as error:
        raise ConnectionError(_GONE) from error


def shared(
    images: tf.data.Dataset,
    parts_of: Callable[[Share], tf.data.Dataset],
    strategy: tf.distribute.Strategy,
) -> Any:
    """Cuts batches into one part for each replica.

    The parts of all replicas together are the batch, in its order, so that they train
    and test on the very images that one process would. Keras' own ways, which deal out
    whole batches or files to the workers, do not promise that. Each worker reads the
    parts of its own replicas.

    Arguments:
        images: Batches (images, labels) over all replicas, for the case of one.
        parts_of: The same for a share of the replicas.
        strategy: Where they are needed.

    Returns:
        What `fit` takes along with the number of steps. It is endless: one pass after
        the other. With a single replica it is `images`, and ends with them.
    """
    replicas = strategy.num_replicas_in_sync
    if replicas == 1:
        return images

    def parts(context: tf.distribute.InputContext) -> tf.data.Dataset:
        count = replicas // context.num_input_pipelines
        first = context.input_pipeline_id * count
        # Known to be endless, the workers need not ask each other whether it is over.
        endless = tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY)
        found = parts_of((first, count, replicas)).repeat().apply(endless)
        return found.prefetch(2)

    return strategy.distribute_datasets_from_function(parts)


def _check_cluster(text: str | None) -> dict[str, Any]:
    """Returns what TF_CONFIG says, if TensorFlow understands it and all is there."""
    if not text:
        raise ValueError(
            "strategy='multi_worker' needs the environment variable TF_CONFIG, which "
            f"is not set. Set it to something like {_EXAMPLE}, with the index of each "
            "worker's own."
        )
    try:
        config = json.loads(text)
        cluster, task = config["cluster"], config["task"]
        if task["index"] < 0:
            raise IndexError(f"index {task['index']} is below 0")
        own = cluster[task["type"]][task["index"]]
        for address in [own, *(each for job in cluster.values() for each in job)]:
            if not isinstance(address, str) or not _ADDRESS.fullmatch(address):
                raise ValueError(f"{address!r} is no host:port")
        return dict(config)
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise ValueError(
            f"TF_CONFIG={text} does not describe a cluster and this worker's place in "
            f"it ({type(error).__name__}: {error}). It must look like {_EXAMPLE}."
        ) from error
