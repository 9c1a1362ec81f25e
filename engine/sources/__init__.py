"""From files to citations: text is laid out here, once.

``shards`` finds and orders the files, one reader per format turns a file into records, and
``scan`` / ``read`` turn records into Arrow for the rest of the engine.
"""
