"""Number formats, and what this machine computes fast in."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import tensorflow as tf

_log = logging.getLogger("larq_nobn")
# Each of these extensions of x86-64 computes in 16 bits or converts to them.
_EXTENSIONS = {
    "mixed_bfloat16": {"avx512_bf16", "amx_bf16", "avx_ne_convert"},
    "mixed_float16": {"avx512_fp16", "amx_fp16", "avx_ne_convert"},
}
_PROCESSOR = Path("/proc/cpuinfo")
# GPUs compute in bfloat16 from this compute capability on.
_CAPABILITY = (8, 0)


def best_precision(processor: Path = _PROCESSOR) -> str:
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
        flags = _processor_flags(processor) or frozenset()
        native = not flags.isdisjoint({"avx512_bf16", "amx_bf16"})
    return "mixed_bfloat16" if native else "float32"


def warn_of_imitation(precision: str, processor: Path = _PROCESSOR) -> None:
    """Says where 16 bits take more time than 32, as far as Linux tells."""
    if precision not in _EXTENSIONS or tf.config.list_physical_devices("GPU"):
        return
    found = _processor_flags(processor)
    if found is not None and found.isdisjoint(_EXTENSIONS[precision]):
        _log.warning(
            "precision=%r is imitated by this processor, which has no instructions "
            "for it, and takes longer than 32 bits. Use 'float32', or a GPU.",
            precision,
        )


def _processor_flags(processor: Path) -> frozenset[str] | None:
    """The extensions of an x86-64 processor; None where Linux does not tell them."""
    try:
        found = re.search(r"^flags\s*:(.*)$", processor.read_text(), re.MULTILINE)
    except OSError:
        return None
    return frozenset(found[1].split()) if found else None
