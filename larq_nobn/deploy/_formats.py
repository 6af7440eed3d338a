"""Compares one network in all formats: size, latency and accuracy."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import partial
from itertools import count
from typing import Any

import numpy as np
import tensorflow as tf
from rich.table import Table

from .._errors import InvalidValue
from .._keras import check_model, keras
from .._progress import step
from ..graph import _models
from ..layers import FakeQuantization
from ._convert import convert
from ._errors import ConversionError, VerificationError
from ._opening import generated_examples, given_batches, opened, with_known_sizes
from ._shown import Shown
from .device._benchmark import (
    Timing,
    benchmark,
    benchmark_on_phone,
    check_counts,
    check_runs,
)
from .int8._conversion import without_ranges
from .lite._converter import Runner, run
from .verify._segments import top1_agreement

# The runtime of each format, and whether it is int8.
_KINDS = {
    "LiteRT": ("litert", False),
    "LiteRT, int8": ("litert", True),
    "LCE, int8": ("lce", True),
    "LCE": ("lce", False),
    "C": ("c", False),
    "Micro, int8": ("micro", True),
}
_GROUP = 32


@dataclass(frozen=True)
class Format:
    """One of the formats of a network.

    Attributes:
        name: `"LiteRT"` or `"LiteRT, int8"`, without operations of LCE; `"Micro,
            int8"`, the same with one bit a weight; `"LCE, int8"`, binary with all else
            in int8; `"LCE"`, binary with all else in float; or `"C"`, without any
            runtime.
        size_bytes, lce_bconv2d, float_ops, ms, low_ms, high_ms, ratio: As in `Timing`.
        ratio_low, ratio_high: The 95 % interval of `ratio`; None on a phone.
        accuracy: Top-1 accuracy; None without labels.
        top1_agreement: Fraction of examples with the same class as in Keras.
        largest_difference: Largest absolute difference of an output to Keras.
    """

    name: str
    size_bytes: int
    lce_bconv2d: int
    float_ops: int
    ms: float
    low_ms: float
    high_ms: float
    ratio: float
    ratio_low: float | None
    ratio_high: float | None
    accuracy: float | None
    top1_agreement: float
    largest_difference: float


@dataclass(frozen=True)
class FormatComparison(Shown):
    """One network in several formats, side by side.

    Attributes:
        network: The name of the network.
        source: The interpreters or programs that ran the files.
        note: What the latencies tell, and what they do not.
        data: The examples on which accuracy and agreement are measured.
        examples: The number of these examples.
        keras_accuracy: Top-1 accuracy in Keras; None without labels.
        formats: One `Format` for each file; latency ratios are to the first.
        failed: For each format without a file, the reason.
    """

    network: str
    source: str
    note: str
    data: str
    examples: int
    keras_accuracy: float | None
    formats: list[Format]
    failed: dict[str, str]

    def table(self) -> Table:
        """Returns the formats as a `rich` table, one row for each."""
        notes = [f"{name}: {reason}" for name, reason in self.failed.items()]
        notes.append(f"Accuracy and agreement on {self.data}.")
        table = Table(
            title=f"{self.network}, {self.source}",
            title_justify="left",
            caption="\n".join([*notes, self.note]),
            caption_justify="left",
        )
        keras_row = {"format": "Keras", "accuracy": _percent(self.keras_accuracy)}
        rows = [keras_row, *map(_cells, self.formats)]
        for column in rows[-1]:
            table.add_column(column, justify="left" if column == "format" else "right")
        for row in rows:
            table.add_row(*(row.get(column, "-") for column in rows[-1]))
        return table


def _cells(of: Format) -> dict[str, str]:
    """Returns the cells of a format in the table, by column."""
    ends = of.ratio_low, of.ratio_high
    between = f" ({ends[0]:.2f}-{ends[1]:.2f})" if ends[0] != ends[1] else ""
    return {
        "format": of.name,
        "size": f"{of.size_bytes / 1e3:,.1f} kB",
        "binary conv.": str(of.lce_bconv2d),
        "latency, median": f"{of.ms:,.3f} ms",
        "ratio (95 %)": f"{of.ratio:.2f}{between}",
        "accuracy": _percent(of.accuracy),
        "same class as Keras": _percent(of.top1_agreement),
    }


def _percent(fraction: float | None) -> str:
    return "-" if fraction is None else f"{100 * fraction:.1f} %"


def compare_formats(
    model: keras.Model,
    data: Any = None,
    *,
    range_data: Any = None,
    data_name: str = "given examples",
    runs: int = 50,
    warmup: int = 5,
    threads: int = 1,
    seed: int = 0,
    phone: bool = False,
) -> FormatComparison:
    """Compares a network as a file for each runtime, in float and in int8.

    For the int8 files, examples set the ranges, unless the model has `FakeQuantization`
    layers, which other files omit. Each file runs in the interpreter of its runtime: in
    turns for latency, as in `benchmark`, and on all examples for accuracy and
    agreement. The fastest file here need not be the fastest on a phone.

    Arguments:
        model: A trained model that `convert` prepares. It is not changed.
        data: Examples to compare on, `(x, y)` or a `tf.data.Dataset` of batches; with
            integer labels for accuracy. If None, examples are generated.
        range_data: Examples that set the ranges of int8, best from the training images;
            None for those of `data`.
        data_name: A description of the examples, such as "test images of digits".
        runs, warmup, threads, seed: As in `benchmark`.
        phone: Whether to measure latencies on the connected phone, as
            `benchmark_on_phone` does.

    Returns:
        A `FormatComparison`. If a format other than LCE in float fails, it contains
        the reason instead of the file.

    Raises:
        ConversionError: If the network cannot be converted by LCE, the examples do not
            fit it, or the phone fails.
        ValueError: If a number is out of its range, or the labels do not fit the
            outputs.

    Example:
        ```python
        import larq_nobn as nobn

        model = nobn.models.ReActNet18((32, 32, 3), 10, width=16)
        print(nobn.deploy.compare_formats(model, runs=20))
        ```
    """
    if not isinstance(model, keras.Model):
        model = with_known_sizes(model, None, data)
    check_model(model)
    check_counts(runs, warmup, threads)
    layers = getattr(model, "layers", ())
    ranged, plain = any(isinstance(x, FakeQuantization) for x in layers), model
    if ranged:
        plain = without_ranges(_models.flat(model))
    given, labels, generated = opened(plain)[0], None, ""
    if data is None:
        # Numbers far beyond the usual would make ranges too wide.
        examples, what = generated_examples(given)
        generated = f"{what}, seed 0"
    else:
        batches, classes = zip(*given_batches(model, data, _GROUP), strict=True)
        examples = [np.concatenate(arrays) for arrays in zip(*batches, strict=True)]
        labels = None if classes[0] is None else np.concatenate(classes)
    if range_data is None:
        range_data = tf.nest.pack_sequence_as(model._nested_inputs, examples)
    step("Running Keras")
    wanted = run(model, examples)
    if labels is not None:
        _check_labels(wanted, labels)
    with tempfile.TemporaryDirectory() as folder:
        quantized = model if ranged else None
        files, failed = _files(folder, plain, quantized, range_data, phone)
        first, *others = files.values()
        total, done = len(files) * (1 if phone else runs + warmup), count(1)
        measure = benchmark_on_phone if phone else partial(benchmark, seed=seed)
        timings = measure(
            first,
            others,
            runs=runs,
            warmup=warmup,
            threads=threads,
            progress=lambda: step("Measuring latency", next(done), total),
        )
        formats = [
            _format(name, timing, examples, wanted, labels)
            for name, timing in zip(files, timings.timings, strict=True)
        ]
    fastest = min(formats, key=lambda format_: format_.ms).name
    return FormatComparison(
        network=model.name,
        source=timings.source,
        note=f"Fastest here: {fastest}. {timings.note}",
        data=generated or f"{len(examples[0]):,} {data_name}",
        examples=len(examples[0]),
        keras_accuracy=_accuracy(wanted, labels),
        formats=formats,
        failed=failed,
    )


def _check_labels(outputs: Sequence[np.ndarray], labels: np.ndarray) -> None:
    """Checks that the network gives one score for each class."""
    shapes = [output.shape for output in outputs]
    whole = labels.ndim == 1 and labels.dtype.kind in "iu"
    scores = len(shapes) == 1 and len(shapes[0]) == 2
    if not (whole and scores and 0 <= labels.min() <= labels.max() < shapes[0][1]):
        raise InvalidValue(
            f"The model's outputs have shapes {shapes}, but labels are "
            f"{labels.dtype} of shape {labels.shape} and go up to {labels.max()}. "
            "Choose the data set that it was trained on, or pass no labels."
        )


def _files(
    folder: str,
    plain: keras.Model,
    quantized: keras.Model | None,
    ranges: Any,
    phone: bool,
) -> tuple[dict[str, str], dict[str, str]]:
    """Writes a file of each format; returns their paths, and why others failed."""
    files: dict[str, str] = {}
    failed: dict[str, str] = {}
    for name, (runtime, int8) in _KINDS.items():
        step(f"Converting to {name}")
        file = f"{folder}/{name}{'.c' if runtime == 'c' else '.tflite'}"
        try:
            if runtime in ("c", "micro"):
                check_runs(runtime, phone)
            own = int8 and quantized is not None
            convert(
                quantized if own else plain,
                file,
                verify=False,
                int8=int8,
                calibrate=ranges if int8 and not own else None,
                runtime=runtime,
            )
            files[name] = file
        except (ConversionError, VerificationError) as error:
            if name == "LCE":
                raise
            failed[name] = str(error)
    return files, failed


def _format(
    name: str,
    timing: Timing,
    examples: Sequence[np.ndarray],
    wanted: Sequence[np.ndarray],
    labels: np.ndarray | None,
) -> Format:
    runner, batches = Runner(timing.path), []
    for start in range(0, len(examples[0]), _GROUP):
        step(f"Running {name} on examples", start, len(examples[0]))
        batches.append(runner.outputs([x[start : start + _GROUP] for x in examples]))
    outputs = [np.concatenate(arrays) for arrays in zip(*batches, strict=True)]
    pairs = zip(wanted, outputs, strict=True)
    known = {field.name for field in fields(Format)} - {"accuracy"}
    return Format(
        name=name,
        **{key: value for key, value in vars(timing).items() if key in known},
        accuracy=_accuracy(outputs, labels),
        top1_agreement=top1_agreement(wanted, outputs),
        largest_difference=float(max(np.abs(a - b).max() for a, b in pairs)),
    )


def _accuracy(outputs: Sequence[np.ndarray], labels: np.ndarray | None) -> float | None:
    if labels is None:
        return None
    return float(np.mean(outputs[0].argmax(axis=1) == labels))
