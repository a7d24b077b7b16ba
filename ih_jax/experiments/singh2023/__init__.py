"""Singh et al. 2023: in-context learning that emerges, and does not stay."""
