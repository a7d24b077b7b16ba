"""Singh et al. 2025: why in-context learning comes, and why it goes again."""
