"""Clamps: what people write, and the arrays by which it acts on a forward pass."""
