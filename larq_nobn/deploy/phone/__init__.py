"""What an app has to know of a file, and how fast the file is."""

from ._benchmark import Benchmark, Timing, benchmark
from ._metadata import (
    Card,
    Preprocessing,
    check_metadata,
    read_card,
    replacing_metadata,
)
from ._phone import phone_commands, read_phone_logs

__all__ = [
    "Benchmark",
    "Card",
    "Preprocessing",
    "Timing",
    "benchmark",
    "check_metadata",
    "phone_commands",
    "read_card",
    "read_phone_logs",
    "replacing_metadata",
]
