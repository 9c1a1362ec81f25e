"""One citation's way through the model: sentences, prompts, completions, mentions, finished rows.

Each step takes an Arrow batch and gives one. Joining the steps is left to ``runs``.
"""
