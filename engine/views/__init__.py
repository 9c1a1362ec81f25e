"""The tables for those who read them: SQL views, exports, the history of runs.

Nothing is changed here.
"""
