"""Number formats, and what this machine computes fast in."""

from __future__ import annotations

import re
from pathlib import Path

import tensorflow as tf

# Each of these extensions of x86-64 computes in 16 bits or converts to them.
EXTENSIONS = {
    "mixed_bfloat16": {"avx512_bf16", "amx_bf16", "avx_ne_convert"},
    "mixed_float16": {"avx512_fp16", "amx_fp16", "avx_ne_convert"},
}
PROCESSOR = Path("/proc/cpuinfo")
# GPUs compute in bfloat16 from this compute capability on.
_CAPABILITY = (8, 0)


def processor_flags(processor: Path = PROCESSOR) -> frozenset[str] | None:
    """Returns the extensions of the processor, as far as Linux tells.

    None outside Linux, and for processors that are not of x86-64, which have no line of
    flags there.
    """
    try:
        found = re.search(r"^flags\s*:(.*)$", processor.read_text(), re.MULTILINE)
    except OSError:
        return None
    return frozenset(found[1].split()) if found else None


def best_precision(processor: Path = PROCESSOR) -> str:
    """Returns `"mixed_bfloat16"` where bfloat16 is faster, `"float32"` elsewhere.

    GPUs decide where there are some: all of them need compute capability 8.0. Without a
    GPU the processor needs AVX-512 BF16 or AMX, which multiply in bfloat16.
    """
    if gpus := tf.config.list_physical_devices("GPU"):
        details = map(tf.config.experimental.get_device_details, gpus)
        native = all(
            each.get("compute_capability", (0, 0)) >= _CAPABILITY for each in details
        )
    else:
        native = not {"avx512_bf16", "amx_bf16"}.isdisjoint(
            processor_flags(processor) or ()
        )
    return "mixed_bfloat16" if native else "float32"
