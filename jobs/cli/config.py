"""``pubmark config``: a command's config as commented YAML."""

from typing import TYPE_CHECKING

from jobs.cli.commands import ROOT, find_command
from jobs.cli.layout import Layout
from jobs.cli.session import Output

if TYPE_CHECKING:
    from schemas.configs.load import ShowKeysConfig


@ROOT.command(
    "schemas.configs.load:ShowKeysConfig",
    Layout(arguments={"job": "COMMAND"}),
    prints_json=False,
)
def config(settings: "ShowKeysConfig", output: Output) -> None:
    """Print a command's config as YAML: every key with its meaning and its default.

    Filled in, it is what --config takes.

    Examples:

        pubmark config annotate > annotate.yaml

        pubmark config corpus import
    """
    from schemas.configs.render import render

    command = " ".join(settings.job)
    output.result(None, render(find_command(settings.job).model(), command).rstrip())
