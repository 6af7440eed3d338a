"""Exact rewrites of graphs, one rule a file, each with its proof.

What is done with them is a list of rules in order: `surgery.fold` is one.
"""
