"""How far a run is: what it notes in the table's log with each commit, for ``pubmark status``.

Enters: figures of a run that goes on. Leaves: a line of JSON, and what one says. A commit is made
anyway, so that to follow a run costs it no request of its own, and works from any machine that can
read the table.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

NOTE = "pubmark.progress"
"""The key in a commit's notes."""


@dataclass(frozen=True, slots=True)
class Progress:
    """A run so far: of ``planned`` citations to annotate, ``done`` came back, ``failed`` of them
    failed or in part. ``by_engine`` has the citations of each engine, or of those that did most."""

    job: str
    annotator: str
    started_at: datetime
    planned: int
    done: int
    failed: int
    prompts: int
    by_engine: Mapping[str, int] = field(default_factory=dict)
    host: str = field(default_factory=lambda: os.uname().nodename)

    def notes(self) -> dict[str, str]:
        """For a commit's notes."""
        values = asdict(self) | {"started_at": self.started_at.isoformat()}
        return {NOTE: json.dumps(values)}

    @classmethod
    def of(cls, notes: Mapping[str, Any]) -> "Progress | None":
        """What a commit's notes say; None if they say nothing that is understood."""
        try:
            values = json.loads(notes[NOTE])
            return cls(**values | {"started_at": datetime.fromisoformat(values["started_at"])})
        except (KeyError, TypeError, ValueError):
            return None
