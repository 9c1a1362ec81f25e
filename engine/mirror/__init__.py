"""Copying NLM's files: the index, the client, the place they go to, and the run that joins them."""
