"""Examples and texts to the batches of token sequences that a step learns from."""
