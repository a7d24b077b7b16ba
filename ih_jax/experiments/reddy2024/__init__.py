"""Reddy 2024: in-context or in-weights, as the data decide, and why abruptly."""
