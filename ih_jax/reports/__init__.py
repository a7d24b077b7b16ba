"""Running experiments, and writing their results as folders for people to read."""
