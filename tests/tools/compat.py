"""Which versions work: a core suite with every supported TensorFlow and Python.

The package is built as a wheel and installed from the package index, with its extras,
beside each TensorFlow and each Python that this machine has, and once with NumPy 2,
without LCE, whose interpreter needs NumPy 1. There the contract of some layers and
quantizers is tested (with NumPy 2, the quick tests), a network is trained, evaluated,
converted and saved, a model of Keras 3 is converted, and the files that other
environments left are opened. One more environment, without extras, shows which sentence
names each extra. An environment is removed before the next one is made, a few gigabytes
at a time; in a second round each opens the files of those after it. What the folder
contains already is not tried again.

    python tests/tools/compat.py --folder runs/compat         # or: make compat
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import click
from uv import find_uv_bin

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

from _drawing import compatibility
from _results import RESULTS, command, kept, machine, say, write

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ROOT / "tests" / "tools" / "_compat"
NOTED = ("tensorflow", "tf-keras", "larq", "larq-compute-engine", "numpy", "protobuf")
# The dearest checks of the contract, for two rows where each has a test of its own.
TESTS = ("tests/test_contract.py",)
CHOSEN = (
    "converted_file or one_step or "
    "((ScaledStdSign or RPReLU) and (gradients or config))"
)
QUICK = f"@{ROOT / 'tests' / 'quick.txt'}"
TIMEOUT = 1800  # seconds for one step


@dataclasses.dataclass(frozen=True)
class Cell:
    """An environment that is made."""

    python: str
    tensorflow: str
    numpy: str = "1"

    @property
    def name(self):
        name = f"python-{self.python}-tensorflow-{self.tensorflow}"
        return name if self.numpy == "1" else f"{name}-numpy-{self.numpy}"

    @property
    def extras(self):
        return "[all]" if self.numpy == "1" else "[data,plots]"

    @property
    def tests(self):
        return ["-k", CHOSEN, *TESTS] if self.numpy == "1" else [QUICK]


# One Python with every TensorFlow, an earlier one with the oldest, and a later one with
# the newest.
FIRST = [Cell("3.11", f"2.{minor}") for minor in range(16, 22)]
CELLS = (
    *FIRST,
    *(Cell("3.10", "2.16"), Cell("3.12", "2.21"), Cell("3.11", "2.21", numpy="2")),
)


def done(words, place=None, **environment):
    """Runs a program without what this process has set for Python."""
    kept = {
        k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME")
    }
    kept |= {"TF_CPP_MIN_LOG_LEVEL": "3", **environment}
    words = [str(word) for word in words]
    try:
        return subprocess.run(
            words, cwd=place, env=kept, capture_output=True, text=True, timeout=TIMEOUT
        )
    except subprocess.TimeoutExpired:
        said = f"{words[0]} took more than {TIMEOUT} seconds"
        return subprocess.CompletedProcess(words, 124, "", said)


class Environments:
    """Makes environments below a scratch folder, each only as long as it is needed."""

    def __init__(self, scratch):
        self.scratch = scratch
        self.wheel = self._built()

    def _built(self):
        place = self.scratch / "dist"
        build = done([sys.executable, "-m", "build", "-o", place, ROOT])
        if build.returncode:
            raise click.ClickException(f"No wheel: {build.stdout[-500:]}")
        (wheel,) = place.glob("*.whl")
        return wheel

    def make(self, cell, extras, *more):
        """Returns the folder of programs, or why there is none."""
        place = self.scratch / "environment"
        self.remove()
        # Of the Pythons of this machine, or else one that uv fetches.
        made = self.uv("venv", "--python", cell.python, place)
        if made.returncode:
            return None, last_line(made)
        pins = [f"{name}=={cell.tensorflow}.*" for name in ("tensorflow", "tf-keras")]
        wanted = [f"{self.wheel}{extras}", *pins, *more]
        python = place / "bin" / "python"
        installed = self.uv("pip", "install", "--python", python, *wanted)
        if not installed.returncode and cell.numpy != "1":
            # By itself, since Larq asks for less.
            numpy = f"numpy=={cell.numpy}.*"
            installed = self.uv("pip", "install", "--python", python, numpy)
        if installed.returncode:
            return None, last_line(installed)
        return place / "bin", ""

    def uv(self, *words):
        kept = os.environ.get("UV_CACHE_DIR", str(self.scratch / "cache"))
        return done([find_uv_bin(), *words], self.scratch, UV_CACHE_DIR=kept)

    def remove(self):
        shutil.rmtree(self.scratch / "environment", ignore_errors=True)


def last_line(said):
    lines = [line for line in (said.stderr or said.stdout).splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR")]
    return (errors or lines or [f"exit code {said.returncode}"])[-1][:300]


def measured(cell, environments, folder):
    """All that one environment has to say, the files of those before it included."""
    tools = "pytest>=8.2", "hypothesis>=6.100", "ai-edge-litert>=2.1"
    programs, problem = environments.make(cell, cell.extras, *tools)
    actual = dataclasses.asdict(cell)
    if programs is None:
        return {**actual, "steps": {"install": {"passed": False, "said": problem}}}
    actual["versions"] = versions(programs)
    steps = {"install": {"passed": True, "said": ""}, "tests": tested(programs, cell)}
    place = folder / "files" / cell.name
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    worked = done([programs / "python", SCRIPTS / "core.py", "work", place], place)
    if worked.returncode:
        steps["import"] = {"passed": False, "said": last_line(worked)}
        shutil.rmtree(place)
    else:
        steps |= json.loads((place / "done.json").read_text())
    return {**actual, "steps": steps, "opened": opened(programs, folder, cell.name)}


def versions(programs):
    shown = done([find_uv_bin(), "pip", "freeze", "--python", programs / "python"])
    lines = [line.split("==") for line in shown.stdout.splitlines() if "==" in line]
    return {name: version for name, version in lines if name in NOTED}


def tested(programs, cell):
    """Runs some tests of the suite, whatever other versions warn of."""
    # The program, and not the module, which would put the checkout before the wheel.
    run = [programs / "pytest", "-q", "-rfE", "-p", "no:cacheprovider", "--tb=line"]
    said = done([*run, "-o", "filterwarnings=", *cell.tests], ROOT)
    return {"passed": said.returncode == 0, **counted(said.stdout)}


def counted(output):
    """How many tests passed, and the lines of those that did not."""
    counts = dict.fromkeys(("passed", "failed", "error"), 0)
    for number, kind in re.findall(r"(\d+) (passed|failed|error)", output):
        counts[kind] += int(number)
    all_of_them = sum(counts.values())
    failures = re.findall(r"^(?:FAILED|ERROR) (.{,200})", output, re.MULTILINE)
    said = f"{counts['passed']} of {all_of_them}"
    return {"said": said if all_of_them else output[-300:], "failures": failures[:10]}


def opened(programs, folder, but):
    """Opens what the other environments have left so far."""
    places = [p for p in sorted((folder / "files").glob("*")) if p.name != but]
    if not places:
        return {}
    report = folder / "opened.json"
    script = [programs / "python", SCRIPTS / "core.py", "open", report, *places]
    said = done(script, folder)
    if said.returncode:
        failed = {"passed": False, "said": last_line(said)}
        return {place.name: {"all": failed} for place in places}
    return json.loads(report.read_text())


def without_extras(cell, environments, folder):
    """What the package says where nothing else is installed."""
    programs, problem = environments.make(cell, "")
    if programs is None:
        raise click.ClickException(f"The wheel cannot be installed: {problem}")
    report = folder / "bare.json"
    said = done([programs / "python", SCRIPTS / "bare.py", report], folder)
    if said.returncode:
        raise click.ClickException(f"It stops without extras: {last_line(said)}")
    helped = done([programs / "larq-nobn", "--help"], folder)
    actual = json.loads(report.read_text())
    wrong = None if helped.returncode == 0 and helped.stdout else last_line(helped)
    actual["larq-nobn, as a program"] = [None, wrong, wrong]
    return actual


def rounds(environments, folder):
    """Every environment once, then again for the files of those after it."""
    for cell in CELLS:
        print(cell.name, flush=True)
        file = folder / f"{cell.name}.json"
        actual = kept(file, measured, cell, environments, folder)
        print(
            {name: step["said"] for name, step in actual["steps"].items()}, flush=True
        )
    written = {cell.name for cell in FIRST if (folder / "files" / cell.name).exists()}
    for cell in FIRST:
        file = folder / f"{cell.name}.json"
        actual = json.loads(file.read_text())
        missing = written - {cell.name} - set(actual.get("opened", written))
        if not missing:
            continue
        print(f"{cell.name}, files of {len(missing)} others", flush=True)
        programs, problem = environments.make(cell, "[all]")
        if programs is None:
            raise click.ClickException(f"{cell.name} was there before: {problem}")
        write({**actual, "opened": opened(programs, folder, cell.name)}, file)
    return [json.loads((folder / f"{cell.name}.json").read_text()) for cell in CELLS]


@click.command()
@click.option("--folder", type=Path, required=True, help="To go on from.")
def main(folder):
    folder = folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        environments = Environments(Path(scratch))
        file = folder / "without_extras.json"
        bare = kept(file, without_extras, FIRST[-1], environments, folder)
        actual = rounds(environments, folder)
        environments.remove()
    result = {
        "command": command(),
        "machine": machine(),
        "environments": actual,
        "without_extras": bare,
    }
    write(result, RESULTS / "compat" / "result.json")
    said = result["command"], __doc__.splitlines()[0], result["machine"]
    say(*said, tables=compatibility.compat(result))


if __name__ == "__main__":
    main()
