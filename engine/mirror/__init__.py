"""NLM's files, copied to a place of one's own: listed, fetched with patience, checked.

``copying`` joins the parts. What the files hold is left to ``sources``.
"""
