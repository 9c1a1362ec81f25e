"""The statuses of a citation's row."""

from typing import Literal, get_args

Status = Literal["ok", "empty", "partial", "failed"]
"""``empty``: it has no text; ``partial``: some of its prompts failed; ``failed``: all did."""

STATUSES: tuple[Status, ...] = get_args(Status)
