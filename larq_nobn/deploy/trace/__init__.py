"""The operations of a model, and what runs them as one graph."""
