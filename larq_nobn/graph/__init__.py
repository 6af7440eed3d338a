"""Reads the layer graph of a functional model, edits it, and builds a model again."""
