"""What things are: citations, spans, tasks, configs and the tables' schemas. Imports nothing of ours."""
