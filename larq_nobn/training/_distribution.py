"""Trains on several devices or machines, with the results of a single one."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import tensorflow as tf

from .._checks import check_bounds, check_choice
from .._errors import InvalidValue
from .._names import STRATEGIES
from ..data import Share

_log = logging.getLogger("larq_nobn")
# Seconds between two attempts to connect, and seconds that one attempt may take.
_PAUSE, _ANSWER = 0.2, 5.0
# Seconds that a worker waits for the others to start.
WAIT = 600
GONE = (
    "Another worker has stopped, or cannot be reached, and no worker trains alone. "
    "Read its messages, then start all workers again with --resume (resume=True)."
)


def strategy_for(name: str, wait: float = WAIT) -> tf.distribute.Strategy:
    """Returns the `tf.distribute` strategy of a name.

    `"none"` uses the first device, `"mirrored"` all GPUs of this machine (or all
    virtual CPUs, if it has no GPU), `"multi_worker"` the machines that the environment
    variable TF_CONFIG names. `"multi_worker"` must be the first use of TensorFlow in
    the process; it waits up to `wait` seconds until all workers have started.
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


# One strategy of a kind in a process: all number their messages from the same start,
# so that a second one would get answers to messages of the first.
_made: dict[str, tf.distribute.Strategy] = {}


def _multi_worker(wait: float) -> tf.distribute.Strategy:
    wait_for_workers(*_cluster(), wait)
    handler = signal.getsignal(signal.SIGTERM)
    try:
        return tf.distribute.MultiWorkerMirroredStrategy()
    except tf.errors.OpError as error:
        raise ConnectionError(GONE) from error
    finally:
        with suppress(ValueError):  # outside of the main thread
            # TensorFlow has replaced the handler by one that ignores the signal.
            signal.signal(signal.SIGTERM, handler)


def has_workers(strategy: tf.distribute.Strategy) -> bool:
    """Returns whether this process trains together with others."""
    cluster = strategy.cluster_resolver
    return cluster is not None and bool(cluster.cluster_spec().jobs)


def check_slices(strategy: tf.distribute.Strategy, batch_size: int, micro: int) -> None:
    """Rejects a batch that replicas and their micro-batches do not divide evenly."""
    replicas = strategy.num_replicas_in_sync
    if batch_size % (replicas * micro):
        each = f", each with {micro} micro-batches (accumulate={micro})"
        raise InvalidValue(
            f"batch_size={batch_size} cannot be shared evenly by {replicas} replicas"
            f"{each if micro > 1 else ''}. Choose a multiple of {replicas * micro}."
        )


def distribute(
    batches: tf.data.Dataset,
    slices_of: Callable[[Share], tf.data.Dataset],
    strategy: tf.distribute.Strategy,
) -> Any:
    """Divides each batch among the replicas; returns `batches` for a single replica.

    Each replica gets a slice. The slices of all replicas in order are the batch, so
    that they train and test on the same images as one process. Keras' own ways do not
    promise that: they deal out whole batches or files. Each worker reads only the
    slices of its own replicas.
    """
    replicas = strategy.num_replicas_in_sync
    if replicas == 1:
        return batches

    def slices(context: tf.distribute.InputContext) -> tf.data.Dataset:
        count = replicas // context.num_input_pipelines
        own = slices_of((context.input_pipeline_id * count, count, replicas))
        # Endless, so that workers do not ask each other after each step if it is over.
        endless = tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY)
        return own.repeat().apply(endless).prefetch(2)

    return strategy.distribute_datasets_from_function(slices)


def _cluster() -> tuple[dict[str, str], str]:
    """Returns the addresses of all workers by name, and the name of this one."""
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
        'it. Set it, for example, to {"cluster": {"worker": ["host1:2222", '
        '"host2:2222"]}, "task": {"type": "worker", "index": 0}}, with another index '
        "for each worker."
    )


def _is_place(address: Any) -> bool:
    return isinstance(address, str) and address.rpartition(":")[2].isdecimal()


def wait_for_workers(places: Mapping[str, str], own: str, wait: float) -> None:
    """Waits until all workers of a cluster have started, before TensorFlow connects.

    TensorFlow itself would wait without a message, and ignore signals. Each worker
    listens at the address that TensorFlow will use, until it has reached all others.
    """
    missing = {name: place for name, place in places.items() if name != own}
    end, said = time.monotonic() + wait, False
    try:
        (family, *_), *_ = socket.getaddrinfo(*_split(places[own]))
        listener = socket.create_server(_split(places[own]), family=family)
    except OSError as error:
        raise ConnectionError(
            f"This process is {own} of TF_CONFIG, but it cannot listen at "
            f"{places[own]}: {error.strerror or error}. Give each worker an address "
            "and a free port of its own machine."
        ) from error
    with listener:
        while missing := {n: p for n, p in missing.items() if not _answers(p)}:
            awaited = ", ".join(f"{name} ({place})" for name, place in missing.items())
            if time.monotonic() >= end:
                raise ConnectionError(
                    f"After {wait:g} seconds there is no answer from {awaited}. Start "
                    "all workers of TF_CONFIG, check that their addresses and ports "
                    "are reachable, or wait longer with --wait (wait=...)."
                )
            if not said:
                _log.warning("Waiting for %s, at most %g seconds.", awaited, wait)
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
