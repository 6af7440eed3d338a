"""Files of TensorFlow Lite: written, read operation by operation, and run."""
