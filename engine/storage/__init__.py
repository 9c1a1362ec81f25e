"""Bytes, wherever they are: file systems behind URIs, files written whole, gzip, digests, a cache.

Knows nothing of PubMed, of models or of tables.
"""
