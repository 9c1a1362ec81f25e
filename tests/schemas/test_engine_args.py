"""Which arguments of vLLM's engine a config may pass on, and which belong to the annotator."""

from typing import Any

import pytest

from schemas.configs.load import load_config
from schemas.configs.options import EngineOptions
from schemas.engine_args import INSTEAD, NEUTRAL, NOT_TAKEN
from schemas.errors import UsageError


def options(**engine_args: Any) -> EngineOptions:
    return load_config(EngineOptions, None, {"engine_args": engine_args})


def test_what_changes_answers_is_told_apart() -> None:
    given = options(quantization="fp8", gpu_memory_utilization=0.8, hf_overrides={"a": 1})
    assert given.serving == {"hf_overrides": {"a": 1}, "quantization": "fp8"}
    assert options(max_num_batched_tokens=16_384).serving == options().serving == {}


def test_what_is_not_known_counts_as_changing_answers() -> None:
    assert options(of_the_next_version=1).serving == {"of_the_next_version": 1}


def test_what_has_an_option_of_its_own_is_refused_all_at_once() -> None:
    with pytest.raises(UsageError) as caught:
        options(max_num_seqs=8, trust_remote_code=True, seed=1)
    assert "max_num_seqs: is the option max_concurrent_prompts here" in str(caught.value)
    assert "trust_remote_code: is set by pubmark" in str(caught.value)


def test_no_argument_is_of_two_kinds() -> None:
    assert not NEUTRAL & (NOT_TAKEN | INSTEAD.keys()) and not NOT_TAKEN & INSTEAD.keys()
