"""Many runs trained side by side, saved as they go, and read again."""
