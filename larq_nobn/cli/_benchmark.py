"""`larq-nobn benchmark`."""

from __future__ import annotations

from pathlib import Path

import click

from .. import deploy
from ._console import emit_json, out, progress, say
from .arguments import REPORT, Command, Output

_file = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command(cls=Command)
@click.argument("file", type=_file)
@click.option(
    "--against",
    multiple=True,
    type=_file,
    help="Another .tflite file to compare with; may be given several times.",
)
@click.option("--runs", default=50, help="Timed runs of each file.")
@click.option(
    "--warmup", default=5, help="Untimed runs of each file before the timed ones."
)
@click.option("--threads", default=1, help="Threads of the interpreter.")
@click.option("--seed", default=0, help="Seed of the random inputs and of the order.")
@click.option(
    "--read",
    "logs",
    multiple=True,
    type=_file,
    help="Read the log that a phone printed instead of running files here; one log per "
    "file, in the same order.",
)
@click.option(
    "--json",
    "report",
    type=Output(REPORT),
    help="Write the result to this file; - prints it.",
)
def benchmark(
    file: Path,
    against: tuple[Path, ...],
    runs: int,
    warmup: int,
    threads: int,
    seed: int,
    logs: tuple[Path, ...],
    report: str | None,
) -> None:
    """Times .tflite files side by side, here or on a phone.

    Here, Larq Compute Engine's interpreter runs the files in turns, on random inputs.
    Unless this computer has a 64-bit ARM processor, its times are no guide to a phone.
    The commands that time the same files on a connected phone are printed below the
    table; --read shows what they found in the same table.

    \b
    Example: larq-nobn benchmark model.tflite --against other.tflite
             larq-nobn benchmark model.tflite --read model.tflite.log
    """
    if logs:
        result = deploy.read_phone_logs(file, logs, against)
    else:
        with progress() as bar:
            task = bar.add_task("running", total=(runs + warmup) * (1 + len(against)))
            result = deploy.benchmark(
                file,
                against,
                runs=runs,
                warmup=warmup,
                threads=threads,
                seed=seed,
                progress=lambda: bar.advance(task),
            )
    emit_json(result.to_dict(), report)
    if report == "-":
        return
    out().print(result.table())
    if not logs:
        say("\nOn a phone, with lce_benchmark_model from a release of LCE:")
        for command in deploy.phone_commands(
            file, against, runs=runs, warmup=warmup, threads=threads
        ):
            say(f"  {command}")
