"""The settings of a training, each said once: default, range, help and group.

A field of `Recipe` or `Settings` is all that a setting is; the options of the command
line, the checks, `run.json`, the docstrings and the table in the docs follow from it.
Nothing here needs TensorFlow.
"""
