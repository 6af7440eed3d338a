"""What an app has to know of a file, and how fast the file is."""

from ._benchmark import benchmark
from ._card import Card, is_card
from ._card_file import check_card, read_card, replacing_card
from ._commands import phone_commands, read_phone_logs
from ._preprocessing import Preprocessing
from ._timing import Benchmark, Timing

__all__ = [
    "Benchmark",
    "Card",
    "Preprocessing",
    "Timing",
    "benchmark",
    "check_card",
    "is_card",
    "phone_commands",
    "read_card",
    "read_phone_logs",
    "replacing_card",
]
