"""Training over several devices or machines, with the results of one."""

from __future__ import annotations

import logging
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import tensorflow as tf

from .._checks import check_bounds, check_choice
from .._errors import InvalidValue
from .._files import check_shape, parse_json
from .._names import STRATEGIES
from ..data import Share
from ..models import BATCH_STATISTICS
from ._settings import RunSettings

_log = logging.getLogger("larq_nobn")
# Smaller batches have statistics that are mostly noise.
_SMALLEST_BATCH = 4
# Seconds between two attempts to connect, and those that one may take.
_PAUSE, _ANSWER = 0.2, 5.0
# Seconds that a worker waits for the others.
WAIT = 600
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

    `"none"` is the first device, `"mirrored"` all GPUs of this machine (all virtual
    CPUs where there is none), `"multi_worker"` the machines that the environment
    variable TF_CONFIG names. The last has to come before anything else that TensorFlow
    does in the process, and waits, for so many seconds at most, until all workers are
    there.
    """
    check_choice("strategy", name, STRATEGIES)
    check_bounds("wait", wait)
    if name == "none":
        return tf.distribute.get_strategy()
    if name not in _made and name == "mirrored":
        devices = tf.config.list_logical_devices
        names = [device.name for device in devices("GPU") or devices("CPU")]
        _made[name] = tf.distribute.MirroredStrategy(names)
    elif name not in _made:
        _made[name] = _multi_worker(wait)
    return _made[name]


# Strategies number their messages, each from the same number on: of two in a process
# the second would get answers that were meant for the first.
_made: dict[str, tf.distribute.Strategy] = {}


def _multi_worker(wait: float) -> tf.distribute.Strategy:
    wait_for_workers(*_cluster(), wait)
    handler = signal.getsignal(signal.SIGTERM)
    try:
        return tf.distribute.MultiWorkerMirroredStrategy()
    except tf.errors.OpError as error:
        raise ConnectionError(_GONE) from error
    finally:
        with suppress(ValueError):  # outside of the main thread
            # TensorFlow has put one of its own in its place, and would continue.
            signal.signal(signal.SIGTERM, handler)


def has_workers(strategy: tf.distribute.Strategy) -> bool:
    """Whether several processes train together, of which this is one."""
    cluster = strategy.cluster_resolver
    return cluster is not None and bool(cluster.cluster_spec().jobs)


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Whether this process is the one of all workers that writes the run folder."""
    if not has_workers(strategy):
        return True
    cluster = strategy.cluster_resolver
    has_chief = "chief" in cluster.cluster_spec().jobs
    return cluster.task_type == "chief" or (not has_chief and cluster.task_id == 0)


def check_shares(strategy: tf.distribute.Strategy, batch_size: int, parts: int) -> None:
    """Rejects a batch that replicas cannot share evenly, each in so many parts."""
    replicas = strategy.num_replicas_in_sync
    if batch_size % (replicas * parts):
        each = f" in {parts} parts each (accumulate={parts})" if parts > 1 else ""
        raise InvalidValue(
            f"batch_size={batch_size} cannot be shared evenly by {replicas} "
            f"replicas{each}. Choose a multiple of {replicas * parts}."
        )


def warn_of_small_batches(settings: RunSettings, replicas: int) -> None:
    """Says what statistics of batches suffer from, where there are such."""
    if settings.normalization not in BATCH_STATISTICS:
        return
    part = settings.batch_size // (replicas * settings.accumulate)
    if part < max(_SMALLEST_BATCH, settings.batch_size):
        _log.warning(
            "normalization=%r takes its statistics from the %d images that are "
            "computed together: results differ from those of larger batches, and of "
            "fewer than %d images they are mostly noise.",
            *(settings.normalization, part, _SMALLEST_BATCH),
        )


@contextmanager
def with_all_workers() -> Iterator[None]:
    """Raises a ConnectionError if another worker is gone, as none can continue then.

    TensorFlow notices at once if the first worker's process ends, and within some ten
    seconds for the others.
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
    """Cuts batches into one part for each replica, one pass after the other.

    The parts of all replicas together are the batch, in its order, so that they train
    and test on the very images that one process would. Keras' own ways, which deal out
    whole batches or files to the workers, do not promise that. Each worker reads the
    parts of its own replicas. For a single replica `images` are returned.
    """
    replicas = strategy.num_replicas_in_sync
    if replicas == 1:
        return images

    def parts(context: tf.distribute.InputContext) -> tf.data.Dataset:
        count = replicas // context.num_input_pipelines
        first = context.input_pipeline_id * count
        # Known to be endless, the workers need not ask each other whether it is over.
        endless = tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY)
        images = parts_of((first, count, replicas)).repeat().apply(endless)
        return images.prefetch(2)

    return strategy.distribute_datasets_from_function(parts)


def _cluster() -> tuple[dict[str, str], str]:
    """Returns the addresses of all workers by their names, and the own name."""
    text = os.environ.get("TF_CONFIG")
    if not text:
        raise InvalidValue(
            "strategy='multi_worker' needs the environment variable TF_CONFIG, which "
            f"is not set. Set it to something like {_EXAMPLE}, with the index of each "
            "worker's own."
        )
    try:
        config = parse_json(text)
        check_shape(config, {"cluster": {}, "task": {"type": str, "index": int}})
        cluster, task = config["cluster"], config["task"]
        check_shape(cluster, dict.fromkeys([*cluster, task["type"]], [str]), "cluster")
        places = {
            f"{job} {index}": address
            for job, addresses in cluster.items()
            for index, address in enumerate(addresses)
        }
        for address in places.values():
            _split(address)
        own = f"{task['type']} {task['index']}"
        if own not in places:
            raise InvalidValue(f"task.index is {task['index']}")
    except ValueError as error:
        raise InvalidValue(
            f"TF_CONFIG={text} does not describe a cluster and this worker's place in "
            f"it: {error}. It must look like {_EXAMPLE}."
        ) from error
    return places, own


def wait_for_workers(places: Mapping[str, str], own: str, wait: float) -> None:
    """Waits until all workers of a cluster are there, before TensorFlow starts.

    TensorFlow would wait without a word. Each worker listens at its own address, where
    TensorFlow will, until each of the others has been reached. A ConnectionError names
    who is not there in time, and an address that is not of this machine.
    """
    missing = {name: place for name, place in places.items() if name != own}
    start, said = time.monotonic(), False
    try:
        (family, *_), *_ = socket.getaddrinfo(*_split(places[own]))
        listener = socket.create_server(_split(places[own]), family=family)
    except OSError as error:
        raise ConnectionError(
            f"This process is to be {own} of TF_CONFIG, but cannot listen at "
            f"{places[own]}: {error.strerror or error}. Give each worker an address "
            "and a free port of its own machine."
        ) from error
    with listener:
        while missing := {n: p for n, p in missing.items() if not _answers(p)}:
            awaited = ", ".join(f"{name} ({place})" for name, place in missing.items())
            if time.monotonic() - start >= wait:
                raise ConnectionError(
                    f"After {wait:g} seconds there is no answer from {awaited}. Start "
                    "all workers of TF_CONFIG, see that their addresses and ports can "
                    "be reached, or wait longer with --wait (wait=...)."
                )
            if not said:
                _log.warning("Waiting for %s, for %g seconds at most.", awaited, wait)
            said = True
            time.sleep(_PAUSE)


def _answers(address: str) -> bool:
    with suppress(OSError):
        socket.create_connection(_split(address), _ANSWER).close()
        return True
    return False


def _split(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)
