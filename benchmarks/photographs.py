"""From a folder of pictures to a verified file, by the command line alone.

`larq-nobn` trains on the folder, converts, evaluates run and file on the pictures that
were held out, and shows `SHOWN` pictures to both. With --from, training begins with the
network of another row, and its recipe is `fine_tune`. A row goes beside those that the
output holds already; a training that is in --runs already is not repeated.

    python benchmarks/photographs.py pictures/ten --epochs 10 --runs runs/photographs
    python benchmarks/photographs.py pictures/five --from ten --epochs 6 \
        --runs runs/photographs
    python benchmarks/photographs.py pictures/five --name "five, alone" --recipe small \
        --epochs 6 --runs runs/photographs
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import click
from _drawing import photographs as drawing
from _results import RESULTS, command, machine, versions, write, write_log
from larq_nobn.data import SUFFIXES

SHOWN = 200
WIDTH, PRECISION = 16, "mixed_bfloat16"


def larq_nobn(*arguments):
    subprocess.run([sys.executable, "-m", "larq_nobn", *arguments], check=True)


def report(*arguments, place):
    """What a command writes as JSON."""
    larq_nobn(*arguments, "--json", str(place))
    return json.loads(place.read_text(encoding="utf-8"))


def measure(pictures, name, epochs, recipe, runs, before):
    run, file, place = runs / name, runs / f"{name}.tflite", runs / f"{name}.json"
    more = ("--width", str(WIDTH), "--precision", PRECISION)
    more += () if recipe is None else ("--recipe", recipe)
    if before is not None:
        more = ("--init", str(runs / before), "--recipe", "fine_tune")
    larq_nobn(
        *("train", "--dataset", str(pictures), "--output", str(run), "--resume"),
        *("--epochs", str(epochs), *more),
    )
    record = json.loads((run / "run.json").read_text(encoding="utf-8"))
    converted = report("convert", str(run), str(file), place=place)
    which = ("--dataset", str(pictures), "--limit", "1000")
    found = {
        model: report("evaluate", str(model), *which, place=place)
        for model in (run, file)
    }
    files = (path for path in pictures.rglob("*") if path.suffix.lower() in SUFFIXES)
    shown = sorted(map(str, files))
    shown = shown[:: max(1, len(shown) // SHOWN)][:SHOWN]
    taken = [
        [row["predictions"][0]["label"] for row in rows]
        for rows in (
            report("predict", str(model), *shown, place=place) for model in (run, file)
        )
    ]
    return {
        "classes": len(record["preprocessing"]["class_names"]),
        "image_shape": record["preprocessing"]["image_shape"],
        **record["examples"],
        "epochs": epochs,
        "recipe": record["settings"]["recipe"],
        "from": before,
        "accuracy": record["metrics"]["val_accuracy"],
        "accuracy_run": found[run]["accuracy"],
        "accuracy_file": found[file]["accuracy"],
        "lce_bconv2d": converted["lce_bconv2d"],
        "top1_agreement": converted["verify"]["top1_agreement"],
        "shown": len(shown),
        "same_class": sum(a == b for a, b in zip(*taken, strict=True)),
    }


@click.command()
@click.argument("pictures", type=click.Path(exists=True, path_type=Path))
@click.option("--name", show_default="that of the folder", help="Of the row.")
@click.option("--from", "before", help="The row whose network it begins with.")
@click.option("--epochs", type=int, default=10, show_default=True)
@click.option("--recipe", show_default="that of the command")
@click.option("--runs", type=Path, required=True, help="Where runs and files go.")
@click.option("--output", type=Path, default=RESULTS / "photographs")
def main(pictures, name, before, epochs, recipe, runs, output):
    name = name or pictures.name
    runs.mkdir(parents=True, exist_ok=True)
    place = output / "result.json"
    rows = json.loads(place.read_text())["rows"] if place.exists() else {}
    row = measure(pictures, name, epochs, recipe, runs, before)
    said = command().replace(str(pictures), f"pictures/{pictures.name}")
    rows[name] = {"command": said.replace(str(runs), "runs/photographs"), **row}
    result = {
        "machine": machine(),
        "versions": versions("larq_compute_engine", "pillow"),
        "width": WIDTH,
        "precision": PRECISION,
        "rows": rows,
    }
    write(result, place)
    commands = " && ".join(each["command"] for each in rows.values())
    said = commands, __doc__.splitlines()[0], result["machine"]
    write_log(output, *said, tables=drawing.photographs(result))


if __name__ == "__main__":
    main()
