"""`larq-nobn benchmark`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import click

from .._names import GIVEN
from . import _arguments
from ._console import progress, show
from ._models import Images, open_run_or_file, statistics_images
from ._outputs import json_option
from ._package import deploy


@click.command(cls=_arguments.Command)
@click.argument("file", metavar="FILE", type=_arguments.RUN_OR_FILE)
@click.option(
    "--against",
    multiple=True,
    type=_arguments.tflite_file,
    help="Another .tflite file to compare with; may be given several times.",
)
@click.option(
    "--formats",
    is_flag=True,
    help="Compare a trained network as a file for LiteRT and for LCE, in float and in "
    "int8; FILE is then a run folder, a .keras file or the name of a trained network.",
)
@click.option(
    "--phone",
    is_flag=True,
    help="Measure latency on the Android phone that adb is connected to.",
)
@_arguments.dataset_option
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=1000,
    help="With --formats: use at most this many test images.",
)
@_arguments.data_dir_option
@_arguments.trust_option
@click.option("--runs", default=50, help="Timed runs of each file.")
@click.option(
    "--warmup", default=5, help="Untimed runs of each file before the timed ones."
)
@click.option("--threads", default=1, help="Threads of the interpreter.")
@click.option("--seed", default=0, help="Seed of the random inputs and of the order.")
@json_option
@click.pass_context
def benchmark(
    ctx: click.Context,
    file: Path,
    against: tuple[Path, ...],
    formats: bool,
    phone: bool,
    dataset: str | None,
    limit: int,
    data_dir: str | None,
    trust: bool,
    report: str | None,
    **counts: int,
) -> None:
    """Time .tflite files side by side, or one network in several formats.

    Runs the files in turns on random inputs, each in the interpreter of its runtime:
    Larq Compute Engine (LCE) or LiteRT. LCE's kernels are optimized for 64-bit ARM:
    times on other processors do not predict those of a phone. With --phone, files run
    on a connected phone, in the benchmark program of each runtime.

    With --formats, compares one network as a file for LiteRT and for LCE, each in float
    and in int8: size, latency, accuracy on test images, and agreement with Keras.
    "Fastest here" names the format to choose.

    \b
    Example: larq-nobn benchmark model.tflite --against other.tflite
             larq-nobn benchmark model.tflite --phone
             larq-nobn benchmark runs/a --formats --phone
    """
    others = {"dataset", "limit", "data_dir", "trust"}
    for used, unused, why in (
        (phone, {"seed"}, "with --phone, which draws its inputs itself"),
        (formats, {"against"}, "with --formats, which writes its files"),
        (not formats, others, "without --formats"),
    ):
        if used:
            _arguments.check_unused(ctx, unused, why)
    if formats:
        model, origin = open_run_or_file(file, trust)
        if dataset is None and origin is not None and origin.info.name != GIVEN:
            dataset = origin.info.name
        known: dict[str, Any] = {**counts, "data_name": f"test images of {dataset}"}
        if dataset is not None:
            images = Images(dataset, origin, data_dir, model)
            known["data"] = images.batches(limit=limit)
            known["range_data"] = statistics_images(dataset, origin, data_dir, model)
        with progress(f"comparing formats of {file}"):
            comparison = deploy.compare_formats(model, phone=phone, **known)
        show(comparison.to_dict(), report, comparison.table())
        return
    if not file.is_file():
        kind = "is a directory" if file.is_dir() else "is a trained network"
        raise click.UsageError(
            f"{str(file)!r} {kind}, not a .tflite file. Add --formats to compare a "
            "network in several formats."
        )
    measure: Callable[..., deploy.Benchmark] = deploy.benchmark
    total = counts["runs"] + counts["warmup"]
    if phone:
        del counts["seed"]
        measure, total = deploy.benchmark_on_phone, 1
    with progress("running", total * (1 + len(against))) as advance:
        result = measure(file, against, **counts, progress=partial(advance, 1))
    show(result.to_dict(), report, result.table())
