"""Experiments: one folder per paper, one file per figure."""
