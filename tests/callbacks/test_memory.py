"""Peak memory against other counters of the system, and where these are missing."""

import os
import resource
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from callback_networks import compiled, fit
from larq_nobn.callbacks import MemoryMonitor
from larq_nobn.callbacks._memory import peak_resident

MIB = 2**20


def resident_now():
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def test_the_peak_stays_when_memory_is_given_back():
    size = peak_resident() - resident_now() + 100 * MIB  # higher than ever before
    held = np.ones(size, np.uint8)
    highest = resident_now()
    del held
    assert resident_now() < highest - 50 * MIB
    # Of the whole life of the process, with that of its parent.
    limit = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    assert 0.99 * highest < peak_resident() < 1.01 * limit


def test_logs_are_in_mib():
    (logged,) = fit(compiled(), MemoryMonitor(), epochs=1)["peak_memory_mib"]
    assert logged == pytest.approx(peak_resident() / MIB, rel=0.01)


@pytest.mark.parametrize("platform, unit", [("linux", 1024), ("darwin", 1)])
def test_without_the_file_of_linux(platform, unit, monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "platform", platform)
    usage = SimpleNamespace(ru_maxrss=7_000_000)
    monkeypatch.setattr(resource, "getrusage", {resource.RUSAGE_SELF: usage}.get)
    assert peak_resident(tmp_path / "status") == 7_000_000 * unit
    (tmp_path / "status").write_text("VmPeak:\t  10 kB\nVmRSS:\t  10 kB\n")
    assert peak_resident(tmp_path / "status") == 7_000_000 * unit
    (tmp_path / "status").write_text("VmPeak:\t  10 kB\nVmHWM:\t   3 kB\n")
    assert peak_resident(tmp_path / "status") == 3 * 1024


def test_the_fullest_gpu(monkeypatch):
    peaks = {"GPU:0": 5 * MIB, "GPU:1": 1_000_000_000}
    monkeypatch.setattr(tf.config, "list_physical_devices", {"GPU": [*peaks]}.get)
    monkeypatch.setattr(
        tf.config.experimental,
        "get_memory_info",
        {name: {"current": 1, "peak": peak} for name, peak in peaks.items()}.get,
    )
    assert MemoryMonitor().measure()["peak_gpu_memory_mib"] == 1_000_000_000 / MIB
