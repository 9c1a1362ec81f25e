"""Prompts made of sentences and entity types, as token ids.

Enters: a text and its sentences. Leaves: one prompt per unit of text and question of the task. A
prompt has three pieces: the template before the text, the text, the template after it. They are
tokenised apart and then joined. So the first piece is the same ids whatever the text is, which the
prefix cache needs, and the text cannot forge a special token. Left to others: splitting sentences.
"""

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

from tokenizers import Encoding

from engine.checkpoints.tokenizer import PromptTokenizer
from engine.codecs import CODECS
from schemas.errors import UsageError
from schemas.spans import Span, trim
from schemas.task import Task

PROMPTS_VERSION = 1
"""Goes up when the same text would be cut into other units, or encoded as other token ids."""

_MENTIONS_PER_TOKEN = 0.5
"""Most mentions that a text may have per token: a list of them, a token each and one in between.
Real sentences have up to 0.28 (docs/measurements.md). Each costs the tokens of its markers, and one
more where a marker parts what would otherwise be one token."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """One question to the model: mark ``entity_types`` in the span ``unit`` of a citation's text.

    ``max_tokens`` limits the completion.
    """

    unit: Span
    entity_types: tuple[str, ...]
    token_ids: list[int]
    max_tokens: int


class Prompter:
    """Makes a task's prompts for one checkpoint.

    ``max_text_tokens`` is the longest text of a prompt, ``context_tokens`` the longest prompt and
    its completion together, both in tokens.

    Raises:
        UsageError: if the template leaves no room for text in the checkpoint's context.
    """

    def __init__(self, task: Task, tokenizer: PromptTokenizer, context_tokens: int):
        self._task = task
        self._tokenizer = tokenizer
        self._pieces = {
            names: tuple(tokenizer.encode_template(piece) for piece in task.pieces(names))
            for names in task.questions()
        }
        overhead = max(len(before) + len(after) for before, after in self._pieces.values())
        decoding = task.decoding
        self._per_token = decoding.max_tokens_per_text_token or _needed(task, tokenizer)
        room = context_tokens - overhead - decoding.max_tokens_extra - 1
        fits = int(room / (1 + self._per_token))
        self.max_text_tokens = min(task.max_text_tokens, fits)
        if self.max_text_tokens < 8:
            raise UsageError(
                f"the template takes {overhead} of {context_tokens} tokens of context, which leaves"
                f" {max(fits, 0)} for text; expected at least 8"
            )
        longest = self.max_text_tokens
        self.context_tokens = overhead + longest + self._max_tokens(longest)

    def _max_tokens(self, text_tokens: int) -> int:
        """The token limit of a completion about a text of so many tokens."""
        return math.ceil(text_tokens * self._per_token) + self._task.decoding.max_tokens_extra

    def make_prompts(
        self, text: str, sentences: Sequence[Span], title_length: int = 0
    ) -> list[Prompt]:
        """The prompts of one citation: ordered by unit, then by the task's questions.

        A passage never has sentences of both the title (the first ``title_length`` code points) and
        the abstract.
        """
        prompts = []
        for unit, ids in self._units(text, sentences, title_length):
            limit = self._max_tokens(len(ids))
            for names, (before, after) in self._pieces.items():
                prompts.append(Prompt(unit, names, [*before, *ids, *after], limit))
        return prompts

    def _units(
        self, text: str, sentences: Sequence[Span], title_length: int
    ) -> list[tuple[Span, list[int]]]:
        surfaces = [text[s.start : s.end] for s in sentences]
        encodings = self._tokenizer.encode_texts(surfaces)
        units: list[tuple[Span, list[int]]] = []
        for sentence, encoding in zip(sentences, encodings, strict=True):
            if len(encoding.ids) > self.max_text_tokens:
                units += self._split(text, sentence, encoding)
            else:
                units.append((sentence, encoding.ids))
        return self._join(text, units, title_length) if self._task.unit == "passage" else units

    def _split(self, text: str, span: Span, encoding: Encoding) -> list[tuple[Span, list[int]]]:
        """Cut a span that is too long for one prompt into pieces that fit.

        ``encoding`` is that of the span. Its token offsets say where to cut, so each piece is
        encoded only once more, however long the span is.
        """
        pieces = []
        starts = [span.start + start for start, _ in encoding.offsets]
        begin, token = span.start, 0
        while begin < span.end:
            cut = span.end
            if token + self.max_text_tokens < len(starts):
                longest = starts[token + self.max_text_tokens]
                cut = _cut(text, begin, max(begin + 1, longest))
            piece = trim(text, Span(begin, cut))
            if piece.start < piece.end:
                whole = self._tokenizer.encode_texts([text[piece.start : piece.end]])[0]
                if len(whole.ids) <= self.max_text_tokens:
                    pieces.append((piece, whole.ids))
                else:  # encoded alone it may have more tokens than as a part of the span
                    pieces += self._split(text, piece, whole)
            token = bisect_left(starts, cut, token)
            begin = cut
        return pieces

    def _join(
        self, text: str, units: list[tuple[Span, list[int]]], title_length: int
    ) -> list[tuple[Span, list[int]]]:
        """Join neighbouring units into passages, as long as a passage fits."""
        joined: list[tuple[Span, list[int]]] = []
        for unit, ids in units:
            if (
                joined
                and not joined[-1][0].end <= title_length < unit.start
                and len(joined[-1][1]) + len(ids) < self.max_text_tokens
            ):
                span = Span(joined[-1][0].start, unit.end)
                whole = self._tokenizer.encode_texts([text[span.start : span.end]])[0].ids
                if len(whole) <= self.max_text_tokens:
                    joined[-1] = (span, whole)
                    continue
            joined.append((unit, ids))
        return joined


def _needed(task: Task, tokenizer: PromptTokenizer) -> float:
    """Tokens of the longest completion that can be right, per token of the text."""
    pairs = CODECS[task.codec].markers(list(task.entity_types))
    longest = max(sum(len(tokenizer.encode_template(m)) for m in pair) for pair in pairs)
    return 1 + _MENTIONS_PER_TOKEN * (longest + 1)


def _cut(text: str, begin: int, longest: int) -> int:
    """The offset to cut at, in the second half of ``[begin, longest)``: after a clause if one ends
    there, else after a word, else ``longest``."""
    for mark in ("; ", ". ", ", ", " "):
        offset = text.rfind(mark, (begin + longest) // 2, longest)
        if offset >= 0:
            return offset + len(mark)
    return longest
