"""What an app has to know of a file, and how fast the file is."""

from ._benchmark import (
    Benchmark,
    Timing,
    benchmark,
    benchmark_on_phone,
    phone_commands,
    read_phone_logs,
)
from ._dataset import VERIFIED_IMAGES, dataset_name, preprocessing_of
from ._metadata import (
    Card,
    Preprocessing,
    check_metadata,
    read_card,
    remove_metadata,
    write_metadata,
)

__all__ = [
    "VERIFIED_IMAGES",
    "Benchmark",
    "Card",
    "Preprocessing",
    "Timing",
    "benchmark",
    "benchmark_on_phone",
    "check_metadata",
    "dataset_name",
    "phone_commands",
    "preprocessing_of",
    "read_card",
    "read_phone_logs",
    "remove_metadata",
    "write_metadata",
]
