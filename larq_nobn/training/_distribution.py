"""Training over several devices or machines, with the results of one."""

from __future__ import annotations

import json
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
from .._names import STRATEGIES
from ..data import Share

_log = logging.getLogger("larq_nobn")
# Seconds between two attempts to connect, and those that one may take.
_PAUSE, _ANSWER = 0.2, 5.0
# Seconds that a worker waits for the others.
WAIT = 600
_GONE = (
    "Another worker has stopped, or cannot be reached, and no worker trains alone. See "
    "what it said, then start all of them again with --resume (resume=True)."
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


def check_shares(strategy: tf.distribute.Strategy, batch_size: int, parts: int) -> None:
    """Rejects a batch that replicas cannot share evenly, each in so many parts."""
    replicas = strategy.num_replicas_in_sync
    if batch_size % (replicas * parts):
        each = f" in {parts} parts each (accumulate={parts})" if parts > 1 else ""
        raise InvalidValue(
            f"batch_size={batch_size} cannot be shared evenly by {replicas} "
            f"replicas{each}. Choose a multiple of {replicas * parts}."
        )


@contextmanager
def with_all_workers() -> Iterator[None]:
    """Raises a ConnectionError if another worker is gone, as none can continue then."""
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
    """Returns where all workers are, by their names, and the own name."""
    text = os.environ.get("TF_CONFIG", "")
    try:
        config = json.loads(text)
    except ValueError:
        config = None
    match config:
        case {"cluster": {**jobs}, "task": {"type": kind, "index": index}}:
            lists: Any = {job: x for job, x in jobs.items() if isinstance(x, list)}
            places = {f"{k} {i}": x for k in lists for i, x in enumerate(lists[k])}
            own = f"{kind} {index}"
            if lists == jobs and own in places and all(map(_is_place, places.values())):
                return places, own
    raise InvalidValue(
        "strategy='multi_worker' needs the environment variable TF_CONFIG, which "
        f"is {text!r}: that does not describe a cluster and this worker's place in "
        'it. Set it to something like {"cluster": {"worker": ["host1:2222", '
        '"host2:2222"]}, "task": {"type": "worker", "index": 0}}, with the index '
        "of each worker's own."
    )


def _is_place(address: Any) -> bool:
    return isinstance(address, str) and address.rpartition(":")[2].isdecimal()


def wait_for_workers(places: Mapping[str, str], own: str, wait: float) -> None:
    """Waits until all workers of a cluster are there, before TensorFlow starts.

    TensorFlow would wait without a word, and deaf to signals. Each worker listens at
    its own address, where TensorFlow will, until each of the others has been reached.
    """
    missing = {name: place for name, place in places.items() if name != own}
    end, said = time.monotonic() + wait, False
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
            if time.monotonic() >= end:
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
