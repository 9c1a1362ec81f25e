"""From files to citations: text is laid out here, once.

``shards`` finds and orders the files, ``nlm`` knows NLM's names, one reader per format turns a file
into records (``skim`` shortens PubMed XML before), and ``read`` turns records into Arrow for the
rest of the engine.
"""
