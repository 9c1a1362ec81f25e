"""The ``pubmark`` command: one subcommand per job, no logic.

The options of a command are made from its job's config (``schemas/configs/``): each takes its name,
type, help and default from the field that it sets. What is here: in which group of ``--help`` a
field is shown, the few options that are not named like their field, and how a result is printed.
"""

from jobs.cli.root import app, main

__all__ = ["app", "main"]
