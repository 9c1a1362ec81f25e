"""Options made from a config: name, type, help and default come from the config's fields.

Enters: a config class, its layout in ``--help``, and the values that a person gave. Leaves: the
parameters of a command for typer, and the config. Fields that no group names are shown in the group
"More", so that every key can be set; a nested key is set by ``--set gate.limits.min_f1=0.8``.
"""

import inspect
from collections.abc import Mapping
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer
import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from jobs.cli.layout import Layout
from schemas.configs.load import load_config, own_first, parse_yaml
from schemas.configs.options import Engines
from schemas.configs.render import default_of, part_of
from schemas.errors import UsageError

MORE = "More"

BY_COMMA = ("entity_types", "retry", "status")
"""Lists that are given as ``a,b``, or as YAML if a name contains a comma: ``["a, b"]``."""


def parameters(model: type[BaseModel], layout: Layout) -> list[inspect.Parameter]:
    """A command's parameters for the fields of a config; an option that is not given is None.

    Raises:
        ValueError: if a group names a field that the config does not have.
    """
    group_of = {name: g for g, names in layout.groups.items() for name in names.split()}
    if unknown := [n for n in group_of if n not in model.model_fields]:
        raise ValueError(f"{model.__name__} has no field {', '.join(unknown)}")
    grouped = [*layout.arguments, *(n for n in group_of if n not in layout.arguments)]
    others = [n for n in own_first(model) if n not in grouped]
    return [
        _parameter(name, model.model_fields[name], layout, group_of.get(name, MORE))
        for name in (*grouped, *others)
        if _is_plain(model.model_fields[name])
    ]


def given(values: Mapping[str, Any], model: type[BaseModel]) -> dict[str, Any]:
    """The values that a command was given for the fields of a config, by field."""
    chosen = {n: v for n, v in values.items() if n in model.model_fields and v not in (None, [])}
    return {n: _parsed(n, v, model.model_fields[n]) for n, v in chosen.items()}


def _parsed(name: str, value: Any, info: FieldInfo) -> Any:
    """What an option's value stands for; a mapping is given as YAML."""
    if _is_mapping(info):
        return assignments([f"{name}={value}"])[name]
    return _split(value) if _is_list(info) and name in BY_COMMA else value


def assignments(pairs: list[str]) -> dict[str, Any]:
    """The values of ``--set KEY=VALUE``, by key. Values are YAML; keys of nested fields have dots.

    Raises:
        UsageError: if one is not KEY=VALUE, or its value is not YAML.
    """
    assigned = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise UsageError(f"--set {pair}: expected KEY=VALUE")
        try:
            assigned[key.strip()] = parse_yaml(value)
        except yaml.YAMLError as e:
            raise UsageError(f"--set {pair}: the value is no YAML: {e}") from e
    return assigned


def configure(
    model: type[BaseModel],
    layout: Layout,
    file: str | None,
    overrides: Mapping[str, Any],
) -> Any:
    """The config of a YAML file (None: no file), with ``overrides`` in place of its values.

    Raises:
        UsageError: with all faults, each by the option's name on the command line.
    """
    spelled = {
        n: layout.arguments.get(n) or _option(n, layout)
        for n, info in model.model_fields.items()
        if _is_plain(info)
    }
    return load_config(model, file, overrides, spelled)


def _parameter(name: str, info: FieldInfo, layout: Layout, group: str) -> inspect.Parameter:
    kind = _kind(name, info)
    text = (info.description or "").replace("[", "\\[")
    default = None if info.is_required() else default_of(info)
    if info.is_required():
        text += " \\[required]"
    elif isinstance(default, list):
        text += f" \\[default: {','.join(map(str, default))}]" if default else ""
    elif default is not None and default != "" and not isinstance(default, bool | dict):
        text += f" \\[default: {default}]"
    shared: dict[str, Any] = {"help": text, "rich_help_panel": group, "show_default": False}
    marker: Any
    if name in layout.arguments:
        shared.pop("rich_help_panel")  # arguments have a panel of their own
        marker = typer.Argument(metavar=layout.arguments[name], **shared)
    else:
        option = _option(name, layout)
        if kind is bool:
            option = f"{option}/--no-{option.removeprefix('--').removeprefix('store-')}"
        if (metavar := _metavar(name, info, layout)) is not None:
            shared["metavar"] = metavar
        marker = typer.Option(option, **shared)
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[kind | None, marker],
    )


def _option(name: str, layout: Layout) -> str:
    return layout.spelled.get(name, "--" + name.replace("_", "-"))


def _kind(name: str, info: FieldInfo) -> Any:
    """The type that typer is told for a field; pydantic checks the value again."""
    kind = _bare(info.annotation)
    if kind is Engines or (name in BY_COMMA and _is_list(info)):
        return str if kind is Engines else list[str]
    if get_origin(kind) is list:
        # typer takes no list of choices; pydantic checks them.
        return list[int] if get_args(kind)[0] is int else list[str]
    return kind if kind in (bool, int, float) or get_origin(kind) is Literal else str


def _metavar(name: str, info: FieldInfo, layout: Layout) -> str | None:
    """The placeholder of a field's value in ``--help``; None leaves it to typer."""
    if name in layout.metavars:
        return layout.metavars[name]
    kind = _bare(info.annotation)
    if kind is Engines:
        return "N|MIN:MAX"
    if _is_mapping(info):
        return "YAML"
    choices = get_args(kind)[0] if get_origin(kind) is list else None
    return "|".join(get_args(choices)) if get_origin(choices) is Literal else None


def _bare(annotation: Any) -> Any:
    """A field's type without ``| None``; of several others the first."""
    if get_origin(annotation) in (Union, UnionType):
        return next(k for k in get_args(annotation) if k is not type(None))
    return annotation


def _is_list(info: FieldInfo) -> bool:
    return get_origin(_bare(info.annotation)) is list


def _is_mapping(info: FieldInfo) -> bool:
    return get_origin(_bare(info.annotation)) is dict


def _is_plain(info: FieldInfo) -> bool:
    """Whether a field has an option of its own: a single value, a list of them, or a mapping."""
    return part_of(info) is None and get_origin(_bare(info.annotation)) is not tuple


def _split(values: list[str]) -> list[str]:
    names: list[str] = []
    for value in values:
        if not value.lstrip().startswith("["):
            names += [v.strip() for v in value.split(",") if v.strip()]
            continue
        try:
            names += [str(v) for v in parse_yaml(value)]
        except (yaml.YAMLError, TypeError) as e:
            raise UsageError(f"{value}: expected names by comma, or a YAML list of them") from e
    return names
