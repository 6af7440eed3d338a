"""Training runs side by side: grids, tables, curves."""
