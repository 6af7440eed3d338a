"""Converts, folds and removes batch norm of random networks, and looks for faults.

Networks are drawn from all layers of Keras, Larq and this package, with weights where
training may leave them, and further. Each is converted, and its file compared with what
Keras computes and counted apart from the package; then its batch norm is folded and
removed. One line of JSON a network says what came of it:

- untried: Keras itself does not build or compute the network;
- converted: the file computes the same, and every binary layer is binary in it;
- rejected: in words, by default; where the words offer `allow_float=True`, that was
  tried too; false if LCE alone converts the network right, as far as the judge sees;
- unverified: rejected because the package found file and model to differ;
- undecided: converted, but rounding decides some sign of every example;
- silent float, wrong, leftover, crash (also a hang): faults.

A process of its own does the work, and is replaced when it dies, hangs, or has grown.

    python tests/tools/fuzz.py --count 10000 --output runs/fuzz.jsonl
    python tests/tools/fuzz.py --count 10000 --output runs/fuzz.jsonl --resume
    python tests/tools/fuzz.py --summary --output runs/fuzz.jsonl
    python tests/tools/fuzz.py --count 1 --seed 417 --output runs/again.jsonl
    python tests/tools/fuzz.py --count 400 --int8 --output runs/int8.jsonl
    python tests/tools/fuzz.py --count 400 --runtime litert --output runs/lite.jsonl
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path

import click
from _fuzz import FAULTS, OUTCOMES

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

from _drawing import TABLES
from _results import RESULTS, command, say, write

ROOT = Path(__file__).resolve().parents[2]
PER_WORKER = 200  # networks; TensorFlow keeps some memory of each
TIMEOUT = 600  # seconds for one network, which takes 1 to 4 of a free core
PARTS = ("convert", "fold", "remove", "int8", "draw", "evaluate")


class Worker:
    """A process that tries networks, with options of `judge`, and is replaced."""

    def __init__(self, folder, **options):
        self.stage, self.options = folder / "stage", options
        self.stage.write_text("start")
        self.pool = ProcessPoolExecutor(
            1, get_context("spawn"), quiet, max_tasks_per_child=PER_WORKER
        )

    def judge(self, seed):
        """What the process says of a network, or what became of the process."""
        start = time.monotonic()
        task = self.pool.submit(try_network, seed, self.stage, self.options)
        try:
            return task.result(TIMEOUT)
        except (BrokenProcessPool, TimeoutError) as error:
            how = "hang" if isinstance(error, TimeoutError) else "crash"
        self.stop()
        self.__init__(self.stage.parent, **self.options)
        stage, seconds = self.stage.read_text(), round(time.monotonic() - start, 2)
        part = {"outcome": "crash", "reason": f"{how} in {stage}"}
        return {"seed": seed, "outcome": "crash", stage: part, "seconds": seconds}

    def stop(self):
        for process in (self.pool._processes or {}).values():
            process.kill()
        self.pool.shutdown(wait=False)


def quiet():
    """Of what libraries print."""
    for stream in (1, 2):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
    warnings.simplefilter("ignore")


def try_network(seed, stage, options):
    """Writes down what is done next, which names what a crash interrupts."""
    from _fuzz.judge import judge

    try:
        return judge(seed, stage.write_text, **options)
    except Exception:  # of the fuzz itself
        said = traceback.format_exc()[-1500:]
        return {"seed": seed, "outcome": "untried", "said": said}


def commit():
    """The commit of the code that is tried."""
    asked = ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"]
    return subprocess.run(asked, capture_output=True, text=True).stdout.strip()


def tried(output):
    """The lines of an earlier run; of one that was killed, the last may be cut off."""
    if not output.exists():
        return []
    actual, kept = [], 0
    with output.open("rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                actual.append(json.loads(line))
                kept += len(line)
    os.truncate(output, kept)
    return actual


def summarized(records):
    """Counts of outcomes, of reasons, and of faults one by one."""
    converts = [r["convert"] for r in records if "convert" in r]
    kinds = {
        name: Counter(r[name]["outcome"] for r in records if name in r)
        for name in ("fold", "remove", "int8")
    }
    refused = [c["reason"] for c in converts if c["outcome"] == "refused"]
    exact = [c["exact_share"] for c in converts if "exact_share" in c]
    faults = [
        {"seed": r["seed"], "outcome": r["outcome"], "reason": reason_of_fault(r)}
        for r in records
        if r["outcome"] in FAULTS
    ]
    return {
        "networks": len(records),
        "commits": dict(Counter(r.get("commit", "") for r in records)),
        "seeds": [records[0]["seed"], records[-1]["seed"]],
        "outcomes": {o: sum(r["outcome"] == o for r in records) for o in OUTCOMES},
        "files": len(exact),
        "in_float": sum("in_float" in c for c in converts),
        "binary_convolutions": sum(c.get("bconv", 0) for c in converts),
        "exact_below_90": sum(share < 0.9 for share in exact),
        "int8": counted(kinds.pop("int8")),
        "surgery": {name: counted(actual) for name, actual in kinds.items()},
        "reasons": counted(Counter(refused)),
        "false_refusals": counted(
            Counter(c["reason"] for c in converts if c.get("false"))
        ),
        "faults": faults,
    }


def counted(actual):
    return dict(actual.most_common())


def reason_of_fault(record):
    for name in PARTS:
        if record.get(name, {}).get("outcome") == record["outcome"]:
            return f"{name}: {record[name]['reason']}"
    return ""


@click.command()
@click.option("--count", default=100, type=click.IntRange(1), help="Networks in all.")
@click.option("--seed", default=0, type=click.IntRange(0), help="Of the first network.")
@click.option("--output", default="runs/fuzz.jsonl", type=click.Path(path_type=Path))
@click.option("--resume", is_flag=True, help="Go on after the last line.")
@click.option("--int8", is_flag=True, help="Write an int8 file of each, too.")
@click.option(
    "--runtime",
    default="lce",
    type=click.Choice(["lce", "litert", "c"]),
    help="Where the files run.",
)
@click.option("--summary", is_flag=True, help="Only count what the output says.")
def main(count, seed, output, resume, int8, runtime, summary):
    """Tries networks, or counts what came of those that were tried."""
    records = tried(output) if resume or summary else []
    if summary:
        if not records:
            raise click.UsageError(
                f"{output} contains no network. Run without --summary."
            )
        result = {"command": command(), **summarized(records)}
        place = RESULTS / "fuzz"
        write(result, place / "result.json")
        about = "Random networks of the numbers {} to {}, converted."
        tables = [TABLES[name][1](result) for name in ("fuzz", "fuzz_reasons")]
        said = [f"- {n} of: {why}" for why, n in result["false_refusals"].items()]
        tables.append(
            "\n".join(["Rejected, though right in LCE alone:", *(said or ["- none"])])
        )
        said = result["command"], about.format(*result["seeds"])
        say(*said, tables="\n\n".join(tables))
        return
    if output.exists() and not resume:
        raise click.UsageError(f"{output} exists. Pass --resume to go on, or move it.")
    output.parent.mkdir(parents=True, exist_ok=True)
    first = max([seed - 1, *(r["seed"] for r in records)]) + 1
    # For the processes that work, each of which takes one core.
    os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "OMP_NUM_THREADS": "1"}
    sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
    os.environ |= {"TF_NUM_INTEROP_THREADS": "1", "TF_NUM_INTRAOP_THREADS": "1"}
    code = {"commit": commit()}
    with (
        output.open("a", encoding="utf-8") as file,
        tempfile.TemporaryDirectory() as folder,
    ):
        worker = Worker(Path(folder), int8=int8, runtime=runtime)
        for number in range(first, seed + count):
            record = worker.judge(number) | code
            file.write(json.dumps(record) + "\n")
            file.flush()
            if record["outcome"] in FAULTS:
                print(json.dumps(record), flush=True)
        worker.stop()


if __name__ == "__main__":
    main()
