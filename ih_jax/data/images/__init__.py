"""Exemplars as features: drawn glyphs, drawings and their encoders, feature files."""
