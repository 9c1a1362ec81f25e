"""The steps joined into one stream, and driven: planned citations come in, commits leave.

``pipeline`` is the only module that knows all steps. Deciding what to annotate is left to
``planning``, the transactions to ``tables``.
"""
