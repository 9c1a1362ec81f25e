"""Examples to a tuned checkpoint. ``loop`` knows nothing of Ray: a script can call it as well."""
