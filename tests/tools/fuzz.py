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
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import click
from _fuzz import FAULTS, OUTCOMES

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

from _drawing import TABLES
from _results import RESULTS, command, say, write

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PER_WORKER = 200  # networks; TensorFlow keeps some memory of each
TIMEOUT = 600  # seconds for one network, which takes 1 to 4 of a free core
STARTUP = 300
PARTS = ("convert", "fold", "remove", "int8", "draw", "evaluate")


class Worker:
    """A process that tries networks until it dies, on request also as int8."""

    def __init__(self, int8=False):
        quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "TF_NUM_INTEROP_THREADS": "1"}
        single = {"TF_NUM_INTRAOP_THREADS": "1", "OMP_NUM_THREADS": "1"}
        path = os.pathsep.join(map(str, (ROOT, HERE)))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "_fuzz.worker", *(["int8"] if int8 else [])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **quiet, **single, "PYTHONPATH": path},
        )
        self.done, self.stage, self.rest = 0, "start", b""
        self.answer(STARTUP, until_ready=True)

    def judge(self, seed):
        """What the process says of a network, or what became of the process."""
        start, self.stage = time.monotonic(), "draw"
        self.done += 1
        try:
            self.process.stdin.write(f"{seed}\n".encode())
            self.process.stdin.flush()
            found = self.answer(TIMEOUT)
        except BrokenPipeError:
            found = None
        if found is not None:
            return found
        status = self.process.poll()
        how = "hang" if status is None else f"exit status {status}"
        self.stop()
        seconds = round(time.monotonic() - start, 2)
        reason = f"{how} in {self.stage}"
        part = {self.stage: {"outcome": "crash", "reason": reason}}
        return {"seed": seed, "outcome": "crash", **part, "seconds": seconds}

    def answer(self, seconds, until_ready=False):
        """The next result; None if the process dies or takes too long."""
        end, pipe = time.monotonic() + seconds, self.process.stdout
        while True:
            while b"\n" in self.rest:
                line, self.rest = self.rest.split(b"\n", 1)
                found = json.loads(line)
                if "stage" not in found:
                    return found
                self.stage = found["stage"]
                if until_ready:
                    return found
            ready, _, _ = select.select(
                [pipe], [], [], max(0.0, end - time.monotonic())
            )
            read = os.read(pipe.fileno(), 65536) if ready else b""
            if not read:
                if ready:
                    self.process.wait()
                return None
            self.rest += read

    def stop(self):
        self.process.kill()
        self.process.wait()


def commit():
    """The commit of the code that is tried."""
    asked = ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"]
    return subprocess.run(asked, capture_output=True, text=True).stdout.strip()


def tried(output):
    """The lines of an earlier run; of one that was killed, the last may be cut off."""
    if not output.exists():
        return []
    found, kept = [], 0
    with output.open("rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                found.append(json.loads(line))
                kept += len(line)
    os.truncate(output, kept)
    return found


def summarized(records):
    """Counts of outcomes, of reasons, and of faults one by one."""
    converts = [r["convert"] for r in records if "convert" in r]
    surgery = {
        name: Counter(r[name]["outcome"] for r in records if name in r)
        for name in ("fold", "remove")
    }
    in_int8 = [r["int8"] for r in records if "int8" in r]
    reasons = Counter(c["reason"] for c in converts if c["outcome"] == "refused")
    false = Counter(c["reason"] for c in converts if c.get("false"))
    exact = [c["exact_share"] for c in converts if "exact_share" in c]
    return {
        "networks": len(records),
        "commits": dict(Counter(r.get("commit", "") for r in records)),
        "seeds": [records[0]["seed"], records[-1]["seed"]],
        "outcomes": {o: sum(r["outcome"] == o for r in records) for o in OUTCOMES},
        "files": len(exact),
        "in_float": sum("in_float" in c for c in converts),
        "binary_convolutions": sum(c.get("bconv", 0) for c in converts),
        "exact_below_90": sum(share < 0.9 for share in exact),
        "int8": dict(Counter(r["outcome"] for r in in_int8).most_common()),
        "int8_unverified": [r["said"] for r in in_int8 if r["outcome"] == "unverified"],
        "surgery": {n: dict(found.most_common()) for n, found in surgery.items()},
        "reasons": dict(reasons.most_common()),
        "false_refusals": dict(false.most_common()),
        "faults": [
            {
                "seed": r["seed"],
                "outcome": r["outcome"],
                "reason": next(
                    (
                        f"{name}: {r[name]['reason']}"
                        for name in PARTS
                        if r.get(name, {}).get("outcome") == r["outcome"]
                    ),
                    "",
                ),
            }
            for r in records
            if r["outcome"] in FAULTS
        ],
    }


def first_last(result):
    return " to ".join(map(str, result["seeds"]))


@click.command()
@click.option("--count", default=100, type=click.IntRange(1), help="Networks in all.")
@click.option("--seed", default=0, type=click.IntRange(0), help="Of the first network.")
@click.option("--output", default="runs/fuzz.jsonl", type=click.Path(path_type=Path))
@click.option("--resume", is_flag=True, help="Go on after the last line.")
@click.option("--int8", is_flag=True, help="Write an int8 file of each, too.")
@click.option("--summary", is_flag=True, help="Only count what the output says.")
def main(count, seed, output, resume, int8, summary):
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
        about = f"Random networks of the numbers {first_last(result)}, converted."
        tables = [TABLES[name][1](result) for name in ("fuzz", "fuzz_reasons")]
        said = [f"- {n} of: {why}" for why, n in result["false_refusals"].items()]
        tables.append(
            "\n".join(["Rejected, though right in LCE alone:", *(said or ["- none"])])
        )
        say(result["command"], about, tables="\n\n".join(tables))
        return
    if output.exists() and not resume:
        raise click.UsageError(f"{output} exists. Pass --resume to go on, or move it.")
    output.parent.mkdir(parents=True, exist_ok=True)
    first = max([seed - 1, *(r["seed"] for r in records)]) + 1
    worker, code = None, {"commit": commit()}
    with output.open("a", encoding="utf-8") as file:
        for number in range(first, seed + count):
            if worker is None or worker.process.poll() is not None:
                worker = Worker(int8)
            record = worker.judge(number) | code
            file.write(json.dumps(record) + "\n")
            file.flush()
            if record["outcome"] in FAULTS:
                print(json.dumps(record), flush=True)
            if worker.done >= PER_WORKER:
                worker.stop()
    if worker is not None:
        worker.stop()


if __name__ == "__main__":
    main()
