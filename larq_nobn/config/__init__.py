"""The settings of a training, each defined once: default, range, help and group.

Each setting is a field of `Recipe` or `Settings`. Command-line options, checks,
`run.json`, docstrings and the table in the docs are made from these fields. This
package does not need TensorFlow.
"""
