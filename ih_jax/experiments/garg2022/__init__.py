"""Garg et al. 2022 and Raventos et al. 2023: linear regression in context."""
