"""`larq-nobn benchmark`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import click

from .._names import GIVEN, is_keras_file
from . import _arguments, _inputs
from ._console import progress, show
from ._outputs import json_option
from ._package import deploy, training


@click.command(cls=_arguments.Command)
@click.argument(
    "files", metavar="FILE...", nargs=-1, required=True, type=_arguments.RUN_OR_FILE
)
@click.option(
    "--against",
    multiple=True,
    type=_arguments.tflite_file,
    help="Another file to compare with, like a further FILE; may be repeated.",
)
@click.option(
    "--formats",
    is_flag=True,
    help="Compare one network in four formats: for LiteRT and for LCE, in float and in "
    "int8. FILE is a run folder, a .keras file or the name of a trained network.",
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
    help="With --formats or --dataset: use at most this many test images.",
)
@_arguments.preprocessing_options
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
    files: tuple[Path, ...],
    against: tuple[Path, ...],
    formats: bool,
    phone: bool,
    dataset: str | None,
    limit: int,
    data_dir: str | None,
    trust: bool,
    json_path: str | None,
    **counts: int,
) -> None:
    """Time .tflite, .c and .keras files side by side, or one network in formats.

    Runs the files in turns on random inputs, each in its runtime, and prints latency,
    size, memory and multiplications. With --dataset, it also prints their accuracy on
    test images, and a sentence that says which file to ship. LCE's kernels are
    optimized for 64-bit ARM: times on other processors do not predict those of a phone.
    With --phone, files run on a connected phone, in the benchmark program of each.

    With --formats, compares one network as a file for LiteRT and for LCE, each in float
    and in int8: size, latency, accuracy on test images, and agreement with Keras. The
    note "Fastest here" names the format to choose.

    \b
    Example: larq-nobn benchmark model.tflite model.c --dataset cifar10
             larq-nobn benchmark model.tflite --phone
             larq-nobn benchmark runs/a --formats --phone
    """
    file, *more = files
    all_files = [*files, *against]
    options = {"limit", "data_dir", *_arguments.PREPROCESSING}
    others = options if dataset is None else set()
    others |= set() if any(map(is_keras_file, all_files)) else {"trust"}
    written = {"against", *_arguments.PREPROCESSING}
    for used, unused, why in (
        (phone, {"seed"}, "with --phone, which generates the inputs itself"),
        (formats, written, "with --formats, which converts one network"),
        (not formats, others, "without --formats or --dataset"),
    ):
        if used:
            _arguments.check_unused(ctx, unused, why)
    if formats and more:
        raise click.UsageError(
            "--formats compares one network in several formats. Give only one FILE."
        )
    if formats:
        model, origin = _inputs.open_network(file, trust)
        if dataset is None and origin is not None and origin.info.name != GIVEN:
            dataset = origin.info.name
        known: dict[str, Any] = {**counts, "data_name": f"test images of {dataset}"}
        if dataset is not None:
            images = _inputs.ModelImages(dataset, origin, data_dir, model)
            known["data"] = images.batches(limit=limit)
            known["range_data"] = _inputs.statistics_images(
                dataset, origin, data_dir, model
            )
        with progress(f"comparing formats of {file}"):
            comparison = deploy.compare_formats(model, phone=phone, **known)
        show(comparison.to_dict(), json_path, comparison.table())
        return
    for each in files:
        if each.is_dir() or not (_inputs.is_lite(each) or is_keras_file(each)):
            kind = "is a directory" if each.is_dir() else "is a network"
            raise click.UsageError(
                f"{str(each)!r} {kind}, not a .tflite, .c or .keras file. Convert it, "
                "or add --formats to compare one network in several formats."
            )
    measure: Callable[..., deploy.Benchmark] = deploy.benchmark
    total = counts["runs"] + counts["warmup"]
    how: dict[str, Any] = {**counts, "trust": trust}
    if phone:
        del how["seed"], how["trust"]
        measure, total = deploy.benchmark_on_phone, 1
    with progress("running", total * len(all_files)) as advance:
        result = measure(file, all_files[1:], **how, progress=partial(advance, 1))
    if dataset is not None:
        known = {"data_dir": data_dir, "limit": limit, "trust": trust}
        scores = [_accuracy(each, dataset, **known) for each in all_files]
        result = result.with_accuracies(scores)
    show({**result.to_dict(), "verdict": result.verdict()}, json_path, result.table())


def _accuracy(
    file: Path, dataset: str, data_dir: str | None, limit: int, trust: bool
) -> tuple[float, int]:
    """Returns the accuracy of a file on test images, and their number."""
    model, origin = _inputs.open_any(file, trust)
    images = _inputs.ModelImages(dataset, origin, data_dir, model or file)
    batches = images.batches(limit=limit)
    run = _inputs.lite_predictor(file) if model is None else model
    with progress(f"evaluating {file}", len(batches)) as advance:
        scores = training.evaluate(run, batches, lambda *_: advance(1))
    return scores["accuracy"], int(scores["examples"])
