"""Languages: recipes of synthetic ones, and texts as tokens."""
