"""Scripts in processes of their own, at the cost of a single import of TensorFlow."""

from __future__ import annotations

import multiprocessing
import os
import runpy
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from multiprocessing import forkserver
from pathlib import Path
from tempfile import TemporaryDirectory

import lighter

_CONTEXT = multiprocessing.get_context("forkserver")


def begin() -> None:
    """Starts the server that forks processes off, of these tests and of the package.

    It has imported the package where no Keras was chosen, and computed nothing. What a
    process does for itself (devices, cluster, random state, signals) is still to come.
    """
    _CONTEXT.set_forkserver_preload(["imported_first", "larq_nobn.cli", "warm"])
    before = dict(os.environ)
    os.environ.pop("TF_USE_LEGACY_KERAS", None)
    # It knows no other place to find `imported_first` at.
    paths = (str(Path(__file__).parent), before.get("PYTHONPATH"))
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    try:
        forkserver.ensure_running()
    finally:
        os.environ.clear()
        os.environ.update(before)


@dataclass(frozen=True)
class Ended:
    """What became of a process: as in `subprocess`, -9 says that it was killed."""

    returncode: int
    stdout: str
    stderr: str


def run(
    script: str | Path,
    arguments: Sequence[object] = (),
    environment: Mapping[str, str] | None = None,
    timeout: float = 300.0,
) -> Ended:
    """Runs a script, or its text, to its end.

    Arguments:
        script: A file of Python, or its content.
        arguments: `sys.argv` after the name.
        environment: Variables beside those of this process.
        timeout: Seconds after which it is killed.
    """
    variables = {**os.environ, **(environment or {})}
    begin()
    with TemporaryDirectory() as name:
        outputs = [Path(name, stream) for stream in ("stdout", "stderr")]
        given = (script, [str(each) for each in arguments], variables, outputs)
        process = _CONTEXT.Process(target=_in_the_child, args=given)
        process.start()
        process.join(timeout)
        if process.is_alive():
            process.kill()
            process.join()
        return Ended(process.exitcode, *(each.read_text() for each in outputs))


def _in_the_child(
    script: str | Path,
    arguments: list[str],
    environment: dict[str, str],
    outputs: list[Path],
) -> None:
    for number, path in enumerate(outputs, 1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
    os.environ.clear()
    os.environ.update(environment)
    lighter.without_autograph().__enter__()
    if isinstance(script, Path):
        sys.argv = [str(script), *arguments]
        runpy.run_path(str(script), run_name="__main__")
    else:
        sys.argv = ["-c", *arguments]
        exec(compile(script, "<script>", "exec"), {"__name__": "__main__"})
