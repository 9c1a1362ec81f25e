"""An engine's actor without Ray: batches at once, or one citation after another."""

import asyncio
import contextlib
import random
from pathlib import Path
from typing import NoReturn
from uuid import uuid4

import fake_backend
import pyarrow as pa
import pytest

from engine.backends.base import Completion, EngineSettings
from engine.checkpoints.load import Checkpoint
from engine.steps.generate import GENERATED_SCHEMA, EngineActor, _Turns
from engine.steps.losses import Losses, Watcher
from engine.steps.prepare import prepare
from schemas.citation import CITATION_SCHEMA, digest_text

FAKE = "fake_backend:FakeBackend"


def prepared(nano: Checkpoint, texts: list[str]) -> pa.Table:
    rows = [
        {"pmid": i, "version": 1, "text": t, "title_length": len(t), "text_digest": digest_text(t),
         "source": "a"}
        for i, t in enumerate(texts, 1)
    ]  # fmt: skip
    batch = pa.Table.from_pylist(rows, schema=CITATION_SCHEMA)
    return prepare(batch, "nano", nano.manifest.task.model_dump_json())


@pytest.fixture
def engine() -> EngineActor:
    return EngineActor(FAKE, "nano", EngineSettings(), 0.0)


TEXTS = ["Aspirin one.", "", "Cancer. A second sentence of it.", "No word."]


def answers(done: pa.Table) -> list[list[dict[str, object]]]:
    kept: list[list[dict[str, object]]] = done["completions"].to_pylist()
    return kept


def test_one_after_another_gives_the_same_answers(
    engine: EngineActor, nano: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = prepared(nano, TEXTS)
    at_once = asyncio.run(engine(batch))
    engine._losses._entry.hands["1 to 4"] = 2  # it was lost twice with this batch
    most = 0
    asked: list[int] = []
    generate = fake_backend.FakeBackend.generate

    async def counting(self: fake_backend.FakeBackend, ids: list[int], limit: int) -> Completion:
        nonlocal most
        asked.append(len(ids))
        most = max(most, engine._watch._in_flight)
        return await generate(self, ids, limit)

    monkeypatch.setattr(fake_backend.FakeBackend, "generate", counting)
    singly = asyncio.run(engine(batch))
    assert singly.schema == at_once.schema == GENERATED_SCHEMA
    assert answers(singly) == answers(at_once)
    # Four sentences; the two of one citation are asked about together.
    assert (len(asked), most) == (4, 2)
    assert engine._losses._entry.hands == {}


def test_a_citation_that_ended_the_engine_twice_is_not_asked_about(
    engine: EngineActor, nano: Checkpoint, tmp_path: Path
) -> None:
    texts = [*TEXTS, f"KILLS={tmp_path}/killed= aspirin"]
    engine._losses._entry.hands["1 to 5"] = 2
    engine._losses._entry.alone["5"] = 2
    done = answers(asyncio.run(engine(prepared(nano, texts))))
    assert not (tmp_path / "killed").exists()
    assert all("lost each of 2 times" in str(a["error"]) for a in done[4]) and done[4]
    assert all(a["error"] is None for row in done[:4] for a in row)


def test_who_is_alone_waits_for_the_others_and_holds_up_those_that_come_after() -> None:
    steps: list[str] = []

    async def share(turns: _Turns, name: str) -> None:
        async with turns.shared():
            steps.append(f"{name} in")
            await asyncio.sleep(0.02)
            steps.append(f"{name} out")

    async def alone(turns: _Turns, name: str) -> None:
        async with turns.alone():
            steps.append(f"{name} in")
            await asyncio.sleep(0.02)
            steps.append(f"{name} out")

    async def run() -> None:
        turns = _Turns()
        work = [share(turns, "a"), share(turns, "b"), alone(turns, "c"), share(turns, "d"),
                alone(turns, "e")]  # fmt: skip
        await asyncio.wait_for(asyncio.gather(*work), timeout=10)

    asyncio.run(run())
    assert steps[:4] == ["a in", "b in", "a out", "b out"]
    assert steps[4:6] == ["c in", "c out"]
    assert sorted(steps[6:8]) in (["d in", "d out"], ["e in", "e out"])


class _Ended(BaseException):
    """The engine's process ended."""


@pytest.mark.parametrize("deadly", [{1}, {16}, {1, 2}, {1, 30}, {1, 2, 17, 18, 33, 34}])
def test_citations_that_end_every_engine_fail_and_no_others(
    deadly: set[int],
    nano: Checkpoint,
    ray_session: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Ray's part is played here: one engine, three batches at once, those of a lost engine again.
    def die(_: str, losses: Losses) -> NoReturn:
        losses._pool = None  # what has ended notes nothing more
        raise _Ended

    monkeypatch.setattr("engine.steps.generate._die", die)
    texts = ["KILLSALWAYS" if i in deadly else f"Aspirin {i}" for i in range(1, 49)]
    whole = prepared(nano, texts)
    waiting = {i: whole.slice(i, 16) for i in range(0, 48, 16)}
    errors: dict[int, bool] = {}
    pool = uuid4().hex

    async def life(engine: EngineActor, order: list[int]) -> None:
        async def one(key: int) -> None:
            done = await engine(waiting[key])
            del waiting[key]
            for pmid, given in zip(done["pmid"].to_pylist(), answers(done), strict=True):
                errors[pmid] = any(a["error"] for a in given)

        tasks = [asyncio.create_task(one(key)) for key in order]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    for number in range(100):
        engine = EngineActor(FAKE, "nano", EngineSettings(), 0.0, pool)
        order = random.Random(number).sample(sorted(waiting), len(waiting))
        with contextlib.suppress(_Ended):
            asyncio.run(life(engine, order))
        engine._losses._writer.shutdown()
        if not waiting:
            break
    Watcher(pool).forget()
    assert {pmid for pmid, failed in errors.items() if failed} == deadly
    assert sorted(errors) == list(range(1, 49))
