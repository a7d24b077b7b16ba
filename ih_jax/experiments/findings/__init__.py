"""Questions of our own, each answered over many networks: hypotheses first, chance beside."""
