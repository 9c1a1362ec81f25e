"""What runs a checkpoint. ``backend_class`` finds one by name."""

import importlib

from engine.backends.base import Backend
from schemas.errors import UsageError

BACKENDS = {
    "vllm": "engine.backends.vllm:VllmBackend",
    "transformers": "engine.backends.transformers:TransformersBackend",
}


def backend_class(name: str) -> type[Backend]:
    """The backend of a name in :data:`BACKENDS`, or of an import path ``package.module:Class``.

    Raises:
        UsageError: if there is none, naming those that there are.
    """
    path = BACKENDS.get(name, name)
    module, _, attribute = path.partition(":")
    if not attribute:
        raise UsageError(
            f"unknown backend {name}; valid: {', '.join(BACKENDS)}, or package.module:Class"
        )
    try:
        found: type[Backend] = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as e:
        raise UsageError(f"backend {name} cannot be loaded: {e}") from e
    return found
