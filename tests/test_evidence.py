"""The pages say what the logs in results/ say, and every log is whole."""

from __future__ import annotations

import csv
import json
import re
import subprocess
from collections import defaultdict
from functools import cache
from pathlib import Path
from typing import Any

import evidence
import pytest
from experiments import EXPERIMENTS
from faults import FAULTS
from larq_nobn.models import BUILDERS, pretrained

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "results"
PAGE = "docs/results.md"


FOLDERS = sorted(path.name for path in RESULTS.iterdir() if path.is_dir())
NOTES = [f"results/{name}/README.md" for name in FOLDERS]
GRIDS = sorted(path.parent.name for path in RESULTS.glob("*/compare.json"))
# A script that is gone, and the commit that has it.
PAST = re.compile(
    r"`python\s(\S+\.py)[^`]*`,\sa\sscript[^()]*\(last\sin\scommit\s`(\w+)`\)"
)
TEXT: dict[str, Any] = {"capture_output": True, "text": True}
CURVES = sorted(path.parent.name for path in RESULTS.glob("*/curves.csv"))


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


@cache
def content(*path: str) -> Any:
    return json.loads(RESULTS.joinpath(*path).read_text(encoding="utf-8"))


@cache
def curves(experiment: str) -> dict[str, list[dict[str, str]]]:
    """The rows of each run."""
    actual = defaultdict(list)
    with (RESULTS / experiment / "curves.csv").open(newline="") as stream:
        for row in csv.DictReader(stream):
            actual[row["run"]].append(row)
    return actual


def reached(experiment: str, run: str) -> float:
    """The accuracy of a run after its last epoch, or that which it kept, in %."""
    rows, stored = curves(experiment)[run], content(experiment, "runs.json")
    kept = {**stored["shared"], **stored["runs"][run]}.get("kept_epoch", len(rows))
    assert [int(row["epoch"]) for row in rows] == list(range(1, len(rows) + 1))
    return 100 * float(rows[kept - 1]["val_accuracy"])


def prose(name: str) -> str:
    """A page without what is drawn into it."""
    return evidence.BLOCK.sub("", text(name))


@pytest.mark.parametrize("name", evidence.PAGES)
def test_pages_are_up_to_date(name: str):
    page = text(name)
    assert evidence.redrawn(page, RESULTS) == (page, [])
    blocks = [block for _, block in evidence.BLOCK.findall(page)]
    assert len(blocks) == page.count("<!-- evidence") == page.count("/evidence -->")
    assert not any("<!--" in block for block in blocks)
    # A marker at the start of a line of prose would end the paragraph.
    assert re.findall(r"^<!-- evidence: \w+ -->[^\n]", page, re.MULTILINE) == []


def test_every_table_is_on_a_page():
    named = {
        n for page in evidence.PAGES for n, _ in evidence.BLOCK.findall(text(page))
    }
    assert named == set(evidence.TABLES)


@pytest.mark.parametrize("name", [PAGE, "README.md"])
def test_no_table_and_no_accuracy_by_hand(name: str):
    page = prose(name)
    if name == "README.md":
        page = page.split("\n## Results\n")[1].split("\n## ")[0]
    published = {"92.08", "92.31"}
    assert set(re.findall(r"\b\d\d\.\d+", page)) <= published
    assert re.findall(r"^\|.*", page, re.MULTILINE) == []


@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_has_a_note_and_is_mentioned(name: str):
    note = text(f"results/{name}/README.md")
    parts = ("Question", "Setup", "Command", "Table", "Findings", "Limits")
    places = [note.index(f"**{part}.**") for part in parts]
    assert places == sorted(places)
    assert note.startswith("# ") and re.search(r"^- \S", note, re.MULTILINE)
    assert name == "pretrained" or f"`results/{name}/`" in text(PAGE)
    assert f"[{name}]({name}/README.md)" in text("results/README.md")
    commands = re.findall(r"^(python|make|larq-nobn) (\S+)(?: (\w+))?", note, re.M)
    assert commands or PAST.search(note)
    for program, script, task in commands:
        assert program != "python" or (ROOT / script).exists()
        assert script != "benchmarks/experiments.py" or task in EXPERIMENTS


def test_scripts_that_are_gone_are_in_the_commits_that_notes_name():
    """Of a clone with all of the history."""
    named = [match.expand(r"\2:\1") for x in NOTES for match in PAST.finditer(text(x))]
    assert len(named) >= 20
    git = ["git", "-C", str(ROOT)]
    whole = subprocess.run([*git, "rev-parse", "--is-shallow-repository"], **TEXT)
    if whole.stdout.strip() == "false":
        look = [*git, "cat-file", "--batch-check"]
        found = subprocess.run(look, input="\n".join(named), **TEXT).stdout
        assert [line for line in found.splitlines() if line.endswith("missing")] == []


@pytest.mark.parametrize("name", GRIDS)
def test_grids_are_those_of_their_runs(name: str):
    compare = content(name, "compare.json")
    runs = {Path(run["folder"]).name for run in compare["runs"]}
    assert runs == set(content(name, "runs.json")["runs"])
    for group in compare["groups"]:
        of = [reached(name, Path(folder).name) for folder in group["runs"]]
        measured = group["metrics"]["val_accuracy"]
        actual = [100 * measured[key] for key in ("min", "mean", "max")]
        assert actual == pytest.approx([min(of), sum(of) / len(of), max(of)])


@pytest.mark.parametrize("name", CURVES)
def test_curves_end_in_the_metrics_of_their_runs(name: str):
    stored = content(name, "runs.json")
    for run, record in stored["runs"].items():
        metrics = record.get("metrics", stored["shared"].get("metrics", {}))
        accuracy = 100 * metrics["val_accuracy"]
        assert reached(name, run) == pytest.approx(accuracy)
        settings = {**stored["shared"]["settings"], **record["settings"]}
        assert {"model", "normalization", "seed", "epochs"} <= settings.keys()


def test_accuracies_are_those_of_their_runs():
    cells = {}
    for normalization, row in content("normalizations", "result.json")["rows"].items():
        for task, given in row["accuracy"].items():
            short = task.lower().replace(", ", "-").replace(" ", "-")
            cells["normalizations", f"{short}-{normalization}"] = given
    for stream, row in content("small_batches", "result.json")["rows"].items():
        for normalization, cell in row.items():
            batches = stream.replace(", ", "_").replace(" ", "_")
            run = f"measured-{normalization}-{batches}-{cell['rate']:g}"
            cells["small_batches", run] = cell["reached"]
    before = content("micro_batches", "result.json")["rows"]["before"]
    cells["micro_batches", "cifar-10"] = before["batch norm"]
    for (name, run), given in cells.items():
        of = [reached(name, f"{run}-{seed}") for seed in range(len(given))]
        assert given == pytest.approx(of, abs=0.006)


def test_every_network_has_a_row():
    rows = content("models", "result.json")["rows"]
    trained = {row.name: row for row in pretrained()}
    assert list(rows) == [*BUILDERS, *trained]
    assert rows["QuickNetSmall"]["latency"]["ratio"] == 1
    for name, row in trained.items():
        assert rows[name]["accuracy"] == row.accuracy
        assert rows[name]["binary_macs"] == row.binary_macs


@pytest.mark.parametrize("name", [PAGE, "results/README.md", *NOTES])
def test_named_paths_exist(name: str):
    prose_of = re.sub(
        r"`python [^`]*`, a script that.*?\)\.", "", prose(name), flags=re.S
    )
    paths = re.findall(r"\b(?:results|benchmarks|docs)/[\w./*-]*\w[/*]*", prose_of)
    links = re.findall(r"\]\((?!https?:)([^)#]+)", prose(name))
    assert paths or links or name in NOTES
    assert [path for path in paths if not any(ROOT.glob(path.rstrip("/")))] == []
    assert [
        link for link in links if not (ROOT / name).parent.joinpath(link).exists()
    ] == []


def test_every_planted_fault_finds_its_place():
    texts = [path.read_text("utf-8") for path in (ROOT / "larq_nobn").rglob("*.py")]
    actual = {
        fault.name: sum(text.count(fault.old) for text in texts) for fault in FAULTS
    }
    assert len(actual) >= 60
    assert {name: count for name, count in actual.items() if count != 1} == {}
