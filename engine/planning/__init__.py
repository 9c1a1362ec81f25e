"""The keys of scanned files and of the table become a plan, before any model time is spent.

The plan says which citations need the model, which get new metadata, and which go. Nothing is
written here.
"""
