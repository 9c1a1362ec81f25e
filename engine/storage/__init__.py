"""Bytes, wherever they are: file systems behind URIs, files written whole or not at all, digests.

Knows nothing of PubMed, of models or of tables.
"""
