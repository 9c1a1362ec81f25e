"""Files of annotated text become texts with mentions; one module per format.

What is wrong in a file comes back as faults. What to do about them is left to ``importer``.
"""
