"""What a person or a scheduler runs. Imports engine and schemas; no job imports another."""
