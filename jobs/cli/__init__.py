"""The ``pubmark`` command: one subcommand per job, no logic.

What a command may be told stands in its job's config (``schemas/configs/``): name, type, help and
default of an option are made of the field that it fills. Here is only which fields stand in which
group of ``--help``, how a few of them are spelled, and how a result is printed.
"""

from jobs.cli.root import app, main

__all__ = ["app", "main"]
