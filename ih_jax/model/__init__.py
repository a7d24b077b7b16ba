"""The transformer, plain: shapes, weights, sites and the forward pass."""
