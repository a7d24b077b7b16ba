"""Experiments run, and their results as folders that a person reads."""
