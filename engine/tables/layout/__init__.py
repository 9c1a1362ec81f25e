"""How rows lie in Parquet files; no other module writes or rewrites the files of ``annotations``.

The transaction that makes a file part of the table is left to ``tables``.
"""
