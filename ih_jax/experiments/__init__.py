"""Experiments: a folder a paper, a file a figure."""
