"""Writes a file for TensorFlow Lite Micro as a header of C++.

    larq-nobn convert RUN model.tflite --runtime micro --calibrate 256 --pixels
    python examples/microcontroller/export.py model.tflite [network.h]

`main.cc` includes the header: the network as an array, the operations that it needs,
the memory that it took of the arena on this computer, and steps of input and output.
Boards of 32 bits need less memory, since their pointers are shorter.
"""

import sys
from pathlib import Path

import larq_nobn as nobn

path = Path(sys.argv[1])
header = Path(sys.argv[2] if len(sys.argv) > 2 else "network.h")
found, run = nobn.audit(path), nobn.deploy.Runner(path)
if found.runtime != "micro":
    sys.exit(f"{path} is not for TensorFlow Lite Micro. Convert with --runtime micro.")
(given,), (made,) = run.input_tensors, run.output_tensors
content = path.read_bytes()
numbers = [f"0x{byte:02x}" for byte in content]
rows = [",".join(numbers[i : i + 16]) for i in range(0, len(numbers), 16)]
lines = [
    f"// {path.name}, written by export.py.",
    "#pragma once",
    "#include <cstddef>",
    '#include "tensorflow/lite/micro/micro_mutable_op_resolver.h"',
    f"constexpr size_t kArenaBytes = {-(-found.arena_bytes // 1024)} * 1024;",
    f"constexpr int kInputs = {given.shape[1] * given.shape[2] * given.shape[3]};",
    f"constexpr float kInputScale = {given.scale!r}f;",
    f"constexpr int kInputZeroPoint = {given.zero_point};",
    f"constexpr int kOutputs = {made.shape[-1]};",
    f"constexpr float kOutputScale = {made.scale!r}f;",
    f"constexpr int kOutputZeroPoint = {made.zero_point};",
    f"using Resolver = tflite::MicroMutableOpResolver<{len(found.resolver)}>;",
    "inline TfLiteStatus AddOperations(Resolver& resolver) {",
    *(f"  TF_LITE_ENSURE_STATUS(resolver.{method}());" for method in found.resolver),
    "  return kTfLiteOk;",
    "}",
    "alignas(16) constexpr unsigned char kNetwork[] = {",
    *(f"  {row}," for row in rows),
    "};",
]
header.write_text("\n".join([*lines, ""]))
print(f"{header}: {len(content):,} bytes of flash, {found.arena_bytes:,} of arena")
