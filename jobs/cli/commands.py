"""The commands by name, each made only when it is called.

Making a command's options imports its config, and with it pydantic. ``--help`` must be quick and
needs neither: it lists the commands with their docstrings.
"""

import importlib
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from jobs.cli.layout import OUTPUT, Layout
from jobs.cli.session import Output, session
from schemas.credentials import redact
from schemas.errors import UsageError

if TYPE_CHECKING:
    from pydantic import BaseModel


@dataclass(frozen=True)
class Part:
    """A list in a config, of which one entry can be given by options.

    ``key`` is the list's key in the config, ``model`` the class of its entries as
    ``module:Class``. ``fill`` makes the entry from the options given for its fields and from the
    command's own parameters; it returns None if no entry was given.
    """

    key: str
    model: str
    layout: Layout
    fill: Callable[..., dict[str, Any] | None]


@dataclass(frozen=True)
class Command:
    """A command: the function that it runs, and the config (``module:Class``) that this takes."""

    name: str
    function: Callable[..., None]
    config: str
    layout: Layout
    part: Part | None = None
    prints_json: bool = True

    @property
    def doc(self) -> str:
        """What it does, for ``--help``."""
        return inspect.cleandoc(self.function.__doc__ or "")

    def model(self) -> "type[BaseModel]":
        """The class of its config."""
        return load_model(self.config)


@dataclass
class Group:
    """Commands by name, in the order of ``--help``."""

    doc: str
    members: "dict[str, Command | Group]" = field(default_factory=dict)

    def command(
        self,
        config: str,
        layout: Layout,
        *,
        name: str | None = None,
        part: Part | None = None,
        prints_json: bool = True,
    ) -> Callable[[Callable[..., None]], Callable[..., None]]:
        """Register a function as a command of this group.

        The function is called with the config, an :class:`Output`, and its own keyword parameters:
        those are options (``Annotated[…, typer.Option(…)]``) beside the config's. ``config`` is
        the config's class as ``module:Class``.
        """

        def register(function: Callable[..., None]) -> Callable[..., None]:
            command_name = name or function.__name__
            self.members[command_name] = Command(
                command_name, function, config, layout, part, prints_json
            )
            return function

        return register

    def group(self, name: str, doc: str) -> "Group":
        """Register a group of commands within this one."""
        made = Group(doc)
        self.members[name] = made
        return made


ROOT = Group("Annotate PubMed with biomedical entities, using a language model tuned to mark them.")


class LazyGroup(TyperGroup):
    """A group whose commands are made when they are called, and only named for ``--help``."""

    source = ROOT

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        """With faults in the command line that hold no credentials."""
        with _without_credentials():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: Any) -> Any:
        """Likewise, of the command that is called."""
        with _without_credentials():
            return super().invoke(ctx)

    def list_commands(self, ctx: Any) -> list[str]:
        """Their names, in the order of ``--help``."""
        return list(self.source.members)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """A command by name, with its documentation alone."""
        member = self.source.members.get(cmd_name)
        return member and TyperCommand(cmd_name, help=member.doc, rich_markup_mode="rich")

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command that is called, whole."""
        name, stub, rest = super().resolve_command(ctx, args)
        if name is None or stub is None:
            return name, stub, rest
        return name, make(name, self.source.members[name]), rest


@contextmanager
def _without_credentials() -> Iterator[None]:
    """Faults in the command line, which quote what was given, are raised without credentials."""
    try:
        yield
    except Exception as e:
        if isinstance(message := getattr(e, "message", None), str):
            e.message = redact(message)  # type: ignore[attr-defined]
        raise


def load_model(path: str) -> "type[BaseModel]":
    """The class that ``module:Class`` names."""
    module, _, name = path.partition(":")
    model: type[BaseModel] = getattr(importlib.import_module(module), name)
    return model


def make(name: str, member: Command | Group) -> Any:
    """A command or group as typer runs it."""
    shared: dict[str, Any] = {"pretty_exceptions_enable": False, "rich_markup_mode": "rich",
                              "add_completion": False}  # fmt: skip
    if isinstance(member, Group):
        kind = type("LazyGroup", (LazyGroup,), {"source": member})
        app = typer.Typer(cls=kind, name=name, help=member.doc, no_args_is_help=True, **shared)
        app.callback()(_nothing)
    else:
        app = typer.Typer(**shared)
        app.command(name, help=member.doc)(_callback(member))
    return typer.main.get_command(app)


def _nothing() -> None:
    """A group does nothing by itself."""


def _callback(command: Command) -> Callable[..., None]:
    """The function that typer calls, with a signature made of the command's config."""
    from jobs.cli.options import assignments, configure, given, parameters

    model = command.model()
    own = list(inspect.signature(command.function).parameters.values())[2:]
    part = command.part
    part_model = load_model(part.model) if part else None

    def call(**values: Any) -> None:
        with session(values["verbose"]):
            extra = {p.name: values[p.name] for p in own}
            overrides = given(values, model)
            if part and part_model:
                entry = part.fill(given(values, part_model), **extra)
                overrides |= {part.key: [entry]} if entry else {}
            overrides |= assignments(values["assigned"] or [])
            settings = configure(model, command.layout, values["config_file"], overrides)
            output = Output(values.get("as_json", False), values["verbose"])
            command.function(settings, output, **({} if part else extra))

    options = parameters(model, command.layout)
    options += parameters(part_model, part.layout) if part and part_model else []
    options += [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own]
    options += _shared(command.prints_json)
    call.__signature__ = inspect.Signature(options)  # type: ignore[attr-defined]
    call.__annotations__ = {p.name: p.annotation for p in options}
    return call


def _shared(prints_json: bool) -> list[inspect.Parameter]:
    """The parameters that every command has beside its config's fields."""
    options: dict[str, Any] = {
        "config_file": Annotated[
            str | None,
            typer.Option(
                "--config",
                metavar="FILE",
                help="A YAML file with any of these keys; options win over it.",
                rich_help_panel=OUTPUT,
            ),
        ],
        "assigned": Annotated[
            list[str] | None,
            typer.Option(
                "--set",
                metavar="KEY=VALUE",
                help="Set any key of the config, with dots for nested ones; VALUE is YAML.",
                rich_help_panel=OUTPUT,
            ),
        ],
        "verbose": Annotated[
            bool,
            typer.Option(
                "--verbose", "-v", help="Show Ray's and vLLM's logs too.", rich_help_panel=OUTPUT
            ),
        ],
    }
    if prints_json:
        options["as_json"] = Annotated[
            bool, typer.Option("--json", help="Print one JSON object.", rich_help_panel=OUTPUT)
        ]
    defaults = {"verbose": False, "as_json": False}
    return [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=defaults.get(name),
            annotation=annotation,
        )
        for name, annotation in options.items()
    ]


def every_command(group: Group = ROOT, prefix: str = "") -> dict[str, Command]:
    """All commands by their full names, such as ``corpus import``."""
    commands: dict[str, Command] = {}
    for name, member in group.members.items():
        if isinstance(member, Group):
            commands |= every_command(member, f"{prefix}{name} ")
        else:
            commands[prefix + name] = member
    return commands


def find_command(names: list[str]) -> Command:
    """The command of a full name.

    Raises:
        UsageError: listing the names that there are.
    """
    known = every_command()
    if (name := " ".join(names)) not in known:
        raise UsageError(f"unknown command {name}; valid: {', '.join(known)}")
    return known[name]
