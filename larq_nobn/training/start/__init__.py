"""Starting from another network: its architecture, its weights, and what was taken."""

from ._beginning import Beginning
from ._head import ends_in_softmax, head_name, with_head
from ._source import opened, settled
from ._stages import carry
from ._transfer import Transfer, transfer

__all__ = [
    "Beginning",
    "Transfer",
    "carry",
    "ends_in_softmax",
    "head_name",
    "opened",
    "settled",
    "transfer",
    "with_head",
]
