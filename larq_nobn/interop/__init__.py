"""Opens networks that were trained with the published PyTorch code of "BNN - BN"."""

from ._bnn_nobn import load_bnn_nobn

__all__ = ["load_bnn_nobn"]
