"""Examples and texts to steps of token sequences, the same on every worker and in every run."""
