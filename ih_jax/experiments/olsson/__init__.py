"""Olsson et al. 2022, "In-context Learning and Induction Heads", on models of a laptop's size."""
