"""How a config shows on the command line: which fields stand in which group of ``--help``."""

from collections.abc import Mapping
from dataclasses import dataclass, field

SOURCE, MODEL, ENGINES, WRITING, OUTPUT = "Source", "Model", "Engines", "Writing", "Output"

ENGINE_FIELDS = (
    "backend engines tensor_parallel_size max_concurrent_prompts speculative_tokens engine_args "
    "dtype stall_seconds context_tokens node_wait_seconds"
)
WRITE_FIELDS = "store_text commit_every_seconds commit_every_rows"


@dataclass(frozen=True)
class Layout:
    """How the fields of one config are shown.

    ``groups`` has the names of the fields by group, in order and separated by blanks; a field that
    no group names is shown in the group "More". ``spelled`` maps a field to its option, where that
    is not the field's name. ``arguments`` maps a positional field to its name in the usage line.
    ``metavars`` maps a field to the placeholder of its value in ``--help``, where that is not its
    type.
    """

    groups: Mapping[str, str] = field(default_factory=dict)
    spelled: Mapping[str, str] = field(default_factory=dict)
    arguments: Mapping[str, str] = field(default_factory=dict)
    metavars: Mapping[str, str] = field(default_factory=dict)
