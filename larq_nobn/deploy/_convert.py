"""Converts a trained Keras model to a verified `.tflite` or C file.

The steps: open the model, check it, trace it and apply rules, write and read back the
file, check and verify it, and move it to its path last.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, fields
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table
from tensorflow.lite.python.schema_py_generated import BuiltinOperator

from .._checks import check_bounds, check_choice, check_flag, check_integer, check_path
from .._errors import InvalidValue
from .._files import replacing
from .._keras import keras
from .._names import GIVEN, IO_TYPES, ON_GIVEN_DATA, RUNTIMES
from .._progress import step
from .._version import __version__
from ..data import DatasetInfo, classified_images
from ._audit import Audit, Findings, audit_bytes
from ._binary_layers import check_count, check_float
from ._errors import ConversionError, VerificationError, conversion_errors
from ._opening import verification_examples, with_known_sizes
from ._prepared import lowered_model, opened_model
from .c._calls import Calls
from .c._write import CFile, check_prefix
from .device._metadata import (
    VERIFIED_IMAGES,
    Preprocessing,
    check_metadata,
    preprocessing_of,
    remove_metadata,
    write_metadata,
)
from .int8._conversion import verify_int8, verify_without_rounding
from .lite import _converter
from .lite._compiled import compiler
from .lite._converter import IoSpec, compute_engine
from .lite._described import Described, with_metadata, with_note
from .lite._file import read
from .lite._micro import check_micro, micro_error, with_packed_kernels
from .operations import Stages
from .operations._kinds import Kernel
from .trace._operation_names import layer_name
from .verify._c import verify_c
from .verify._lowered import REFERENCE, verify_file, verify_operations
from .verify._segments import tie_warnings

_log = logging.getLogger("larq_nobn")

# The number of examples that are compared without verification; of generated ones
# these are all regular ones and three random ones.
_FEW = 8
# LCE's converter ends the process at these operations. Measured: LCE 0.16.0.
_ENDS = ("DenseBincount",)
_NORMALIZING = (keras.layers.Rescaling, keras.layers.Normalization)


@conversion_errors()
def convert(
    model: Any,
    path: str | os.PathLike,
    verify: bool = True,
    data: Any = None,
    tolerance: float = 1e-3,
    *,
    batch_size: int = 1,
    int8: bool = False,
    calibrate: Any = None,
    runtime: str | None = None,
    io: str | None = None,
    small: bool = False,
    pixels: bool = False,
    labels: Sequence[str] | None = None,
    preprocessing: Preprocessing | None = None,
    dataset: str | os.PathLike[str] | DatasetInfo | None = None,
    allow_float: bool = False,
    input_shape: Sequence[int] | None = None,
    signature: str | None = None,
) -> ConversionReport:
    """Converts a trained model to a TFLite model, with LCE's binary kernels or without.

    The model is optimized for inference, converted and verified; the given model is not
    changed. If anything fails, nothing is written, and an existing file at
    `path` stays as it is.

    Verification compares the given model with the optimized one, and the optimized one
    with the file, segment by segment. A segment leads from signs and inputs to the next
    pre-activations and outputs; one model computes it from the signs of the other.
    Numbers must agree within `tolerance` per channel, and signs unless their
    pre-activation is within rounding of 0.

    Arguments:
        model: A Larq model with any number of inputs and outputs; the file has them in
            the same order, by the same names. A subclassed model is read by the
            operations of its trace alone. So are a model of Keras 3, a `tf.function` or
            concrete function, and a SavedModel, given by its folder.
        path: The file to write; its name ends in `.tflite`, or in `.c`.
        verify: Whether to verify on all examples and to report the agreement. If False,
            only 8 examples are compared, and the report has no numbers. A C file is
            verified with this computer's compiler; if False, not at all.
        data: Examples to verify on: an array, a list or dict with one per input,
            `(x, y)`, or batches of either as a tf.data dataset, `keras.utils.Sequence`
            or generator; the first 256 examples are used. By default 32 are generated,
            or 8 for inputs above 128x128 pixels, and two of much larger numbers.
        tolerance: Allowed difference between numbers of model and file, relative to the
            spread of the numbers in their channel.
        batch_size: Batch size of the file, whatever the batch size of the model is. A
            layer that depends on the batch size must have been built for this one.
        int8: Whether everything but binary layers computes in int8; always True for
            Micro. Such a file is compared feature map by feature map, in quantization
            steps instead of `tolerance`.
        calibrate: With `int8`, examples that set the ranges of feature maps, such as a
            few hundred training images, in the forms of `data`. A model that contains
            ranges keeps them; they can be trained, see `deploy.fake_quantize`.
        runtime: Where the file runs. `"lce"`: with Larq Compute Engine's binary
            kernels. `"litert"`: in LiteRT, formerly TensorFlow Lite, without custom
            operations: the function is the same, with kernels of ±1 in float32, or with
            `int8` in int8, and LCE need not be installed. `"micro"`: in TensorFlow Lite
            Micro, with the same operations in int8. Kernels of two values per channel
            take one bit a weight, and kernels of four values two bits. The report lists
            the resolver methods that a board needs. `"c"`: without a runtime, as C99
            that is also C++; `model.c` has the network, and `model.h` declares
            `void model_run(const float *input, float *output, void *memory)`,
            `MODEL_MEMORY_BYTES`, the sizes of inputs and outputs, and `model_labels`.
            By default `"c"` for a path that ends in `.c`, else `"lce"`.
        io: Type of the inputs and outputs of an int8 file: `"float32"`, which the file
            rounds itself, `"int8"`, or for LiteRT and Micro `"uint8"`. By default
            `"float32"` for LiteRT, as apps, browsers and MediaPipe need it, and
            `"int8"` for LCE and Micro.
        small: In C, whether real kernels with one magnitude per filter are stored as
            bits, too, which takes longer to run.
        pixels: Whether the input is an image of pixels from 0 to 255, which the file
            normalizes as `preprocessing` says, in its first operation. In C the input
            is `const uint8_t *`; other files keep its type.
        labels: One name per class. With `labels` or `preprocessing`, metadata for an
            app is written to `<path>.json`: see `read_card`. Without both, metadata of
            an earlier conversion at that path is removed.
        preprocessing: How an image becomes an input of the model.
        dataset: Data set that the model classifies, as in `data.open_dataset`. It gives
            labels, preprocessing, and test images to verify on, unless `labels`,
            `preprocessing` or `data` are given. Or a `data.DatasetInfo`, such as
            `run.dataset`; then `data` are its test images.
        allow_float: Whether binary layers without a kernel in LCE, such as depthwise
            ones or those of several bits, become float layers of the same function.
            Also allows models without binary layers. The report lists the layers.
        input_shape: Shape of one example, such as (96, 96, 3), for a model with one
            input of unknown size, or a subclassed model that was never called.
        signature: The signature of a SavedModel to convert; by default its only one, or
            `"serving_default"`.

    Returns:
        A `ConversionReport`.

    Raises:
        ConversionError: If the model or the data cannot be used, or a binary layer
            would stay float. The message names the layer and a remedy.
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
    flags = {"verify": verify, "int8": int8, "small": small, "pixels": pixels}
    for option, flag in {**flags, "allow_float": allow_float}.items():
        check_flag(option, flag)
    check_bounds("tolerance", tolerance)
    check_integer("batch_size", batch_size, 1, "A device sees one example at a time.")
    runtime = _checked_runtime(path, runtime, int8, small, verify)
    int8 = int8 or runtime == "micro"
    if calibrate is not None and not int8:
        raise InvalidValue(
            "calibrate is given, but it sets ranges for int8 only. Pass int8=True, "
            "too, or leave it out."
        )
    outside = _outside(io, runtime, int8)
    if not isinstance(model, keras.Model):
        model = with_known_sizes(model, input_shape, data, signature)
    name, holdout, source = None, None, ON_GIVEN_DATA
    if dataset is not None:
        info, images = classified_images(model, dataset, input_shape)
        # Only the last part of a folder's path is written.
        name = None if info.name == GIVEN else Path(info.name).name
        holdout = info.holdout
        if name is not None and (data is None) != (images is None):
            source = f"test images of {name}"
        if data is None and images is not None:
            data = images.batches("test", 128, augment=False, limit=VERIFIED_IMAGES)
        labels = info.class_names or None if labels is None else labels
        if preprocessing is None and info.mean:
            preprocessing = preprocessing_of(info)
    more = calibrate if data is None else data
    model, given, reason = opened_model(model, input_shape, more, int8)
    described = labels is not None or preprocessing is not None
    class_names = check_metadata(given, labels, preprocessing)
    steps = _steps(preprocessing, given) if pixels else None
    step("Tracing")
    # Micro files are LiteRT files with packed kernels.
    base = "litert" if runtime == "micro" else runtime
    stages = lowered_model(model, given, batch_size, int8, base, calibrate)
    run = stages.traced.form.outputs_of if given is stages.traced.model else None
    examples, source, classes = verification_examples(data, model, given, source, run)
    in_float = check_float(stages, base, allow_float, lambda: examples)
    if not verify:
        examples = [x[:_FEW] for x in examples]
    taken = examples  # as the file takes them
    if steps is not None:
        taken = [_converter.pixels_of(x, steps) for x in examples]
        examples = [x * steps[0] + steps[1] for x in taken]
    prepared, verified = dict[str, Any](), dict[str, Any]()
    runner: _converter.Runner | None = None
    with replacing(path) as temporary, ExitStack() as stack:
        if runtime == "c":
            step("Writing C")
            file = _as_c(stages, path, small, class_names)
            _check_c(file, allow_float)
            if verify:
                prepared, outputs = verify_operations(model, stages, examples)
                verified = verify_c(stages, outputs, file, examples, tolerance)
            if pixels:
                file = _as_c(stages, path, small, class_names, steps)
            proof = ["Not verified against Keras: convert it with verify=True."]
            if verify:
                proof = _proof(source, verified, outputs, classes)
            lines = [f"Data set: {name}."] * (name is not None)
            end = f"Written by larq_nobn {__version__} on {date.today()}."
            file.about = [f"network {model.name}", *lines, *proof, end]
            content = file.source.encode()
            header = stack.enter_context(replacing(Path(path).with_suffix(".h")))
            header.write_text(file.header)
            audit, binary, merged = _contents(stages, content, path, runtime)
        else:
            if steps is not None:
                stages = stages.of_pixels(steps, int8)
            tflite_metadata = None
            if runtime == "litert" and described:
                tflite_metadata = _described(given, class_names, preprocessing, pixels)
            content = _converted(stages, int8, base, outside, tflite_metadata)
            audit, binary, merged = _contents(stages, content, path, base)
            _check_file(audit, binary, int8, base)
            runner = _converter.Runner(content, base)
            if int8:
                prepared = verify_without_rounding(given, stages, examples)
                verified = verify_int8(stages, runner, taken)
            else:
                prepared, outputs = verify_operations(model, stages, examples)
                verified = verify_file(
                    stages, outputs, content, runner, examples, tolerance
                )
            if runtime == "micro":
                step("Running TensorFlow Lite Micro")
                content, runner = _for_micro(content, taken, stages.traced.ends)
                audit = audit_bytes(content, path)
        temporary.write_bytes(content)
        if described:
            write_metadata(
                path, content, runner, class_names, preprocessing, name, holdout
            )
    if not described:
        remove_metadata(path)
    warnings = tie_warnings(prepared, verified) if verified and not int8 else []
    if audit.board() == "none":
        counts = audit.flash_bytes or 0, audit.arena_bytes or 0
        sizes = " and ".join(f"{count / 1024:,.0f}" for count in counts)
        warnings.append(
            f"{audit.path} fits none of the usual boards, which have up to 2,048 kB of "
            f"flash and of memory: it takes {sizes} kB. For networks that fit: "
            "larq-nobn models --for 2m,2m."
        )
    for warning in warnings:
        _log.warning(warning)
    findings = {x.name: getattr(audit, x.name) for x in fields(Findings)}
    findings |= dict(
        runtime=runtime,
        in_float=[asdict(x) for x in in_float],
        binary_macs=audit.binary_macs // batch_size,
        float_macs=audit.float_macs // batch_size,
        int8_macs=audit.int8_macs // batch_size,
    )
    return ConversionReport(
        **findings,
        binary_layers=len(binary),
        merged=merged,
        verify={**verified, "data": source, "prepared": prepared} if verify else None,
        not_prepared=reason,
        feed=_feed(stages.io, runner, preprocessing, pixels),
        warnings=warnings,
    )


def _checked_runtime(
    path: str, runtime: str | None, int8: bool, small: bool, verify: bool
) -> str:
    """Returns the runtime for a path; rejects options that do not suit it."""
    suffix = Path(path).suffix.lower()
    runtime = runtime or ("c" if suffix == ".c" else "lce")
    check_choice("runtime", runtime, RUNTIMES)
    kind, ending = ("C file", ".c") if runtime == "c" else ("TFLite model", ".tflite")
    if suffix != ending:
        raise InvalidValue(
            f"path={path!r} is not a name for a {kind}. Choose one that ends in "
            f"{ending}."
        )
    if runtime == "c":
        check_prefix(path)
        if int8:
            raise InvalidValue(
                "int8=True is not for C files, which compute in float32 what is not "
                "binary. Leave it out, or choose another runtime."
            )
        if verify:
            compiler()
    elif small:
        raise InvalidValue(
            "small=True is for C files. Leave it out, or choose a path that ends in .c."
        )
    elif runtime == "lce":
        compute_engine()
    elif runtime == "micro":
        check_micro()
    return runtime


def _converted(
    stages: Stages,
    int8: bool,
    runtime: str,
    outside: str,
    described: Described | None,
) -> bytes:
    """Returns the content of a file of the operations."""
    step("Converting")
    for node in stages.spelled.nodes:
        if node.type in _ENDS:
            why = _converter.why_lacking(node.type, layer_name(node.name))
            raise ConversionError(why)
    function, io = stages.function(), stages.io
    content = _converter.to_flatbuffer(function, io, int8, runtime, outside)
    if stages.steps is not None:
        content = with_note(content, stages.steps)
    return content if described is None else with_metadata(content, described)


def _contents(
    stages: Stages, content: bytes, path: str, runtime: str
) -> tuple[Audit, list[str], list[str]]:
    """Audits a file; returns also its binary layers, and those that LCE merged.

    The kernel and the input of these equal another layer's.
    """
    merged = list[str]()
    left = [*map(layer_name, stages.binary)]
    audit = audit_bytes(content, path, stages.traced.ends)
    if runtime != "litert":
        lacking = max(len(left) - audit.lce_bconv2d, 0)
        merged = [*map(layer_name, stages.repeated[:lacking])]
        for name in merged:
            left.remove(name)
    return audit, left, merged


def _as_c(
    stages: Stages,
    path: str,
    small: bool,
    labels: Sequence[str] | None,
    pixels: Any = None,
) -> CFile:
    calls = Calls(stages.spelled, small, pixels)
    return CFile(calls, stages.io, check_prefix(path), labels or ())


def _check_c(file: CFile, allow_float: bool) -> None:
    """Rejects binary kernels that C computes in float."""
    nodes = (call.node for call in file.calls.calls if not call.binary)
    left = [n.name for n in nodes if isinstance(n, Kernel) and n.binary]
    if left and not allow_float:
        raise ConversionError(
            f"Layer {layer_name(left[0])!r} is binary in the model, but would be float "
            "in C: its signs are padded twice, or not just along "
            "rows and columns. Pad them once, or pass allow_float=True (--allow-float)."
        )


def _outside(io: str | None, runtime: str, int8: bool) -> str:
    """Returns the type of inputs and outputs of an int8 file."""
    if io is None:
        return "float32" if runtime == "litert" else "int8"
    check_choice("io", io, IO_TYPES)
    if runtime == "c":
        raise InvalidValue(
            f"io={io!r} is for TFLite models, while a C file takes floats, or bytes "
            "with pixels=True. Leave io out."
        )
    if not int8 and io != "float32":
        raise InvalidValue(
            f"io={io!r} is for int8 files, but this one computes in float32. Pass "
            "int8=True (--int8), or leave io out."
        )
    if runtime == "lce" and io == "uint8":
        raise InvalidValue(
            "io='uint8' is for LiteRT and Micro, while LCE takes float32 or int8. "
            "Choose one of these, or runtime='litert'."
        )
    return io


def _steps(
    preprocessing: Preprocessing | None, model: keras.Model
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the scale and offset that normalize pixels, per channel."""
    if preprocessing is None:
        raise ConversionError(
            "pixels=True needs mean and standard deviation of the images, and they are "
            f"unknown for model {model.name!r}. Pass a preprocessing or a dataset "
            "(--dataset); leave pixels out if the model normalizes images itself."
        )
    own = [
        layer.name
        for layer in model.layers
        if isinstance(layer, _NORMALIZING)
        for node in layer.inbound_nodes
        if any(x is y for x in node.keras_inputs for y in model.inputs)
    ]
    if own:
        raise ConversionError(
            f"pixels=True normalizes images in the file, and layer {own[0]!r} of model "
            f"{model.name!r} does it already. Leave pixels out: it takes pixels anyway."
        )
    std = np.array(preprocessing.std, np.float32)
    return 1 / (255 * std), -np.array(preprocessing.mean, np.float32) / std


def _for_micro(
    content: bytes, examples: Sequence[np.ndarray], ends: Sequence[str]
) -> tuple[bytes, _converter.Runner]:
    """Packs the kernels of a file, and checks that Micro's outputs stay the same."""
    graph = read(content, "the file", ends)[0]
    packed = with_packed_kernels(content, graph)
    runners = [_converter.Runner(x, "micro") for x in (content, packed)]
    with _converter.quiet() as chatter:
        try:
            both = [run.outputs(examples) for run in runners]
        except ConversionError as error:
            raise micro_error(error, chatter(), graph) from error
    for first, second in zip(*both, strict=True):
        if not np.array_equal(first, second):
            raise VerificationError(
                "TensorFlow Lite Micro computes something else with kernels of one bit "
                "a weight than with the same kernels in int8, so its release is "
                "faulty. Install another release of tflite-micro. No file was written."
            )
    return packed, runners[1]


def _described(
    model: keras.Model,
    labels: Sequence[str] | None,
    preprocessing: Preprocessing | None,
    pixels: bool,
) -> Described:
    """Returns the TFLite metadata of a model."""
    mean: float | None = None
    std: float | None = None
    if pixels:
        mean, std = 0.0, 1.0
    elif preprocessing is not None:
        if len({*preprocessing.mean}) == len({*preprocessing.std}) == 1:
            mean, std = 255 * preprocessing.mean[0], 255 * preprocessing.std[0]
        else:
            _log.warning(
                "The TFLite metadata do not say how images are normalized, since they "
                "can have only one mean for all channels, and this network has one for "
                "each. With pixels=True (--pixels) the file normalizes images itself."
            )
    shape = model.inputs[0].shape
    is_image = shape.rank == 4 and shape[-1] in (1, 3)
    channels = int(shape[-1]) if is_image else None
    return Described(model.name, channels, mean, std, labels)


def _feed(
    io: IoSpec,
    runner: _converter.Runner | None,
    preprocessing: Preprocessing | None,
    pixels: bool,
) -> str | None:
    """Returns a sentence about what an app has to feed; None for several inputs."""
    if len(io.inputs) > 1:
        return None
    (spec,) = io.inputs
    kind, steps = spec.dtype.name, ""
    if runner is None:
        kind = "uint8" if pixels else kind
    else:
        tensor = runner.input_tensors[0]
        kind = tensor.dtype
        if tensor.scale is not None and not (pixels and kind == "uint8"):
            steps = f", then divided by {tensor.scale:.6g}, rounded and shifted by "
            steps += f"{tensor.zero_point}"
    what = "what the model takes"
    if pixels:
        what = "pixels from 0 to 255, as they are"
    elif preprocessing is not None:
        mean, std = (
            ", ".join(f"{x:.4g}" for x in numbers)
            for numbers in (preprocessing.mean, preprocessing.std)
        )
        what = f"(pixels / 255 - mean) / std, of mean {mean} and std {std}"
    return f"{kind} {'x'.join(map(str, spec.shape))}: {what}{steps}."


def _proof(
    source: str,
    numbers: dict[str, Any],
    outputs: Sequence[np.ndarray],
    classes: np.ndarray | None,
) -> list[str]:
    """Returns lines about the comparison with Keras: examples and agreement."""
    count, same = numbers["examples"], numbers["top1_agreement"]
    lines = [f"Verified against Keras on {count} examples: {source}."]
    lines.append(f"Same class as Keras on {same:.1%} of them.")
    scores = outputs[0]
    if classes is not None and scores.ndim == 2 and len(outputs) == 1 < scores.shape[1]:
        right = np.mean(scores.argmax(axis=-1) == classes)
        lines[-1] += f" Accuracy of Keras on them: {right:.1%}."
    return lines


def _check_file(
    audit: Audit, expected: Sequence[str], int8: bool, runtime: str
) -> None:
    """Rejects operations that no runtime has, and unexpected float operations."""
    for row in audit.operations:
        if not hasattr(BuiltinOperator, row["op"]) and not row["op"].startswith("Lce"):
            raise ConversionError(
                _converter.why_lacking(row["op"], row["layer"], row["output_type"])
            )
    if runtime == "litert" and int8 and audit.float_ops:
        names = [name for op in audit.float_ops for name in op["layers"]]
        layers = ", ".join(map(repr, list(dict.fromkeys(names))[:4]))
        kinds = ", ".join(op["op"] for op in audit.float_ops)
        many = "1 operation" if len(names) == 1 else f"{len(names)} operations"
        raise ConversionError(
            f"{many} would stay float ({kinds}), of {layers}: int8 has no form of "
            "them, or nothing says their ranges, as inside a layer of your own. Build "
            "that of Keras' layers, with a FakeQuantization after each; make inputs "
            "of whole numbers float32 (int8 in the file); replace quantizers of other "
            "values than -1 and +1 with 'ste_sign'; or convert without int8."
        )
    if runtime == "lce":
        rows = (row for row in audit.operations if row["op"] == "LceBconv2d")
        check_count([row["layer"] for row in rows], expected, audit.in_float)


@dataclass(frozen=True, kw_only=True)
class ConversionReport(Findings):
    """The contents of a converted file, and how it compares with the given model.

    Attributes:
        path, size_bytes, lce_bconv2d, float_ops, int8_ops, flash_bytes, arena_bytes,
        unpacked_bytes, resolver: As in `Audit`.
        runtime: Its runtime: `"lce"`, `"litert"`, `"micro"` or `"c"`.
        binary_layers: The number of binary layers in the model, counted per use and
            group, without those in `merged`. Equals `lce_bconv2d` for LCE.
        binary_macs, float_macs, int8_macs: Multiply-accumulates of binary, float and
            int8 convolutions and fully connected layers, for one example.
        not_prepared: Why the layers of the model cannot be read one by one, but only
            its operations; None if they can.
        verify: The optimized model compared with the file; None without verification.
            `segments` is the proof: the number of segments `compared`, the number of
            `signs` in all examples, the fraction of these `within_rounding` of 0, and
            in `worst` the `layer` or output with the largest `difference`, relative to
            its channel (for int8, in quantization steps). End to end, for information:
            `examples`, `exact_share` (fraction equal within tolerance), `explained`
            (how many differ due to rounding), `unexplained` (always 0), `worst_abs`,
            `worst_rel`, `top1_agreement`, and `ties`, the signs that rounding decides.
            `data` describes the examples. `prepared` has the same keys for the given
            model compared with the optimized one, and `reference` names the form of the
            given model in that comparison.
        in_float: Layers of one or a few bits that are float in the file, as allowed:
            `layer, kind` (its class), `finding, remedy, macs, bytes` (of its kernels).
            For LiteRT, only layers of one bit that are no convolutions of ±1.
        merged: Binary layers that compute the same as others from the same tensors; the
            file contains them once.
        feed: What an app has to feed: type and shape of the input, and how an image is
            prepared; None for several inputs.
        warnings: Comparisons in which rounding decides many signs, with the layers and
            the remedy, and a file for Micro or in C that fits none of the usual boards.
            Also logged.
    """

    binary_layers: int
    verify: dict[str, Any] | None
    merged: list[str] = field(default_factory=list)
    not_prepared: str | None = None
    feed: str | None = None
    warnings: list[str] = field(default_factory=list)

    def table(self) -> Table:
        """Returns the report as a `rich` table."""
        table = super().table()
        if self.not_prepared is not None:
            table.add_row("layers", self.not_prepared)
        if self.merged:
            table.add_row("merged", ", ".join(self.merged))
        if self.verify is not None:
            given = self.verify["prepared"]
            if given["reference"] != REFERENCE:
                table.add_row("given", given["reference"])
            table.add_row("given = optimized", _verdict(given))
            table.add_row("optimized = file", _verdict(self.verify))
            table.add_row("verified on", self.verify["data"])
        for warning in self.warnings:
            table.add_row("warning", warning)
        return table

    def summary(self) -> str:
        """Returns the outcome in one line."""
        binary, in_float = self.binary_layers, len(self.in_float)
        layers = f"{binary} of {binary + in_float} binary layers binary"
        if self.runtime == "litert":
            layers = f"{self._ordinary()} ordinary convolutions of ±1"
        if self.runtime == "micro":
            layers = f"{self._ordinary()} of one bit a weight"
        if self._binary() == "none":
            layers = "no binary layers"
        if self.verify is None:
            return layers + ", not verified" * (self.runtime == "c")
        examples, data = self.verify["examples"], self.verify["data"]
        same = round(examples * self.verify["top1_agreement"])
        agreement = f"same class on {same} of {examples} examples"
        if self.int8_ops:
            agreement += " as the model with rounded kernels"
        return f"verified on {data}: {agreement}; {layers}"

    def _ordinary(self) -> str:
        """Returns how many binary layers of a file for LiteRT are of ±1, as text."""
        binary, in_float = self.binary_layers, len(self.in_float)
        share = f"{binary} of {binary + in_float}" if in_float else f"all {binary}"
        return f"{share} binary layers are"

    def _binary(self) -> str:
        if not self.binary_layers and not self.in_float:
            return "none"
        if self.runtime == "litert":
            return f"none of one bit: {self._ordinary()} ordinary convolutions of ±1"
        if self.runtime == "micro":
            return f"{self._ordinary()} of one bit a weight, in int8 arithmetic"
        return f"{self.lce_bconv2d} of {self.binary_layers}"


def _verdict(part: dict[str, Any]) -> str:
    ends = f"top-1 agreement {part['top1_agreement']:.1%}"
    if "int8" in part:
        maps, steps = (part["int8"][name] for name in ("maps", "worst_steps"))
        return f"{ends}; {maps} maps, each within {steps:.2g} quantization steps"
    return (
        f"{part['exact_share']:.1%} of {part['examples']} equal within tolerance, "
        f"{part['explained']} differ due to rounding, {part['unexplained']} "
        f"unexplained, {ends}, {part['segments']['compared']} segments, "
        f"largest difference {part['worst_abs']:.2g}"
    )
