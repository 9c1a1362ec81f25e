"""Which types a task and gold texts have in common."""

import pytest

from engine.checkpoints.load import Checkpoint
from engine.scoring.gold import GoldText, types_in_common
from schemas.errors import UsageError


def gold(*types: str) -> GoldText:
    return GoldText("c", "1", "text", 0, True, [], frozenset(types))


def test_types_in_common_are_in_the_order_of_the_task(nano: Checkpoint) -> None:
    task = nano.manifest.task
    assert types_in_common([gold("gene", "species"), gold("disease")], task) == ["disease", "gene"]


def test_no_type_in_common_is_refused_by_name(nano: Checkpoint) -> None:
    message = "gold has species, the task asks for disease, chemical, gene: no entity type in com"
    with pytest.raises(UsageError, match=message):
        types_in_common([gold("species")], nano.manifest.task)
