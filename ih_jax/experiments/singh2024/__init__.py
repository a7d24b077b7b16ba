"""Singh et al. 2024, What needs to go right for an induction head?"""
