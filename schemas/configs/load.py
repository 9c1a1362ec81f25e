"""A job's config: a YAML file, what the command line says over it, and every fault at once."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import (
    BaseModel,
    Field,
    ValidationError,
)

from schemas.credentials import learn
from schemas.errors import UsageError
from schemas.strict import Strict

C = TypeVar("C", bound=BaseModel)


class ShowKeysConfig(Strict):
    """``pubmark config``."""

    job: list[str] = Field(min_length=1, description="The command whose keys are printed.")


class _Loader(yaml.SafeLoader):
    """Without YAML 1.1's integers in base 60, in which ``engines: 1:16`` would be 76."""


def _construct_int(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int | str:
    text = str(loader.construct_scalar(node))
    return text if ":" in text else loader.construct_yaml_int(node)


_Loader.add_constructor("tag:yaml.org,2002:int", _construct_int)


def parse_yaml(text: str) -> Any:
    """The value that a piece of YAML says, as in a config file.

    Raises:
        yaml.YAMLError: if it is none.
    """
    return yaml.load(text, _Loader)


def load_config(
    model: type[C],
    file: str | None,
    overrides: Mapping[str, Any],
    spelled: Mapping[str, str] | None = None,
) -> C:
    """A job's config from a YAML file, if one is given, and what the command line says over it.

    A key of ``overrides`` with dots reaches into nested ones (``gate.limits.min_f1``). ``spelled``
    says how keys are written on the command line, for faults in what came from there.

    Raises:
        UsageError: listing every fault at once, with the valid keys where one is unknown.
    """
    values: dict[str, Any] = {}
    if file is not None:
        try:
            loaded = parse_yaml(Path(file).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as e:
            raise UsageError(f"config {file}: {e}") from e
        if not isinstance(loaded, dict):
            raise UsageError(f"config {file}: expected a mapping of keys to values")
        values = loaded
    for key, value in overrides.items():
        _put(values, key.split("."), value)
    learn(values)  # before any of them can be quoted
    try:
        return model.model_validate(values)
    except ValidationError as e:
        where = f"config {file}" if file else "options"
        lines = []
        for fault in e.errors():
            key = ".".join(map(str, fault["loc"]))
            if (first := str(fault["loc"][0]) if fault["loc"] else "") in (spelled or {}):
                missing = fault["type"] == "missing" and first == key
                if spelled and (missing or first in overrides):
                    key = spelled[first]
            if fault["type"] == "extra_forbidden":
                valid = ", ".join(own_first(_model_at(model, fault["loc"][:-1])))
                lines.append(f"{key}: unknown key; valid: {valid}")
            elif fault["type"] == "missing":
                lines.append(f"{key}: is required, and not given")
            elif not fault["loc"]:  # of the config as a whole
                lines.append(fault["msg"].removeprefix("Value error, "))
            else:
                lines.append(f"{key}: {fault['msg']} (found {fault['input']!r})")
        raise UsageError(f"{where}:\n  " + "\n  ".join(lines)) from e


def _put(values: dict[str, Any], keys: list[str], value: Any) -> None:
    """Set a value at a path of keys, making or copying the mappings on the way."""
    for key in keys[:-1]:
        inner = values.get(key)
        values[key] = dict(inner) if isinstance(inner, dict) else {}
        values = values[key]
    values[keys[-1]] = value


def own_first(model: type[BaseModel]) -> list[str]:
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
