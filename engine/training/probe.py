"""How good a model is while it learns: it annotates gold texts and is scored on them.

Enters: the model in memory, and gold texts. Leaves: counts of exact mentions. Left to others: when
to score, and precision, recall and F1 of the counts.

Prompts, codec and alignment are those of ``annotate``; only the engine is the model in memory.
"""

from collections.abc import Sequence
from typing import Any

from engine.backends.transformers import complete
from engine.checkpoints.tokenizer import PromptTokenizer
from engine.codecs import CODECS
from engine.scoring.gold import GoldText
from engine.scoring.scores import Counts, Tally
from engine.steps.align import align_mentions
from engine.steps.prompts import Prompt, Prompter
from engine.steps.sentences import split_sentences
from schemas.spans import Span, TypedSpan
from schemas.task import Task

_BATCH = 64
"""Prompts that are completed together."""


def count_mentions(
    model: Any,
    tokenizer: PromptTokenizer,
    task: Task,
    context_tokens: int,
    stop: int,
    texts: Sequence[GoldText],
) -> Counts:
    """The counts of exact span and type over all ``texts``.

    ``stop`` is the id of the end token, ``context_tokens`` the most that prompt and completion have
    together. The model keeps its mode and generation config.
    """
    import transformers

    codec = CODECS[task.codec]
    prompter = Prompter(task, tokenizer, context_tokens)
    asked: list[tuple[int, str, Prompt]] = []
    for number, gold in enumerate(texts):
        units = (
            [Span(0, len(gold.text))]
            if gold.is_sentence
            else split_sentences(gold.text, gold.title_length)
        )
        for prompt in prompter.make_prompts(gold.text, units, gold.title_length):
            if gold.annotated_types.intersection(prompt.entity_types):
                source = gold.text[prompt.unit.start : prompt.unit.end]
                asked.append((number, source, prompt))
    asked.sort(key=lambda a: len(a[2].token_ids))
    config, training = model.generation_config, model.training
    make_config: Any = transformers.GenerationConfig
    model.generation_config = make_config(do_sample=False, eos_token_id=stop, pad_token_id=stop)
    model.eval()
    predicted: dict[int, list[TypedSpan]] = {}
    for i in range(0, len(asked), _BATCH):
        batch = asked[i : i + _BATCH]
        done = complete(model, [(p.token_ids, p.max_tokens) for _, _, p in batch], (stop,))
        for (number, source, prompt), completion in zip(batch, done, strict=True):
            marked = codec.decode(tokenizer.decode(completion.token_ids).text, prompt.entity_types)
            for placed in align_mentions(source, marked, completion.finish == "length").placed:
                span = placed.span.shift(prompt.unit.start)
                kind = placed.mark.entity_type or prompt.entity_types[0]
                predicted.setdefault(number, []).append(TypedSpan(*span, kind))
    model.generation_config = config
    model.train(training)
    tally = Tally()
    for number, gold in enumerate(texts):
        types = gold.annotated_types & set(task.entity_types)
        tally.add(gold.corpus, gold.document, gold.mentions, predicted.get(number, []), types)
    rows = tally.rows(replicates=0)
    return rows[0].scores["exact"].counts if rows else Counts()
