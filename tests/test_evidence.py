"""The pages say what the logs in results/ say, and every log is whole."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import evidence
import pytest
from _drawing.tuning import chosen
from click.testing import CliRunner
from faults import FAULTS

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "results"
PAGE = "docs/evidence.md"


@dataclass(frozen=True)
class Folder:
    """What an experiment leaves: NAME.json and NAME.png, or a reason for no picture."""

    name: str
    no_picture: str = ""


FOLDERS = {
    "budgets": Folder("compare"),
    "black_borders": Folder("compare"),
    "larger_latents": Folder("compare"),
    "budgets_bfloat16": Folder("compare"),
    "rates": Folder("compare"),
    "levers": Folder("compare"),
    "methods": Folder("compare"),
    "kernels": Folder("compare"),
    "heads": Folder("compare"),
    "posterior": Folder("result"),
    "cifar10_accuracy": Folder("result"),
    "normalizations": Folder("result"),
    "train_step": Folder("result"),
    "step_profile": Folder("result", no_picture="shares of a whole"),
    "tuning": Folder("result", no_picture="few numbers, most of them with one seed"),
    "init_and_placement": Folder("result", no_picture="few numbers, many of one seed"),
    "halving": Folder("result", no_picture="few numbers, most of them with one seed"),
    "half_precision": Folder("result", no_picture="three numbers a run"),
    "first_signs": Folder("result", no_picture="four numbers a row"),
    "cropped": Folder("result", no_picture="two numbers a run"),
    "single_examples": Folder("result", no_picture="few numbers, with one seed"),
    "sign_inputs": Folder("result", no_picture="two numbers a stage"),
    "monitors": Folder("result"),
    "small_batches": Folder("result"),
    "micro_batches": Folder("result"),
    "deployment": Folder("result"),
    "zoo": Folder("result", no_picture="what went through, and what did not"),
    "fuzz": Folder("result", no_picture="counts of outcomes and reasons"),
    "own_network": Folder("result"),
    "input_pipeline": Folder("result", no_picture="pictures per second"),
    "photographs": Folder("result", no_picture="three trainings, a number each"),
    "mutants": Folder("result", no_picture="a list of faults, caught or not"),
    "compat": Folder("result", no_picture="a list of versions that work, or not"),
}
GRIDS = [name for name, folder in FOLDERS.items() if folder.name == "compare"]


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def content(*path: str) -> Any:
    return json.loads(RESULTS.joinpath(*path).read_text(encoding="utf-8"))


def reached(*run: str) -> float:
    """The test accuracy of a run, in %."""
    return 100 * content(*run, "run.json")["metrics"]["val_accuracy"]


def prose(name: str) -> str:
    """A page without what is drawn into it."""
    return evidence.BLOCK.sub("", text(name))


@pytest.mark.parametrize("name", evidence.PAGES)
def test_pages_are_up_to_date(name: str):
    drawn, stale = evidence.redrawn(text(name), RESULTS)
    assert stale == []
    assert drawn == text(name)


@pytest.mark.parametrize("name", evidence.PAGES)
def test_markers_are_whole(name: str):
    """A marker at the begin of a line of prose would end the paragraph."""
    page = text(name)
    blocks = [block for _, block in evidence.BLOCK.findall(page)]
    assert len(blocks) == page.count("<!-- evidence") == page.count("/evidence -->")
    assert not any("<!--" in block for block in blocks)
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
        page = page.split("\n## Numbers\n")[1].split("\n## ")[0]
    published = {"92.08", "92.31"}
    assert set(re.findall(r"\b\d\d\.\d+", page)) <= published
    assert re.findall(r"^\|.*", page, re.MULTILINE) == []


@pytest.fixture
def copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository of pages and JSON files alone."""
    files = [
        *evidence.PAGES,
        *(
            f"results/{file}"
            for files, _ in evidence.TABLES.values()
            for file in files.split(",")
        ),
    ]
    for name in dict.fromkeys(files):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, tmp_path / name)
    monkeypatch.setattr(evidence, "ROOT", tmp_path)
    return tmp_path


def run(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(evidence.main, arguments, catch_exceptions=False)
    return done.exit_code, done.output


def test_a_changed_log_is_noticed_and_drawn(copied: Path):
    assert run("--check") == (0, "")
    file = copied / "results" / "rates" / "compare.json"
    compare = json.loads(file.read_text())
    (group,) = (
        g for g in compare["groups"] if g["settings"]["normalization"] == "nobn"
    )
    group["metrics"]["val_accuracy"]["mean"] = 0.1234
    file.write_text(json.dumps(compare))
    before = (copied / PAGE).read_text()
    assert run("--check") == (1, f"Not up to date:\n  {PAGE}: rates\n")
    assert (copied / PAGE).read_text() == before
    assert run() == (0, f"Drawn anew:\n  {PAGE}: rates\n")
    assert (
        (copied / PAGE).read_text()
        == before.replace("| 63.1  |", "| 12.3  |")
        != before
    )
    assert run() == run("--check") == (0, "")


def test_a_changed_page_is_noticed(copied: Path):
    page = copied / "README.md"
    page.write_text(page.read_text().replace("-->7.3<!--", "-->0.3<!--"))
    assert run("--check") == (1, "Not up to date:\n  README.md: plain_gap\n")
    assert run()[0] == 0
    assert page.read_text() == text("README.md")


def test_a_block_of_no_table(copied: Path):
    page = copied / PAGE
    page.write_text(page.read_text().replace("evidence: rates ", "evidence: raten "))
    with pytest.raises(
        ValueError, match="asks for 'raten', .* Choose from budgets, borders, "
    ):
        run("--check")


def test_every_folder_is_known():
    assert {path.name for path in RESULTS.iterdir() if path.is_dir()} == set(FOLDERS)


@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_has_command_log_numbers_and_picture(name: str):
    folder, place = FOLDERS[name], RESULTS / name
    command, sentence, *rest = (place / "log.txt").read_text("utf-8").splitlines()
    script = re.match(r"python (benchmarks/\w+\.py)\b", command)
    assert script and (ROOT / script[1]).exists()
    assert sentence.endswith(".") and len(sentence) < 100
    assert any(line.startswith(("| --", "┡━")) for line in rest)  # below the head
    assert content(name, f"{folder.name}.json").get("command", command) == command
    picture = place / f"{folder.name}.png"
    assert picture.exists() != bool(folder.no_picture)
    if not folder.no_picture:
        assert picture.read_bytes()[:4] == b"\x89PNG"
        assert picture.stat().st_size < 100_000


@pytest.mark.parametrize("name", FOLDERS)
def test_the_log_shows_the_numbers(name: str):
    log = (RESULTS / name / "log.txt").read_text("utf-8")
    if name in GRIDS:
        groups = content(name, "compare.json")["groups"]
        means = [group["metrics"]["val_accuracy"]["mean"] for group in groups]
        assert [mean for mean in means if f" {100 * mean:.1f} " not in log] == []
    else:
        tables = [
            t
            for t, (files, _) in evidence.TABLES.items()
            if files.startswith(name) and "," not in files
        ]
        whole = [name] if name in tables else tables
        assert all(evidence.drawn(table, RESULTS) in log for table in whole)


@pytest.mark.parametrize("name", GRIDS)
def test_grids_are_those_of_their_runs(name: str):
    compare = content(name, "compare.json")
    assert {Path(run["folder"]).name for run in compare["runs"]} == {
        path.name for path in (RESULTS / name).iterdir() if path.is_dir()
    }
    for group in compare["groups"]:
        of = [reached(name, Path(folder).name) for folder in group["runs"]]
        measured = group["metrics"]["val_accuracy"]
        found = [100 * measured[key] for key in ("min", "mean", "max")]
        assert found == pytest.approx([min(of), sum(of) / len(of), max(of)])


def test_accuracies_are_those_of_their_runs():
    name = "cifar10_accuracy"
    for normalization, row in content(name, "result.json")["rows"].items():
        are_those(row["last_per_seed"], name, normalization)
        mean = sum(row["last_per_seed"]) / 3
        assert row["mean_per_epoch"][-1] == pytest.approx(mean, abs=0.006)
    name = "normalizations"
    for normalization, row in content(name, "result.json")["rows"].items():
        for task, given in row["accuracy"].items():
            short = task.lower().replace(", ", "-").replace(" ", "-")
            are_those(given, name, f"{short}-{normalization}")
    name = "tuning"
    tuned = content(name, "result.json")["accuracies"]
    for normalization, candidates in tuned.items():
        for each in candidates:
            cell = f"{normalization}-{each['learning_rate']:g}"
            cell += "" if each["form"] == "as built" else f"-{each['form']}"
            are_those(each["reached"], name, cell, 100)
    name = "init_and_placement"
    for method, row in content(name, "result.json")["rows"].items():
        # Of what was chosen this experiment adds the seeds that the other has not.
        known = chosen(tuned[method])["reached"]
        assert row["chosen"][: len(known)] == known
        added = row["chosen"][len(known) :]
        are_those(added, name, f"{method}-chosen", 100 + len(known))
        for change in row.keys() - {"chosen"}:
            are_those(row[change], name, f"{method}-{change}", 100)
    name = "small_batches"
    for stream, row in content(name, "result.json")["rows"].items():
        for normalization, cell in row.items():
            batches = stream.replace(", ", "_").replace(" ", "_")
            run = f"measured-{normalization}-{batches}-{cell['rate']:g}"
            are_those(cell["reached"], name, run)
    name = "micro_batches"
    before = content(name, "result.json")["rows"]["before"]
    are_those(before["batch norm"], name, "cifar-10")


def are_those(given: list[float], experiment: str, cell: str, first: int = 0) -> None:
    """Accuracies of one cell, with as many seeds from the first on."""
    of = [reached(experiment, f"{cell}-{first + n}") for n in range(len(given))]
    assert given == pytest.approx(of, abs=0.006)


@pytest.mark.parametrize("name", [PAGE, "results/README.md"])
def test_named_paths_exist(name: str):
    paths = re.findall(r"\b(?:results|benchmarks|docs)/[\w./*-]*\w[/*]*", prose(name))
    assert len(paths) > 4
    assert [path for path in paths if not any(ROOT.glob(path.rstrip("/")))] == []
    links = re.findall(r"\]\((?!https?:)([^)#]+)", prose(name))
    assert links
    assert [
        link for link in links if not (ROOT / name).parent.joinpath(link).exists()
    ] == []


@pytest.mark.parametrize("name", FOLDERS)
def test_every_folder_is_mentioned(name: str):
    assert f"`results/{name}/`" in text(PAGE)
    assert f"[{name}]({name}/log.txt)" in text("results/README.md")


def test_benchmarks_holds_scripts_only():
    files = [path for path in (ROOT / "benchmarks").rglob("*") if path.is_file()]
    names = [path for path in files if path.parent.name != "__pycache__"]
    assert names
    assert [path for path in names if path.suffix != ".py"] == []


def test_every_planted_fault_finds_its_place():
    texts = [path.read_text("utf-8") for path in (ROOT / "larq_nobn").rglob("*.py")]
    found = {
        fault.name: sum(text.count(fault.old) for text in texts) for fault in FAULTS
    }
    assert len(found) >= 60
    assert {name: count for name, count in found.items() if count != 1} == {}
