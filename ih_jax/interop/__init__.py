"""Networks of other people: authors' runs, TransformerLens, pretrained models."""
