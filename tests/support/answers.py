"""The mentions that a checkpoint finds in sentences, without Ray: backend, codec, alignment."""

import asyncio
from collections.abc import Sequence

from engine.backends import backend_class
from engine.backends.base import Completion, EngineSettings
from engine.checkpoints.load import load_checkpoint
from engine.checkpoints.tokenizer import load_tokenizer
from engine.codecs import CODECS
from engine.steps.align import align_mentions
from engine.steps.prompts import Prompter
from schemas.spans import Span

Mentions = set[tuple[int, int, str]]


def find_mentions(
    ref: str, backend: str, sentences: Sequence[str], settings: EngineSettings
) -> list[Mentions]:
    """For each sentence, the spans that a checkpoint marks, with their types."""
    checkpoint = load_checkpoint(ref)
    tokenizer = load_tokenizer(checkpoint.tokenizer_path)
    task = checkpoint.manifest.task
    prompter = Prompter(task, tokenizer, checkpoint.context_tokens)
    asked = [
        (i, prompt)
        for i, text in enumerate(sentences)
        for prompt in prompter.make_prompts(text, [Span(0, len(text))])
    ]

    async def run() -> list[Completion]:
        engine = backend_class(backend)(checkpoint, settings, task.decoding.temperature)
        try:
            return await asyncio.gather(
                *(engine.generate(p.token_ids, p.max_tokens) for _, p in asked)
            )
        finally:
            engine.close()

    found: list[Mentions] = [set() for _ in sentences]
    for (i, prompt), completion in zip(asked, asyncio.run(run()), strict=True):
        source = sentences[i][prompt.unit.start : prompt.unit.end]
        text = tokenizer.decode(completion.token_ids).text
        marked = CODECS[task.codec].decode(text, prompt.entity_types)
        for placed in align_mentions(source, marked, completion.finish == "length").placed:
            start, end = placed.span.shift(prompt.unit.start)
            found[i].add((start, end, placed.mark.entity_type or prompt.entity_types[0]))
    return found


def agreement(ours: Sequence[Mentions], theirs: Sequence[Mentions]) -> dict[str, float]:
    """The share of sentences with the very same mentions, and of mentions that both have."""
    same = sum(a == b for a, b in zip(ours, theirs, strict=True))
    both = sum(len(a & b) for a, b in zip(ours, theirs, strict=True))
    either = sum(len(a | b) for a, b in zip(ours, theirs, strict=True))
    return {
        "sentences_the_same": round(same / len(ours), 4),
        "mentions_of_both": round(both / max(1, either), 4),
    }
