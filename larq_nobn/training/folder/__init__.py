"""The folder of a training run: locked, written, and opened again."""
