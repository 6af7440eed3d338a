"""What is inside a `.tflite` file, and what could be saved."""

from ._audit import Audit, Findings, audit, audit_graphs, diff

__all__ = ["Audit", "Findings", "audit", "audit_graphs", "diff"]
