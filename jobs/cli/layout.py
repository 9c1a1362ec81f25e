"""How a config shows on the command line: which fields stand in which group of ``--help``."""

from collections.abc import Mapping
from dataclasses import dataclass, field

SOURCE, MODEL, ENGINES, WRITING, OUTPUT = "Source", "Model", "Engines", "Writing", "Output"

ENGINE_FIELDS = (
    "backend engines tensor_parallel_size max_concurrent_prompts speculative_tokens dtype "
    "stall_seconds"
)
WRITE_FIELDS = "store_text commit_every_seconds commit_every_rows"


@dataclass(frozen=True)
class Layout:
    """Fields by group, in order; those that no group names stand in the group "More".

    ``spelled`` has options whose name is not that of their field; ``arguments`` the fields that are
    given without a name, with what stands for them in the usage line; ``metavars`` what stands for
    a value, where that is not its type.
    """

    groups: Mapping[str, str] = field(default_factory=dict)
    spelled: Mapping[str, str] = field(default_factory=dict)
    arguments: Mapping[str, str] = field(default_factory=dict)
    metavars: Mapping[str, str] = field(default_factory=dict)
