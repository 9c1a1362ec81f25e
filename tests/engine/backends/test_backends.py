"""What both backends answer, held against a plain forward pass of the same weights."""

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from engine.backends import backend_class
from engine.backends.base import Backend, Completion, EngineSettings
from engine.checkpoints.load import Checkpoint, load_checkpoint
from engine.checkpoints.tokenizer import load_tokenizer
from engine.steps.prompts import Prompt, Prompter
from schemas.errors import UsageError
from schemas.spans import Span

TEXTS = [
    "Aspirin inhibits COX-1 and lowers the risk of colorectal cancer.",
    "No mention of anything is made in this sentence.",
    "BRCA1 and TP53 mutations were found in breast cancer treated with cisplatin.",
]


@pytest.fixture(scope="module")
def nano() -> Checkpoint:
    return load_checkpoint("nano")


@pytest.fixture(scope="module")
def prompts(nano: Checkpoint) -> list[Prompt]:
    prompter = Prompter(nano.manifest.task, load_tokenizer(nano.path), nano.context_tokens)
    return [p for text in TEXTS for p in prompter.make_prompts(text, [Span(0, len(text))])]


@pytest.fixture(
    scope="module", params=[pytest.param("vllm", marks=pytest.mark.vllm), "transformers"]
)
def completions(
    request: pytest.FixtureRequest, nano: Checkpoint, prompts: list[Prompt]
) -> Iterator[list[Completion]]:
    """Each prompt's completion, then the first one's again, cut after three tokens."""

    async def run() -> list[Completion]:
        # In the loop that serves it, as an actor does.
        backend: Backend = backend_class(request.param)(nano, EngineSettings(), temperature=0.0)
        try:
            asked = [backend.generate(p.token_ids, p.max_tokens) for p in prompts]
            return await asyncio.gather(*asked, backend.generate(prompts[0].token_ids, 3))
        finally:
            backend.close()

    yield asyncio.run(run())


def test_log_probabilities_are_the_models_own(
    nano: Checkpoint, prompts: list[Prompt], completions: list[Completion]
) -> None:
    model = AutoModelForCausalLM.from_pretrained(nano.path, dtype=torch.float32)
    for prompt, completion in zip(prompts, completions, strict=False):
        ids = torch.tensor([[*prompt.token_ids, *completion.token_ids]])
        with torch.no_grad():
            logprobs = model(ids).logits[0].log_softmax(-1)
        place = len(prompt.token_ids) - 1
        for token, logprob in zip(completion.token_ids, completion.logprobs, strict=True):
            # bfloat16 there, float32 here.
            assert logprob == pytest.approx(logprobs[place, token].item(), abs=0.15)
            # Greedy: no other token is likelier by more than that noise.
            assert logprobs[place, token] >= logprobs[place].max() - 0.15
            place += 1
        # What ended it is not part of the completion, and is an end token.
        assert logprobs[place].argmax().item() in nano.stop_token_ids


def test_a_completion_repeats_its_text_to_the_letter(
    nano: Checkpoint, prompts: list[Prompt], completions: list[Completion]
) -> None:
    decode = load_tokenizer(nano.path).decode
    answers = [decode(c.token_ids).text for c in completions[: len(prompts)]]
    plain = [re.sub(r"</?(disease|chemical|gene)>", "", a) for a in answers]
    assert sum(a == t for a, t in zip(plain, TEXTS, strict=True)) >= 2, answers
    assert all(c.finish == "stop" for c in completions[: len(prompts)])


def test_the_token_limit_cuts_and_says_so(completions: list[Completion]) -> None:
    assert completions[-1].finish == "length" and len(completions[-1].token_ids) == 3
    assert list(completions[-1].token_ids) == list(completions[0].token_ids[:3])


def test_no_shared_memory_is_left(completions: list[Completion]) -> None:
    assert not list(Path("/dev/shm").glob("psm_*"))


def test_an_unknown_backend_names_those_that_there_are() -> None:
    with pytest.raises(
        UsageError, match="unknown backend gpt; valid: vllm, transformers, or package"
    ):
        backend_class("gpt")
    with pytest.raises(UsageError, match="no_such_module"):
        backend_class("no_such_module:Backend")
