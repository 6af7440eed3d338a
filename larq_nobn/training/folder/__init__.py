"""The folder of a training run: locked, written, and opened again."""

from ._opening import test_metrics
from ._run_folder import position_kept

__all__ = ["position_kept", "test_metrics"]
