"""Examples to a tuned checkpoint: stages on Ray Train, and the loop that each of them runs.

``loop`` knows nothing of Ray, so that a script can call it as well.
"""
