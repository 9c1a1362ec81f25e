"""Examples drawn from the training split, and an untuned model dressed as a checkpoint."""

import json
import shutil
from pathlib import Path

import pytest

from engine.checkpoints.load import Checkpoint
from engine.checkpoints.tokenizer import PromptTokenizer
from engine.scoring.few_shot import draw_all_shots, draw_shots, few_shot_checkpoint
from engine.scoring.gold import GoldText
from engine.steps.prompts import Prompter
from schemas.errors import UsageError
from schemas.spans import Span, TypedSpan


def gold(text: str, *surfaces: str, types: tuple[str, ...] = ("disease",)) -> GoldText:
    mentions = [TypedSpan(text.index(s), text.index(s) + len(s), "disease") for s in surfaces]
    return GoldText("c", "1", text, len(text), True, mentions, frozenset(types))


WITH = [gold(f"Case {i} of cancer in the lung.", "cancer") for i in range(20)]
WITHOUT = [gold(f"Case {i} of nothing that counts.") for i in range(20)]


def test_half_have_mentions_and_a_seed_draws_the_same() -> None:
    shots = draw_shots(WITH + WITHOUT, "disease", 5, seed=1)
    assert len({text for text, _ in shots}) == 5
    assert sorted(bool(spans) for _, spans in shots) == [False, False, True, True, True]
    assert all(text[s.start : s.end] == "cancer" for text, spans in shots for s in spans)
    assert draw_shots(WITH + WITHOUT, "disease", 5, seed=1) == shots
    assert draw_shots(WITH + WITHOUT, "disease", 5, seed=2) != shots
    assert draw_shots(WITH + WITHOUT, "disease", 0, seed=2) == []


def test_one_kind_makes_up_for_the_other() -> None:
    assert len(draw_shots(WITH, "disease", 6, seed=1)) == 6
    assert len(draw_shots(WITHOUT, "disease", 6, seed=1)) == 6


def test_what_is_scored_is_no_example() -> None:
    held_out = {e.text for e in WITH[1:]}
    shots = draw_shots(WITH + WITHOUT, "disease", 4, seed=1, held_out=held_out)
    assert not {text for text, _ in shots} & held_out


def test_every_type_of_the_task_has_its_shots_and_none_is_scored(nano: Checkpoint) -> None:
    task = nano.manifest.task.only(["disease", "gene"])
    both = [gold(e.text, "cancer", types=("disease", "gene")) for e in WITH]
    shots = draw_all_shots(task, both, both[:10], 4, seed=1)
    assert list(shots) == ["disease", "gene"]
    scored = {e.text for e in both[:10]}
    assert all(len(s) == 4 and not {text for text, _ in s} & scored for s in shots.values())
    with pytest.raises(UsageError, match="0 training sentences fit as examples of disease"):
        draw_all_shots(task, both, both, 4, seed=1)


@pytest.mark.parametrize(
    "unfit",
    [
        gold("cancer", "cancer"),  # short as a heading
        gold("a breast cancer in a sentence", "breast cancer", "cancer"),  # nested
        gold("a text of which nobody says a word", types=("gene",)),
        gold("two lines\nare more than one of cancer", "cancer"),
    ],
)
def test_what_does_not_fit_is_not_drawn(unfit: GoldText) -> None:
    with pytest.raises(UsageError, match="0 training sentences fit as examples of disease"):
        draw_shots([unfit], "disease", 1, seed=1)


def test_a_sentence_of_a_citation_has_its_own_offsets() -> None:
    text = "A title that is long. The abstract has cancer in it."
    mention = TypedSpan(39, 45, "disease")
    whole = GoldText("c", "1", text, 21, False, [mention], frozenset(["disease"]))
    drawn = {
        shot[0]: shot[1]
        for seed in range(20)
        for shot in draw_shots([whole], "disease", 1, seed=seed)
    }
    assert drawn == {
        "A title that is long.": [],
        "The abstract has cancer in it.": [Span(17, 23)],
    }


@pytest.fixture
def untuned(nano: Checkpoint, tmp_path: Path) -> Path:
    path = tmp_path / "model"
    shutil.copytree(nano.path, path, ignore=shutil.ignore_patterns("pubmark.json"))
    return path


SHOTS = [("a lung cancer", [Span(2, 13)]), ("nothing at all", [])]


def test_the_prompt_is_instruction_examples_and_text(nano: Checkpoint, untuned: Path) -> None:
    task = nano.manifest.task.only(["disease"])
    with few_shot_checkpoint(str(untuned), task, {"disease": SHOTS}) as made:
        tokenizer = PromptTokenizer(made.path)
        prompter = Prompter(made.manifest.task, tokenizer, made.context_tokens)
        (prompt,) = prompter.make_prompts("His fever", [Span(0, 9)])
        said = tokenizer.decode(prompt.token_ids).text
        assert "Mark every mention of the entity type disease" in said
        assert "A disease, disorder" in said
        assert said.endswith(
            "Input:\na lung cancer\nOutput:\na <mark>lung cancer</mark>\n\n"
            "Input:\nnothing at all\nOutput:\nnothing at all\n\n"
            "Input:\nHis fever\nOutput:\n"
        )
        # A line's end ends a completion, as does what ended it before.
        assert set(nano.stop_token_ids) < set(made.stop_token_ids)
        newline = tokenizer.encode_template("\n")
        assert newline[-1] in made.stop_token_ids
        assert made.manifest.name == "model, 2-shot"
    assert not Path(made.path).exists()
    assert not (untuned / "pubmark.json").exists()


def test_a_chat_template_frames_it(nano: Checkpoint, untuned: Path) -> None:
    file = untuned / "tokenizer_config.json"
    template = (
        "{% for m in messages %}[{{ m['role'] }}] {{ m['content'] | trim }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '\n[answer]\n' }}{% endif %}"
    )
    file.write_text(json.dumps(json.loads(file.read_text()) | {"chat_template": template}))
    task = nano.manifest.task
    with few_shot_checkpoint(str(untuned), task, {n: [] for n in task.entity_types}) as made:
        before, after = made.manifest.task.pieces(["gene"])
        assert before.startswith("[user] Mark every mention of the entity type gene")
        assert before.endswith("\n\nInput:\n") and after == "\nOutput:\n[answer]\n"


def test_a_model_that_is_not_there(tmp_path: Path, nano: Checkpoint) -> None:
    with (
        pytest.raises(UsageError, match="does not exist"),
        few_shot_checkpoint(str(tmp_path / "no"), nano.manifest.task, {}),
    ):
        pass
