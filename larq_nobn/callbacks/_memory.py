from __future__ import annotations

import re
import sys
from contextlib import suppress
from pathlib import Path

import tensorflow as tf

from ._monitor import EpochMonitor


def peak_resident(status: Path = Path("/proc/self/status")) -> int | None:
    """Returns the peak memory of this process in bytes; None on Windows.

    On Linux it is read from `status`, since there `getrusage` starts at the memory of
    the parent process.
    """
    with suppress(OSError):  # no such file outside Linux
        if match := re.search(r"(?m)^VmHWM:\s*(\d+) kB$", status.read_text()):
            return int(match[1]) * 1024
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


class MemoryMonitor(EpochMonitor):
    r"""Logs the peak memory of the training.

    With the resident memory \(m(t)\) of the process, in MiB of \(2^{20}\) bytes, an
    epoch that ends at time \(T\) has

    \[ \text{peak} = \max_{t \le T} m(t). \]

    The peak includes everything since the process started: Python, TensorFlow, the data
    in memory and earlier trainings. Compare runs only if each has a process of its own.
    If the peak still grows after the second epoch, every epoch leaves something in
    memory.

    Arguments:
        log_dir: Folder for TensorBoard; None writes to the logs only.

    Logs:
        peak_memory_mib: Peak of the process; absent on Windows.
        peak_gpu_memory_mib: Peak of the tensors on the fullest GPU, without unused
            memory that TensorFlow has reserved; absent without a GPU.

    Raises:
        TypeError: If `log_dir` is not a path.

    Example:
        ```python
        import larq_nobn as nobn
        import numpy as np
        import tensorflow as tf

        model = tf.keras.Sequential(
            [tf.keras.Input((8,)), tf.keras.layers.Dense(4)]
        )
        model.compile("sgd", "mse")
        history = model.fit(
            np.ones((16, 8)), np.ones((16, 4)), epochs=3, verbose=0,
            callbacks=[nobn.callbacks.MemoryMonitor()],
        )
        print(history.history["peak_memory_mib"])
        ```
    """

    def measure(self) -> dict[str, float]:
        info = tf.config.experimental.get_memory_info
        gpus = range(len(tf.config.list_physical_devices("GPU")))
        gpu = max((info(f"GPU:{index}")["peak"] for index in gpus), default=None)
        peaks = {"peak_memory_mib": peak_resident(), "peak_gpu_memory_mib": gpu}
        return {name: peak / 2**20 for name, peak in peaks.items() if peak is not None}
