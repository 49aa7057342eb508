"""A trained KAN head, edge by edge: learned functions, pruning, formulas, finer grids; see docs/kan-edges.md."""
