"""Tasks: what to mark and how to ask for it."""

from typing import Any

import pytest
from pydantic import ValidationError

from schemas.task import Task

TYPES = {
    "disease": {"definition": "A disorder."},
    "gene": {"definition": "A gene {or product}.", "prompt": "<gene>"},
}


def task(**changes: Any) -> Task:
    return Task.model_validate({"entity_types": TYPES, "template": "{type}: {text}"} | changes)


@pytest.mark.parametrize(
    ("template", "entity_type", "pieces"),
    [
        ("Mark {type}: {text}", "disease", ("Mark disease: ", "")),
        ("Mark {type}: {text}", "gene", ("Mark <gene>: ", "")),
        ("{text}\n{definition} {type}", "disease", ("", "\nA disorder. disease")),
        ("{type}{text} {other} {}", "gene", ("<gene>", " {other} {}")),
        ("{definition}{text}", "gene", ("A gene {or product}.", "")),
    ],
)
def test_the_template_of_one_type(template: str, entity_type: str, pieces: tuple[str, str]) -> None:
    assert task(template=template).pieces([entity_type]) == pieces


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"template": "Mark {type}"}, "must hold {text} exactly once"),
        ({"template": "{type} {text} {text}"}, "must hold {text} exactly once"),
        ({"template": "<s>{text}"}, "must hold {type} or {definition}"),
        ({"entity_types": {}}, "at least 1 item"),
        ({"unit": "abstract"}, "'sentence' or 'passage'"),
        ({"codec": "json"}, "'mark' or 'tags'"),
        ({"ask": "all"}, "codec mark cannot tell types apart"),
        ({"max_text_tokens": 7}, "greater than or equal to 8"),
        ({"decoding": {"temperature": -1}}, "greater than or equal to 0"),
        ({"decoding": {"beams": 4}}, "Extra inputs are not permitted"),
        ({"colour": "red"}, "Extra inputs are not permitted"),
        ({"entity_types": {"gene": {}}}, "Field required"),
    ],
)
def test_a_task_that_cannot_be_done_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        task(**changes)
    assert message in str(caught.value)


def test_a_task_of_one_type_need_not_name_it() -> None:
    one = task(entity_types={"disease": TYPES["disease"]}, template="<s>{text}")
    assert one.pieces(["disease"]) == ("<s>", "")


def test_one_prompt_asks_for_all_types_or_for_each() -> None:
    assert task().questions() == [("disease",), ("gene",)]
    whole = task(ask="all", codec="tags", type_separator=" and ")
    assert whole.questions() == [("disease", "gene")]
    assert whole.pieces(["disease", "gene"]) == ("disease and <gene>: ", "")


def test_some_types_are_kept_in_the_order_of_the_task() -> None:
    assert list(task().only(["gene", "disease"]).entity_types) == ["disease", "gene"]
    assert list(task().only(["gene"]).entity_types) == ["gene"]
    # By the task's own names, in whatever case they are given.
    assert list(task().only(["GENE", "Disease"]).entity_types) == ["disease", "gene"]


@pytest.mark.parametrize("names", [["gene", "cell", "virus"], []], ids=["unknown", "none"])
def test_types_that_it_does_not_have_are_refused(names: list[str]) -> None:
    unknown = "unknown entity type cell, virus" if names else "no entity type"
    with pytest.raises(ValueError, match=f"^{unknown}; valid: disease, gene$"):
        task().only(names)


def test_a_task_comes_back_from_json_in_its_order() -> None:
    again = Task.model_validate_json(task().model_dump_json())
    assert again == task()
    assert list(again.entity_types) == ["disease", "gene"]
