"""Networks that others have trained, read from Hugging Face's files without torch."""
