"""One scheduled turn: fetch, gate, annotate what is new, make stale rows anew, compact.

Other wings do the work. What is here is its order (``turn``), the lock that keeps turns apart, the
files that a table lacks (``fetch``, ``pending``), and whether a new annotator may take over
(``gate``).
"""
