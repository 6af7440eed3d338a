"""What is inside a `.tflite` file, and what could be saved."""

from ._audit import Audit, Difference, Findings, audit, audit_graphs, diff

__all__ = ["Audit", "Difference", "Findings", "audit", "audit_graphs", "diff"]
