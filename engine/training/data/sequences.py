"""One example or text to token sequences, each token with the weight of its loss.

Enters: a text, with or without mentions. Leaves: token ids and weights. Left to others: which
examples an epoch holds and how they vary (encode.py, variation.py).

An example becomes a prompt and its answer, made by the task's template and codec as in annotating.
A text becomes passages to be continued, or restored where words are left out: restoring, like
marking, repeats a prompt that is wholly in sight.
"""

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from random import Random

from engine.checkpoints.tokenizer import PromptTokenizer
from engine.codecs import CODECS
from engine.training.data.variation import CUT
from schemas.spans import TypedSpan
from schemas.task import Task


@dataclass(frozen=True, slots=True)
class TokenSequence:
    """Token ids and, for each, the weight of its loss; the first token is never predicted."""

    ids: list[int]
    weights: list[float]


class ExampleEncoder:
    """Makes sequences of examples for one task and tokenizer.

    ``stop`` is the id of the token that ends an answer. ``prompt_weight`` weighs the loss on a
    prompt's own tokens, ``marker_weight`` that on the markers that open a mention, where these are
    single tokens.
    """

    def __init__(
        self,
        task: Task,
        tokenizer: PromptTokenizer,
        stop: int,
        prompt_weight: float,
        marker_weight: float = 1.0,
    ):
        self._task = task
        self._tokenizer = tokenizer
        self._stop = stop
        self._prompt_weight = prompt_weight
        self._codec = CODECS[task.codec]
        markers = self._codec.markers(list(task.entity_types))
        opening = (tokenizer.encode_template(opening) for opening, _ in markers)
        self._weight_of = {ids[0]: marker_weight for ids in opening if len(ids) == 1}

    def questions(self, annotated_types: Sequence[str]) -> list[tuple[str, ...]]:
        """The sets of types that a prompt may ask for in a text annotated with these types.

        Where a prompt asks for several types, a corpus that annotates two of them teaches three
        questions: each type alone, and both. The last question asks for all.
        """
        names = [n for n in self._task.entity_types if n in annotated_types]
        if self._task.ask == "each":
            return [(n,) for n in names]
        return [c for size in range(1, len(names) + 1) for c in combinations(names, size)]

    def encode(
        self, text: str, mentions: Sequence[TypedSpan], asked: Sequence[str]
    ) -> TokenSequence:
        """The prompt that asks for the types ``asked``, and its answer.

        Of nested mentions of one type the outermost is taught. Where the text holds :data:`CUT`, no
        token of prompt or answer spans it.

        Raises:
            ValueError: if the text holds a marker of its own: an answer could not tell it from
                one of the codec's.
        """
        before, after = (self._tokenizer.encode_template(p) for p in self._task.pieces(asked))
        outer = outermost([m for m in mentions if m.entity_type in asked])
        pieces = self._tokenizer.encode_texts(text.split(CUT))
        prompt = [*before, *(i for piece in pieces for i in piece.ids), *after]
        answer = [*self._answer(text, outer), self._stop]
        weights = [self._prompt_weight] * len(prompt)
        weights += [self._weight_of.get(i, 1.0) for i in answer]
        # The beginning of the template is the same every time: there is nothing to learn in it.
        weights[: len(before) + 1] = [0.0] * (len(before) + 1)
        return TokenSequence([*prompt, *answer], weights)

    def _answer(self, text: str, mentions: Sequence[TypedSpan]) -> list[int]:
        pieces = self._codec.encode(text, mentions).split(CUT)
        return [i for piece in pieces for i in self._tokenizer.encode_template(piece)]


def outermost(mentions: Sequence[TypedSpan]) -> list[TypedSpan]:
    """Mentions in order, without those that overlap a longer one of their type, or one that is as
    long and comes first."""
    kept: list[TypedSpan] = []
    for mention in sorted(mentions, key=lambda m: (m.start - m.end, m)):
        if not any(
            m.entity_type == mention.entity_type and m.span.overlaps(mention.span) for m in kept
        ):
            kept.append(mention)
    return sorted(kept)


TEXT_TOKENS = ("<s>", "</s>", "<sep>", "<blank>")
"""Tokens that a tokenizer must have for :class:`TextEncoder`; those that vocabulary.py trains
have them."""


class TextEncoder:
    """Makes sequences of plain texts, for the language stage.

    ``restore`` is the share of passages that are restored; the others are continued. In a passage
    to be restored, runs of one to three words are each replaced by ``<blank>``, about the share
    ``blanks`` of all words; after ``<sep>`` comes the whole passage.
    """

    def __init__(
        self, tokenizer: PromptTokenizer, max_tokens: int, restore: float, blanks: float = 0.2
    ):
        self._tokenizer = tokenizer
        self._max_tokens = max_tokens
        self._restore = restore
        self._blanks = blanks
        self._start, self._stop, self._sep, self._blank = (
            tokenizer.encode_template(t)[0] for t in TEXT_TOKENS
        )

    def encode(self, text: str, seed: int) -> Iterator[TokenSequence]:
        """All passages of a text, as sequences of at most ``max_tokens``; decided by the seed.

        A passage ends where a word ends, unless one word alone is longer. Passages of fewer than
        eight tokens are left out.
        """
        random = Random(seed)
        encoding = self._tokenizer.encode_texts([text])[0]
        # A word's first token begins with the space before it.
        words = [i for i, (s, _) in enumerate(encoding.offsets) if not i or text[s].isspace()]
        ids = encoding.ids
        word = 0
        while word < len(words):
            begin = words[word]
            restore = random.random() < self._restore
            room = (self._max_tokens - 3) // 2 if restore else self._max_tokens - 2
            end_word = word + 1
            while end_word < len(words) and words[end_word] - begin <= room:
                end_word += 1
            end = words[end_word] if end_word < len(words) else len(ids)
            if end - begin > room:  # the last word's tokens, or one monstrous word
                end = begin + room
            cut = [*words[word:end_word], end]
            word = end_word
            passage = ids[begin:end]
            if len(passage) < 8:
                continue
            if restore:
                yield self._with_blanks(passage, [c - begin for c in cut if c <= end], random)
            else:
                weights = [0.0] + [1.0] * (len(passage) + 1)
                yield TokenSequence([self._start, *passage, self._stop], weights)

    def _with_blanks(self, passage: list[int], words: list[int], random: Random) -> TokenSequence:
        """A passage to be restored; ``words`` are where its words begin, and its end."""
        prompt: list[int] = []
        i = 0
        while i < len(words) - 1:
            if random.random() < self._blanks / 2:  # a run has two words on average
                i = min(i + random.randint(1, 3), len(words) - 1)
                prompt.append(self._blank)
            else:
                prompt += passage[words[i] : words[i + 1]]
                i += 1
        ids = [self._start, *prompt, self._sep, *passage, self._stop]
        weights = [0.0] + [0.5] * len(prompt) + [0.0] + [1.0] * (len(passage) + 1)
        return TokenSequence(ids, weights)


def stable_seed(*parts: object) -> int:
    """A seed that is the same in every process and on every machine."""
    return zlib.crc32(repr(parts).encode())
