"""A program that is stopped, at any moment, leaves nothing half-written."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import larq_nobn
import fresh
import pytest

pytestmark = pytest.mark.slow
STOPPED = "Stopped; nothing half-written is left.\n"
# A file is being written, and not yet in its place. The signal comes as keys are
# pressed, also while what is half-written is taken away.
WRITING = """
import imported_first, os, pathlib, runpy, signal
from larq_nobn import _files

def sends(function):
    def send(*arguments, **options):
        os.kill(os.getpid(), signal.{name})
        return function(*arguments, **options)
    return send

def loses(path):
    try:
        os.kill(os.getpid(), signal.{name})
    except BaseException:
        raise TypeError("of native code") from None

signal.signal(signal.SIGINT, signal.default_int_handler)
_files._flush = {flush}
pathlib.Path.unlink = sends(pathlib.Path.unlink)
runpy.run_module("larq_nobn", run_name="__main__", alter_sys=True)
"""


@pytest.mark.parametrize(
    ("flush", "name", "code"),
    [("sends(_files._flush)", "SIGINT", 130), ("loses", "SIGTERM", 143)],
)
def test_while_a_file_is_written(flush: str, name: str, code: int, tmp_path: Path):
    """Native code may lose the error of a signal, and raise its own."""
    program = WRITING.format(name=name, flush=flush)
    done = fresh.run(program, ("models", "--json", tmp_path / "models.json"))
    assert (done.returncode, done.stdout, done.stderr) == (code, "", STOPPED)
    assert not list(tmp_path.iterdir())


# Sends a signal at a moment, and three at the end.
SITE = """
import atexit, os, signal, sys

class Hook:
    def find_spec(self, name, path=None, target=None):
        if name == "larq_nobn._version":
            atexit.register(end)
        if {when}:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), signal.{name})

class Crash:
    def __del__(self, kill=os.kill, process=os.getpid(), number=signal.SIGSEGV):
        kill(process, number)

def end():
    open("ended", "w").close()
    for _ in range(3):
        os.kill(os.getpid(), signal.{name})

# Modules are not taken down: with native threads at work that has crashed.
sys.crash = Crash()
sys.meta_path.insert(0, Hook())
"""


# Its name is taken from here on.
IN_TENSORFLOW = (
    "hasattr(sys.modules.get('tensorflow.python.ops.ragged.ragged_tensor'), "
    "'RaggedTensorSpec')"
)


def run_program(site: str, place: Path, *line: str) -> subprocess.CompletedProcess[str]:
    """Runs a command as a program, in which this is executed before anything else."""
    (place / "site").mkdir()
    (place / "site" / "sitecustomize.py").write_text(site)
    paths = [str(place / "site"), str(Path(larq_nobn.__file__).parents[1])]
    return subprocess.run(
        [sys.executable, "-m", "larq_nobn", *line],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        cwd=place,
        capture_output=True,
        text=True,
        check=False,
        # Where tests run in the background Ctrl-C may be ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


@pytest.mark.parametrize(
    ("when", "name", "code", "said"),
    [
        ("name == 'click'", "SIGINT", 130, STOPPED),
        # TensorFlow cannot be imported a second time, to ask what error that was.
        (IN_TENSORFLOW, "SIGTERM", 143, STOPPED),
        # Nor is a program stopped that has ended.
        ("False", "SIGINT", 2, "does not exist"),
    ],
)
def test_while_it_imports(when: str, name: str, code: int, said: str, tmp_path: Path):
    (tmp_path / "own.keras").touch()
    file = tmp_path / ("own.keras" if said == STOPPED else "nothing.keras")
    site = SITE.format(name=name, when=when)
    done = run_program(site, tmp_path, "summary", str(file))
    assert (done.returncode, done.stdout) == (code, "")
    assert said in done.stderr and done.stderr.count("\n") == 1
