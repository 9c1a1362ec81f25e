"""The Delta tables under one root: made, read, changed in conditional transactions, maintained.

What is to be written is decided in ``planning`` and driven by ``runs``.
"""
