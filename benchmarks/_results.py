"""What every script leaves in its folder of results/, and what it says of itself."""

from __future__ import annotations

import json
import os
import platform
import shlex
import statistics
import sys
from importlib.metadata import version
from pathlib import Path

import click

ROOT = Path(__file__).resolve().parents[1]
# In the working folder, the root of the repository, so that no log names a machine.
RESULTS = Path("results")


def output(name):
    """The option of a script for the folder of its log."""
    place = RESULTS / name
    return click.option("--output", type=Path, default=place, show_default=True)


def seeds(usual="0,1"):
    """The option of a script for its seeds, which it gets as numbers."""

    def numbers(context, option, text):
        return [int(each) for each in text.split(",")]

    return click.option(
        "--seeds", default=usual, show_default=True, callback=numbers, help="As in 0,1."
    )


def command():
    """The command line of this run, as it is given in the root of the repository."""
    script = Path(sys.argv[0]).resolve().relative_to(ROOT).as_posix()
    return shlex.join(["python", script, *sys.argv[1:]])


def machine():
    return f"{os.cpu_count()} cores, {platform.machine()}"


def instructions():
    """Vector instructions of this processor that kernels of bits and int8 may use."""
    known = "avx2", "avx512_vpopcntdq", "avx512_vnni", "asimd", "asimddp"
    text = Path("/proc/cpuinfo").read_text(encoding="utf-8").split()
    return [name for name in known if name in text]


def versions(*more):
    names = ("larq_nobn", "tensorflow", "tf_keras", "larq", "numpy", *more)
    return {"python": platform.python_version()} | {n: version(n) for n in names}


def quartiles(seconds):
    """In milliseconds."""
    if len(seconds) == 1:  # a quick look
        seconds = seconds * 2
    return [round(1e3 * q, 2) for q in statistics.quantiles(seconds, n=4)]


def write(result, path):
    """Writes JSON, atomically."""
    write_text(json.dumps(result, indent=1) + "\n", path)


def write_text(text, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(path.name + ".part")
    scratch.write_text(text, encoding="utf-8")
    scratch.replace(path)


def kept(path, make, *arguments):
    """What a JSON file contains, or what it shall contain from now on."""
    if not path.exists():
        write(make(*arguments), path)
    return json.loads(path.read_text(encoding="utf-8"))


def leave(place, about, draw, *packages, **numbers):
    """Writes a measurement to result.json, and prints what it is and its tables."""
    result = {
        "command": command(),
        "machine": machine(),
        "versions": versions(*packages),
        **numbers,
    }
    write(result, place / "result.json")
    said = result["command"], about.splitlines()[0], result["machine"]
    say(*said, tables=draw(result))


def say(*said, tables):
    """Prints the command, what it is about, where, and tables."""
    print(*said, "", tables, sep="\n")
