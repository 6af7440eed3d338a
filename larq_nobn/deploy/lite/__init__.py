"""Writes TensorFlow Lite files, reads them operation by operation, and runs them."""
