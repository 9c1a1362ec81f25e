"""Files of annotated text to texts with mentions; one module per format.

What is damaged in a file comes back as faults. What becomes of them is left to ``examples``.
"""
