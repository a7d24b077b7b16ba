"""Measures: pure functions of one network's weights."""
