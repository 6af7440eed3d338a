"""Networks trained with the published PyTorch code of a paper, opened here."""

from ._ab import load_ab
from ._bnn_nobn import load_bnn_nobn
from ._recu import load_recu

__all__ = ["load_ab", "load_bnn_nobn", "load_recu"]
