"""From NLM's server to files: its index, a patient client, the target, and the run that joins them.

``copying`` is that run; each other module knows one part of the work and none of the rest.
"""
