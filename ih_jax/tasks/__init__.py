"""Tasks: which sequences a run sees and what its loss is."""
