"""A config as commented YAML, with every key, its meaning and its default."""

import textwrap
from collections.abc import Iterator
from typing import Any, get_args

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from schemas.configs.load import own_first
from schemas.configs.options import Engines

_WIDTH = 100


def render(model: type[BaseModel], command: str) -> str:
    """The YAML of ``pubmark COMMAND --config FILE``: all keys, the command's own ones first.

    Required keys have no value yet. A part that is not there by default is commented out below its
    key, which is null. Loaded after its required keys were filled in, it gives the defaults.
    """
    head = [f"# pubmark {command} --config FILE", "#", "# Keys without a value are required."]
    return "\n".join([*head, *_keys(model, None), ""])


def default_of(field: FieldInfo) -> Any:
    """A field's default as YAML has it: engines as N or MIN:MAX."""
    value = field.get_default(call_default_factory=True)
    if isinstance(value, Engines):
        return int(str(value)) if value.min == value.max else str(value)
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    return value


def part_of(field: FieldInfo) -> type[BaseModel] | None:
    """The model of a field that is a part with keys of its own; None for a plain value."""
    for kind in (field.annotation, *get_args(field.annotation)):
        if isinstance(kind, type) and issubclass(kind, BaseModel) and kind is not Engines:
            return kind
    return None


def _keys(model: type[BaseModel], values: BaseModel | None) -> Iterator[str]:
    """The lines of a model's keys; ``values``, if there, win over the fields' defaults."""
    for name in own_first(model):
        field = model.model_fields[name]
        yield ""
        yield from textwrap.wrap(
            field.description or "", _WIDTH, initial_indent="# ", subsequent_indent="# "
        )
        part = part_of(field)
        many = part is not None and field.annotation not in (part, part | None)
        value = getattr(values, name) if values is not None else None
        if part is None or many:
            yield from _line(name, field, values)
            if part is not None:  # a list or mapping of parts: one of them, as an example
                yield from _commented(_example(part, field))
        elif field.is_required() or isinstance(value or field.default, BaseModel):
            yield f"{name}:"
            inner = value or (None if field.is_required() else field.default)
            yield from _indented(_keys(part, inner))
        else:
            yield f"{name}: null"
            yield from _commented([f"{name}:", *_indented(_keys(part, None))])


def _line(name: str, field: FieldInfo, values: BaseModel | None) -> Iterator[str]:
    if values is None and field.is_required():
        yield f"{name}:"
        return
    value = getattr(values, name) if values is not None else default_of(field)
    if isinstance(value, tuple):
        value = list(value)
    written = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10_000)
    yield f"{name}: {written.removesuffix('...' + chr(10)).rstrip()}"


def _example(part: type[BaseModel], field: FieldInfo) -> Iterator[str]:
    lines = list(_indented(_keys(part, None)))
    if getattr(field.annotation, "__origin__", None) is list:
        first = next(i for i, text in enumerate(lines) if text.strip() and "#" not in text)
        lines[first] = "- " + lines[first].lstrip()
    else:
        lines = ["  NAME:", *_indented(lines)]
    return iter(lines)


def _indented(lines: Iterator[str] | list[str]) -> Iterator[str]:
    return (f"  {line}" if line else "" for line in lines)


def _commented(lines: Iterator[str] | list[str]) -> Iterator[str]:
    return (f"# {line}".rstrip() for line in lines)
