"""The layer graph of a functional model: read, copied, and built again."""
