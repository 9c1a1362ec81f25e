"""Annotated corpora to examples, for tuning and for scoring."""
