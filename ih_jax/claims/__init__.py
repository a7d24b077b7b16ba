"""Claims: numbers with bounds, and what decides a sentence of a paper."""
