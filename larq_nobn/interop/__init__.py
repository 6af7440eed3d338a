"""Opens networks that were trained with published PyTorch code."""

from ._bnn_nobn import import_checkpoint, load_bnn_nobn

__all__ = ["import_checkpoint", "load_bnn_nobn"]
