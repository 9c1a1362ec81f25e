"""One scheduled turn: fetch, gate, annotate what is new, make stale rows anew, compact.

The parts are other wings' work. What is here is their order, and the lock that keeps turns apart.
"""
