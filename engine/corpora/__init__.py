"""Annotated corpora to examples, for tuning and for scoring.

``formats`` reads the files; here the texts are checked, split, and written with where they came
from. What is learned from the examples is left to ``training``, what they say of an annotator to
``scoring``.
"""
