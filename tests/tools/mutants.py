"""Plants the faults of `faults.py` in the package, one at a time, and runs the tests.

A fault that no test catches is a hole in the suite. Each fault is planted in a copy of
the files that git tracks, so that the checkout itself is never touched, and the tests
that should catch it are run there until the first of them fails. Faults whose results
are in the output file already, for the same commit, are not tried again.

    python tests/tools/mutants.py --output results/mutants/result.json
    python tests/tools/mutants.py --only recu
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

import click
from faults import FAULTS

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

from _drawing import TABLES
from _results import command, say, write

ROOT = Path(__file__).resolve().parents[2]
PYTEST = ("-m", "pytest", "-x", "-q", "-rfE", "--tb=short", "-p", "no:cacheprovider")
NOT_SELECTED = 5  # pytest's exit code where -k leaves no test of a file
TIMEOUT = 600  # seconds for one fault


def git(*arguments):
    command = ["git", "-C", str(ROOT), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def copy_of(place):
    """Copies what git tracks, as it is in the working tree."""
    for name in git("ls-files", "-z").split("\0"):
        if name and (ROOT / name).is_file():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, place / name)
    return place


def home_of(fault, tree):
    """The one file that contains the old text, wherever it lies by now."""
    files = [(path, path.read_text()) for path in tree.glob("larq_nobn/**/*.py")]
    actual = [path for path, text in files for _ in range(text.count(fault.old))]
    if len(actual) != 1 or fault.old == fault.new:
        raise ValueError(f"{fault.name}: its old text is there {len(actual)} times.")
    return actual[0]


def run_tests(tree, tests, only, seconds):
    """Returns the exit code of pytest, None if it was too slow, and what it printed."""
    environment = {
        **os.environ,
        # Goes before an installed package, in subprocesses too.
        "PYTHONPATH": str(tree),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "TF_CPP_MIN_LOG_LEVEL": "2",
    }
    words = [sys.executable, *PYTEST, tests, *(["-k", only] if only else [])]
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(
            words,
            cwd=tree,
            env=environment,
            stdout=said,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # so that what the tests start ends with them
        )
        try:
            code = process.wait(timeout=max(seconds, 1))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            code = process.wait() and None
        said.seek(0)
        return code, said.read()


def outcome_of(code, said):
    """What a run of tests says of a fault, and which test it was that said so."""
    first = re.search(r"^(?:FAILED|ERROR) (\S.*?)(?: - |$)", said, re.MULTILINE)
    if code == 1 and first is not None:
        return "caught", first[1]
    if code is None:
        return "timed out", None
    if code == 0:
        return "survived", None
    # Without a failed test it is not a verdict: the tests could not even be collected.
    return "invalid", said[-500:]


def tests_of(fault):
    """The files and folders of a fault, then the folders that contain the files."""
    named = fault.tests.split()
    folders = [name.rpartition("/")[0] for name in named if name.endswith(".py")]
    return list(dict.fromkeys([*named, *(f for f in folders if f != "tests")]))


def part_of(path, tree):
    """The package inside of ours that contains a file."""
    *folders, _ = path.relative_to(tree / "larq_nobn").parts
    return folders[0] if folders else "base"


def try_fault(fault, tree):
    """Plants a fault in a copy, runs tests until one fails, and takes it out again."""
    start, home = time.monotonic(), home_of(fault, tree)
    clean = home.read_text()
    home.write_text(clean.replace(fault.old, fault.new))
    status, test = "invalid", "none of its tests is there"
    try:
        for tests in filter(lambda tests: (tree / tests).exists(), tests_of(fault)):
            left = TIMEOUT - (time.monotonic() - start)
            code, said = run_tests(tree, tests, fault.only, left)
            if code == NOT_SELECTED:
                continue
            status, test = outcome_of(code, said)
            if status != "survived":
                break
    finally:
        home.write_text(clean)
    seconds = round(time.monotonic() - start, 1)
    part = part_of(home, tree)
    return {"part": part, "status": status, "test": test, "seconds": seconds}


@click.command()
@click.option("--only", multiple=True, help="Faults whose name starts so.")
@click.option("--jobs", default=2, show_default=True, help="Faults at a time.")
@click.option("--before", type=Path, help="Earlier results, kept beside these.")
@click.option("--output", type=Path, help="JSON file for the results.")
def main(only, jobs, before, output):
    commit = git("describe", "--always", "--dirty").strip()
    kept = json.loads(output.read_text()) if output and output.exists() else {}
    results = kept["faults"] if kept.get("commit") == commit else {}
    chosen = [fault for fault in FAULTS if fault.name.startswith(only or "")]
    left = [fault for fault in chosen if fault.name not in results]
    copies = SimpleQueue()

    def work(fault):
        copy = copies.get()
        try:
            return fault.name, try_fault(fault, copy)
        finally:
            copies.put(copy)

    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(jobs) as pool:
        for job in range(jobs):
            copies.put(copy_of(Path(folder, str(job))))
        for name, row in pool.map(work, left):
            results[name] = row
            said = (row["test"] or "").splitlines()[-1:]
            print(name, row["status"], f"{row['seconds']:.0f} s", *said, sep="; ")
            if output:
                actual = {"command": command(), "commit": commit, "faults": results}
                if before:
                    actual["before"] = json.loads(before.read_text())
                write(actual, output)
    print(dict(Counter(row["status"] for row in results.values())))
    if output and before:
        said = (command(), __doc__.splitlines()[0])
        say(*said, tables=TABLES["mutants"][1](actual))


if __name__ == "__main__":
    main()
