"""One commented YAML per job and per built-in task."""
