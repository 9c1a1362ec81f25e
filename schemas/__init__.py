"""What things are: citations, spans, tasks, configs, and table schemas. Imports nothing of ours."""
