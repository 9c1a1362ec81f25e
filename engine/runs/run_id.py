"""The id of a run. A module of its own, since a refresh with nothing to do must not load Ray."""

import uuid
from datetime import UTC, datetime


def new_run_id() -> str:
    """Begins with the time, so that runs sort by it."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{uuid.uuid4().hex[:6]}"
