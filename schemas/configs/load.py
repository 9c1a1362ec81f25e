"""One pydantic model per job: what a YAML file or the command line may say."""

from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import (
    BaseModel,
    ValidationError,
)

from schemas.errors import UsageError

C = TypeVar("C", bound=BaseModel)


class _Loader(yaml.SafeLoader):
    """Without YAML 1.1's integers in base 60, in which ``engines: 1:16`` would be 76."""


def _construct_int(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int | str:
    text = str(loader.construct_scalar(node))
    return text if ":" in text else loader.construct_yaml_int(node)


_Loader.add_constructor("tag:yaml.org,2002:int", _construct_int)


def load_config(model: type[C], file: str | None, overrides: dict[str, Any]) -> C:
    """A job's config from a YAML file, if one is given, and what the command line says over it.

    Raises:
        UsageError: listing every fault at once, with the valid keys where one is unknown.
    """
    values: dict[str, Any] = {}
    if file is not None:
        try:
            loaded = yaml.load(Path(file).read_text(encoding="utf-8"), _Loader)
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as e:
            raise UsageError(f"config {file}: {e}") from e
        if not isinstance(loaded, dict):
            raise UsageError(f"config {file}: expected a mapping of keys to values")
        values = loaded
    values |= overrides
    try:
        return model.model_validate(values)
    except ValidationError as e:
        where = f"config {file}" if file else "options"
        lines = []
        for fault in e.errors():
            key = ".".join(map(str, fault["loc"]))
            if fault["type"] == "extra_forbidden":
                valid = ", ".join(_keys(_model_at(model, fault["loc"][:-1])))
                lines.append(f"{key}: unknown key; valid: {valid}")
            else:
                lines.append(f"{key}: {fault['msg']} (found {fault['input']!r})")
        raise UsageError(f"{where}:\n  " + "\n  ".join(lines)) from e


def _keys(model: type[BaseModel]) -> list[str]:
    """A model's keys, its own before those that it shares with others."""
    return sorted(model.model_fields, key=lambda name: name not in model.__annotations__)


def _model_at(model: type[BaseModel], keys: tuple[int | str, ...]) -> type[BaseModel]:
    """The model that a key of a config holds, however deep."""
    for key in keys:
        field = model.model_fields.get(str(key))
        inner = field.annotation if field else None
        for kind in (inner, *get_args(inner)):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                model = kind
    return model
