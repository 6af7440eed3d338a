"""Traces a model: its inference function as one graph of operations that runs."""
