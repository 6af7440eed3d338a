"""The meeting of all workers before TensorFlow begins, which would wait deaf and mute.

The first worker listens at its own address; each of the others listens at its own and
says its number to the first one, which calls back to see that the address is right.
When all are there the first one says so, and every process lets TensorFlow take the
port.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

_log = logging.getLogger("larq_nobn")
# Seconds without a word, between two words, and between two attempts.
_QUIET, _AGAIN, _PAUSE = 3.0, 60.0, 0.2
# Ends a process unless its own input is closed in time.
_GUARD = """
import os, select, signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
parent, seconds, sentence = sys.argv[1:]
if not select.select([0], [], [], float(seconds))[0]:
    print(sentence, file=sys.stderr, flush=True)
    os.kill(int(parent), signal.SIGKILL)
"""
_HELLO, _GO = b"larq_nobn worker ", b"go\n"
# How long an answer of a few bytes may take.
_ANSWER = 5.0


def meet(config: Mapping[str, Any], wait: float) -> None:
    """Waits until all workers of a cluster are there.

    Arguments:
        config: TF_CONFIG.
        wait: Seconds after which it gives up.

    Raises:
        ConnectionError: If a worker is not there in time, or this one's address is not
            its own; names it.
    """
    cluster, task = config["cluster"], config["task"]
    places = [
        (f"{job} {index}", address)
        for job in ("chief", "worker")
        for index, address in enumerate(cluster.get(job, ()))
    ]
    own = f"{task['type']} {task['index']}"
    names = [name for name, _ in places]
    if len(places) < 2 or own not in names:
        return
    place = names.index(own)
    until = _Until(wait)
    with _listening(*places[place]) as door:
        if place == 0:
            _gather(door, places, until)
        else:
            _join(door, place, places[0], until)


@contextmanager
def given_up_after(seconds: float, sentence: str) -> Iterator[None]:
    """Ends this process, with a sentence, if what is inside takes longer.

    Another process does it: where TensorFlow waits for workers it keeps Python's lock,
    so that no thread of this one could.
    """
    command = [sys.executable, "-I", "-S", "-c", _GUARD]
    command += [str(os.getpid()), str(seconds), sentence]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=_error_stream()):
        yield


def _error_stream() -> int | None:
    """Where sentences go; None for what a process inherits."""
    try:
        return sys.stderr.fileno()
    except (AttributeError, OSError):  # no file, as in notebooks
        return None


class _Until:
    """How long there is still time; says now and then what it is taken for."""

    def __init__(self, wait: float) -> None:
        self._wait = wait
        self._begin = time.monotonic()
        self._said = self._begin + _QUIET - _AGAIN

    def check(self, awaited: Sequence[tuple[str, str]]) -> None:
        """Raises when the time is over."""
        now = time.monotonic()
        said = ", ".join(f"{name} ({address})" for name, address in awaited)
        if now - self._begin >= self._wait:
            raise ConnectionError(
                f"After {self._wait:g} seconds there is no answer from {said}. Start "
                "all workers of TF_CONFIG, see that their addresses and ports can be "
                "reached, or wait longer with --wait (wait=...)."
            )
        if now - self._said >= _AGAIN:
            self._said = now
            _log.warning(
                "Waiting for %s, for %.0f seconds at most.",
                said,
                max(0.0, self._begin + self._wait - now),
            )


@contextmanager
def _listening(name: str, address: str) -> Iterator[socket.socket]:
    host, port = _split(address)
    try:
        family, *_, bound = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        door = socket.socket(family, socket.SOCK_STREAM)
    except (OSError, ValueError, OverflowError) as error:
        raise _not_own(name, address, error) from error
    with door:
        door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            door.bind(bound)
            door.listen(1024)
        except (OSError, OverflowError) as error:
            raise _not_own(name, address, error) from error
        door.settimeout(_PAUSE)
        yield door


def _gather(
    door: socket.socket, places: Sequence[tuple[str, str]], until: _Until
) -> None:
    """The first worker: waits for all others, and tells them."""
    there: dict[int, socket.socket] = {}
    with contextlib.ExitStack() as stack:
        while missing := [i for i in range(1, len(places)) if _is_gone(there.get(i))]:
            until.check([places[i] for i in missing])
            try:
                caller, _ = door.accept()
            except TimeoutError:
                continue
            stack.enter_context(caller)
            caller.settimeout(_ANSWER)
            place = _said_place(caller)
            if place is None or place not in range(1, len(places)):
                continue
            if _reached(places[place][1]):
                caller.setblocking(False)
                there[place] = caller  # a second one was started anew
        for caller in there.values():
            caller.settimeout(_ANSWER)
            with contextlib.suppress(OSError):
                caller.sendall(_GO)
        for caller in there.values():
            # Who ends a connection first keeps its port for a while.
            with contextlib.suppress(OSError):
                caller.recv(1)


def _join(
    door: socket.socket, place: int, first: tuple[str, str], until: _Until
) -> None:
    """Another worker: tells the first one, and waits for its word."""
    while True:
        until.check([first])
        try:
            with socket.create_connection(_split(first[1]), _ANSWER) as call:
                call.sendall(_HELLO + b"%d\n" % place)
                call.settimeout(_PAUSE)
                if _told(call, door, first, until):
                    return
        except (OSError, ValueError, OverflowError):
            pass
        time.sleep(_PAUSE)


def _told(
    call: socket.socket, door: socket.socket, first: tuple[str, str], until: _Until
) -> bool:
    """Whether the first worker says that all are there, before it hangs up."""
    while True:
        until.check([(first[0], f"{first[1]}, which waits for others")])
        with contextlib.suppress(TimeoutError):
            door.accept()[0].close()
        with contextlib.suppress(TimeoutError):
            return call.recv(len(_GO)) == _GO


def _is_gone(caller: socket.socket | None) -> bool:
    """Whether a worker has not called yet, or hung up since."""
    if caller is None:
        return True
    try:
        return not caller.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    except OSError:
        return True


def _said_place(caller: socket.socket) -> int | None:
    with contextlib.suppress(OSError, ValueError):
        said = caller.recv(64)
        if said.startswith(_HELLO):
            return int(said.removeprefix(_HELLO))
    return None


def _reached(address: str) -> bool:
    with contextlib.suppress(OSError, ValueError, OverflowError):
        socket.create_connection(_split(address), _ANSWER).close()
        return True
    return False


def _split(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def _not_own(name: str, address: str, error: Exception) -> ConnectionError:
    reason = getattr(error, "strerror", None) or error
    return ConnectionError(
        f"This process is to be {name} of TF_CONFIG, but cannot listen at {address}: "
        f"{reason}. Give each worker an address and a free port of its own machine."
    )
