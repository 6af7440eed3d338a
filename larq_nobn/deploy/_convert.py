"""From a trained Keras model to a verified `.tflite` file.

The steps: open, check, trace and apply rules, write and read back, check the file,
verify, and give it its name last.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .._checks import check_bounds, check_choice, check_flag, check_integer, check_path
from .._errors import InvalidValue
from .._files import replacing
from .._keras import keras
from .._larq import lq
from .._names import ON_GIVEN_DATA, RUNTIMES
from .._progress import step
from ..data import DatasetInfo, classified_images
from ..graph._signs import kind_of
from . import _checks
from ._errors import conversion_errors
from ._float_fallback import FloatFallback, layers_by_name, layers_of
from ._opening import (
    as_functional,
    in_float32,
    opened,
    output_layers,
    with_known_sizes,
)
from ._report import ConversionReport
from .device import (
    VERIFIED_IMAGES,
    Preprocessing,
    check_metadata,
    dataset_name,
    preprocessing_of,
    remove_metadata,
    write_metadata,
)
from .inspection import Audit, audit_graphs
from .int8 import check_int8, verify_int8, verify_without_rounding
from .lite import _converter
from .lite._engine import compute_engine
from .lite._file import read
from .lite._trace import Trace
from .operations import Int8Trace, LoweredTrace
from .operations._program import Program
from .verify._data import verification_examples
from .verify._lowered import verify_file, verify_operations
from .verify._ties import tie_warnings

_log = logging.getLogger("larq_nobn")

# Examples for the comparison that is made even without verification: of those that
# are generated, all regular and three random ones.
_FEW = 8


@conversion_errors()
def convert(
    model: keras.Model,
    path: str | os.PathLike,
    verify: bool = True,
    data: Any = None,
    tolerance: float = 1e-3,
    *,
    batch_size: int = 1,
    int8: bool = False,
    runtime: str = "lce",
    labels: Sequence[str] | None = None,
    preprocessing: Preprocessing | None = None,
    dataset: str | os.PathLike[str] | DatasetInfo | None = None,
    allow_float: bool = False,
    input_shape: Sequence[int] | None = None,
) -> ConversionReport:
    """Converts a trained model to a TFLite model, with LCE's binary kernels or without.

    The model is optimized for inference, converted and verified; the given model is not
    changed. If anything fails, nothing is written, and an existing file at
    `path` stays as it is.

    Verification compares the given model with the optimized one, and the optimized one
    with the file, segment by segment: from the signs and inputs that a segment reads to
    the next pre-activations and outputs, which one model computes from the signs of the
    other. Numbers must agree within `tolerance` per channel, and signs unless their
    pre-activation is within rounding of 0.

    Arguments:
        model: A Larq model with any number of inputs and outputs; the file has them in
            the same order, by the same names. Of a subclassed model the operations of
            its trace are all that is read.
        path: The file to write; its name ends in `.tflite`.
        verify: Whether to verify on all examples and to report the agreement. Without,
            8 examples are compared, and the report has no numbers of them.
        data: Examples to verify on: an array, a list or dict with one per input,
            `(x, y)`, or batches of either as a tf.data dataset, `keras.utils.Sequence`
            or generator, of which the first 256 examples are used. By default 32
            generated ones, 8 for inputs above 128x128 pixels, and two far from those.
        tolerance: Allowed difference between numbers of model and file, relative to
            how far the numbers of their channel are apart.
        batch_size: Batch size of the file, whatever the batch size of the model is;
            layers that depend on it must have been built for this one.
        int8: Whether everything but binary layers computes in int8, inputs and outputs
            included. The model must contain the ranges: see `deploy.fake_quantize`.
            Such a file is compared feature map by feature map, in quantization steps
            instead of `tolerance`.
        runtime: Where the file runs. `"lce"`: with Larq Compute Engine's binary
            kernels. `"litert"`: in LiteRT, formerly TensorFlow Lite, with no custom
            operation, of the same function: kernels are ±1 in float32, or with `int8`
            in int8. LCE need not be installed for that.
        labels: One name per class. With `labels` or `preprocessing`, metadata for an
            app is written to `<path>.json`: see `read_card`. Without both, metadata of
            an earlier conversion at that path is removed.
        preprocessing: How an image becomes an input of the model.
        dataset: Data set that the model classifies, as in `data.open_dataset`: says the
            labels and the preprocessing, and verifies on its test images, where
            `labels`, `preprocessing` or `data` do not say otherwise. Or a
            `data.DatasetInfo`, such as `run.dataset`, of which `data` are test images.
        allow_float: Whether binary layers without a kernel in LCE, such as depthwise
            ones or those of several bits, become float layers of the same function.
            It also allows models without binary layers. The report lists the layers.
        input_shape: Shape of one example, such as (96, 96, 3), for a model with one
            input of unknown size, or a subclassed model that was never called.

    Returns:
        A `ConversionReport`.

    Raises:
        ConversionError: If the model or the data cannot be used, or a binary layer
            would stay float. The message names the layer and the remedy.
        VerificationError: If the file computes something else.
        TypeError, ValueError: If an argument has the wrong type or is out of range.
        OSError: If the file cannot be written.

    Example:
        ```python
        import larq_nobn as nobn

        model = nobn.models.ReActNet18((32, 32, 3), 10, width=16)
        report = nobn.convert(model, "model.tflite")
        print(report)
        ```
    """
    path = check_path("path", path)
    if Path(path).suffix.lower() != ".tflite":
        raise InvalidValue(
            f"path={path!r} is not a name for a TFLite model. Choose one "
            "that ends in .tflite."
        )
    check_flag("verify", verify)
    check_bounds("tolerance", tolerance)
    check_integer("batch_size", batch_size, 1, "A device sees one example at a time.")
    check_flag("int8", int8)
    check_flag("allow_float", allow_float)
    if check_choice("runtime", runtime, RUNTIMES) == "lce":
        compute_engine()
    name, holdout, source = None, None, ON_GIVEN_DATA
    if dataset is not None:
        info, opened = classified_images(model, dataset, input_shape)
        name, holdout = dataset_name(info), info.holdout
        if name is not None and (data is None) != (opened is None):
            source = f"test images of {name}"
        if data is None and opened is not None:
            data = opened.batches("test", 128, augment=False, limit=VERIFIED_IMAGES)
        labels = info.class_names or None if labels is None else labels
        if preprocessing is None and info.mean:
            preprocessing = preprocessing_of(info)
    reference, model = model, with_known_sizes(model, input_shape, data)
    if not getattr(reference, "_is_graph_network", False):
        reference = model
    task = _Task(
        reference=reference,
        model=model,
        path=path,
        verify=verify,
        data=data,
        source=source,
        dataset=name,
        holdout=holdout,
        tolerance=tolerance,
        batch_size=batch_size,
        int8=int8,
        runtime=runtime,
        labels=labels,
        preprocessing=preprocessing,
        allow_float=allow_float,
    )
    return _convert(task)


@dataclass(frozen=True, kw_only=True)
class _Task:
    """The arguments of a conversion; `model` is `reference` with known sizes."""

    reference: keras.Model
    model: keras.Model
    path: str | os.PathLike
    verify: bool
    data: Any
    source: str
    dataset: str | None
    holdout: float | None
    tolerance: float
    batch_size: int
    int8: bool
    runtime: str
    labels: Sequence[str] | None
    preprocessing: Preprocessing | None
    allow_float: bool

    @cached_property
    def io(self) -> _converter.IoSpec:
        """What the file takes and gives."""
        return _converter.io_spec(self.model, self.batch_size)

    def examples(self, given: keras.Model) -> tuple[list[np.ndarray], str]:
        """Returns the examples to verify on, and where they are from."""
        examples, source = verification_examples(
            self.data, self.model, given, self.source
        )
        return [x if self.verify else x[:_FEW] for x in examples], source


def _convert(task: _Task) -> ConversionReport:
    """Writes a file from the trace of a model.

    A float file is compared with the model from sign to sign; an int8 file has kernels
    that are rounded, and is compared map by map.
    """
    model, reason = task.model, None
    if task.int8:
        model = as_functional(model)
    else:
        model, reason = opened(model)
    if reason is None:
        check_int8(model, task.int8)
    _checks.check_model(model)
    labels = check_metadata(task.path, model, task.labels, task.preprocessing)
    step("Tracing")
    traced = in_float32(model)
    trace = Trace(traced, task.io)
    lowered: Any = (Int8Trace if task.int8 else LoweredTrace)(
        trace, task.io, task.runtime
    )
    # For LiteRT, without binary kernels, all layers are ordinary ones.
    allowed = task.allow_float or task.runtime == "litert"
    in_float = _checks.check_float(model, lowered, allowed)
    examples, source = task.examples(model)
    with _written_atomically(task, labels) as save:
        file = _converted(task, lowered, model)
        if task.int8:
            same = verify_without_rounding(model, traced, lowered, examples)
            numbers = verify_int8(lowered, file.runner, examples)
        else:
            own = task.reference if traced is model else traced
            same, outputs = verify_operations(task.reference, own, lowered, examples)
            numbers = verify_file(
                model,
                lowered,
                outputs,
                file.content,
                file.runner,
                examples,
                task.tolerance,
            )
        save(file)
    warnings = [] if task.int8 else tie_warnings(same, numbers)
    for warning in warnings:
        _log.warning(warning)
    audit = file.audit
    return ConversionReport(
        path=audit.path,
        size_bytes=audit.size_bytes,
        runtime=task.runtime,
        binary_layers=len(file.binary),
        lce_bconv2d=audit.lce_bconv2d,
        float_ops=audit.float_ops,
        binary_macs=audit.binary_macs // task.batch_size,
        float_macs=audit.float_macs // task.batch_size,
        int8_ops=audit.int8_ops,
        int8_macs=audit.int8_macs // task.batch_size,
        verify={**numbers, "data": source, "prepared": same} if task.verify else None,
        in_float=[x.to_dict() for x in in_float if task.runtime == "lce"],
        rewritten=_rewritten(model, lowered, in_float),
        merged=file.merged,
        not_prepared=reason,
        warnings=warnings,
    )


def _rewritten(
    model: keras.Model,
    lowered: LoweredTrace | Int8Trace,
    in_float: Sequence[FloatFallback],
) -> list[dict[str, str]]:
    """The binary layers that are other ones in the file, which make the same."""
    layers, rows = layers_by_name(model), list[dict[str, str]]()
    for name in dict.fromkeys(layers_of(lowered.binary, layers)):
        layer = layers[name]
        said = ", ".join(_described(layer, lowered.program, layers))
        if said and all(row.layer != name for row in in_float):
            rows.append({"layer": name, "kind": type(layer).__name__, "as": said})
    return rows


def _described(
    layer: keras.layers.Layer, program: Program, layers: Container[str]
) -> Iterator[str]:
    """What a binary layer is written as, where that is something else."""
    nodes = [x for x in program.nodes if layers_of([x.name], layers) == [layer.name]]
    kernels = [node for node in nodes if node.kind == "kernel"]
    if kernels and isinstance(layer, (lq.layers.QuantDense, lq.layers.QuantConv1D)):
        size = "x".join(map(str, kernels[0]["kernel"].shape[:2]))
        yield f"{size} convolution"
    groups = getattr(layer, "groups", 1)
    if groups > 1:
        yield f"{groups} convolutions, one for each group"
    for what, name in (("inputs", "input_quantizer"), ("kernel", "kernel_quantizer")):
        if kind_of(getattr(layer, name, None)) is lq.quantizers.SteHeaviside:
            yield f"{what} of 0 and 1 as signs"
    if any(node.name.endswith("_ones") for node in nodes):
        yield "padded with ones, less what they add"


class _File(NamedTuple):
    """A file that a converter wrote, checked, and run once.

    Attributes:
        content: Its bytes.
        audit: What it contains.
        runner: Runs it.
        binary: The binary layers that it contains.
        merged: Those that LCE merged with equal ones.
    """

    content: bytes
    audit: Audit
    runner: _converter.Runner
    binary: list[str]
    merged: list[str]


def _converted(
    task: _Task, lowered: LoweredTrace | Int8Trace, model: keras.Model
) -> _File:
    """Has a converter write the operations, checks the file, and runs it once."""
    step("Converting")
    content = _converter.to_flatbuffer(
        lowered.function(), [], task.io, task.int8, task.runtime
    )
    path, lce = os.fspath(task.path), task.runtime == "lce"
    graphs = read(content, path, output_layers(model))
    merged, left = [], layers_of(lowered.binary, layers_by_name(model))
    if lce:
        merged = _checks.merged_convolutions(graphs[0], lowered.repeated, left)
    for name in merged:
        left.remove(name)
    _checks.check_file(graphs[0])
    if lce:
        _checks.check_binary(graphs[0], left)
    elif task.int8:
        _checks.check_all_int8(graphs[0])
    audit = audit_graphs(graphs, len(content), path)
    runner = _converter.Runner(content, task.runtime)
    runner.outputs(task.io.zeros())
    return _File(content, audit, runner, left, merged)


@contextmanager
def _written_atomically(
    task: _Task, labels: tuple[str, ...] | None
) -> Iterator[Callable[[_File], None]]:
    """Yields what saves a file and its metadata, under their names after the block."""
    path = task.path
    known = labels, task.preprocessing, task.dataset, task.holdout
    described = known[:2] != (None, None)
    with replacing(path) as temporary:

        def save(file: _File) -> None:
            temporary.write_bytes(file.content)
            if described:
                write_metadata(path, file.content, file.runner, *known)

        yield save
    if not described:
        remove_metadata(path)
