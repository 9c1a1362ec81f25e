"""How good an annotator is: gold texts and predictions become scores, and two are compared.

Texts go through the same pipeline as citations do. Nothing is stored.
"""
