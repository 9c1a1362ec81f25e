"""How good an annotator is: predictions are scored against gold, and two annotators are compared.

Texts go through the same pipeline as citations do. Nothing is stored.
"""
