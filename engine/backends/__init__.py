"""Backends: what runs a checkpoint.

Enters: a name. Leaves: a class that follows :class:`engine.backends.base.Backend`. Left to others:
starting it in an actor (engine/steps/generate.py).
"""

import importlib
from collections.abc import Mapping
from typing import Any

from engine.backends.base import Backend
from schemas.errors import UsageError

BACKENDS = {
    "vllm": "engine.backends.vllm:VllmBackend",
    "transformers": "engine.backends.transformers:TransformersBackend",
}


def backend_class(name: str) -> type[Backend]:
    """The backend of a name in :data:`BACKENDS`, or of an import path ``package.module:Class``.

    Raises:
        UsageError: if there is no such backend (the message names the known ones).
    """
    path = BACKENDS.get(name, name)
    module, _, attribute = path.partition(":")
    if not attribute:
        raise UsageError(
            f"unknown backend {name}; valid: {', '.join(BACKENDS)}, or package.module:Class"
        )
    try:
        backend: type[Backend] = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as e:
        raise UsageError(f"backend {name} cannot be loaded: {e}") from e
    return backend


def check_arguments(backend: str, engine_args: Mapping[str, Any]) -> None:
    """Refuse ``engine_args`` that a backend does not have, before one is started.

    Raises:
        UsageError: naming them.
    """
    if not engine_args:
        return
    if backend == "transformers":
        raise UsageError(f"backend transformers takes no engine_args: {', '.join(engine_args)}")
    if backend == "vllm":
        from engine.backends.vllm import check_names

        check_names(engine_args)
