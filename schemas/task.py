"""A task: what to mark and how to ask for it. Written as YAML, carried in ``pubmark.json``."""

from collections.abc import Sequence
from typing import Literal, Self

from pydantic import Field, model_validator

from schemas.strict import Strict

PLACEHOLDERS = ("{text}", "{type}", "{definition}")


class EntityType(Strict):
    """One kind of thing to mark."""

    definition: str = Field(description="One line: what counts as a mention of this type.")
    prompt: str | None = Field(
        None, description="What {type} in the template becomes; the type's name if not given."
    )


class Decoding(Strict):
    """How a completion is generated."""

    temperature: float = Field(0.0, ge=0, description="0 is greedy.")
    max_tokens_per_text_token: float | None = Field(
        None,
        gt=0,
        description="Token limit of a completion, per token of the text asked about; if not given, "
        "as many as a text needs of which every second token is a mention.",
    )
    max_tokens_extra: int = Field(32, ge=0, description="Tokens on top of that limit.")


class Task(Strict):
    """The entity types, the template, the unit of a prompt, the codec and the decoding settings.

    ``template`` has ``{text}`` exactly once. What comes before it is encoded as the same token ids
    in every prompt of a type, so put there what prompts share: vLLM's prefix cache then serves it.
    """

    entity_types: dict[str, EntityType] = Field(
        min_length=1, description="The entity types by name, each with a definition."
    )
    template: str = Field(
        description="The prompt: {text} stands for the text, {type} and {definition} for what is "
        "asked. What comes before {text} is shared by prompts and cached."
    )
    unit: Literal["sentence", "passage"] = Field(
        "sentence", description="passage: as many whole sentences as max_text_tokens allows."
    )
    codec: Literal["mark", "tags"] = Field(
        "mark", description="How an answer marks mentions: <mark>…</mark>, or a tag for each type."
    )
    ask: Literal["each", "all"] = Field(
        "each", description="A prompt for each entity type, or one for all (codec tags only)."
    )
    type_separator: str = Field(
        ", ", description="Stands between entity types where {type} names several."
    )
    max_text_tokens: int = Field(
        512, ge=8, description="Longest text in one prompt, in tokens; longer sentences are split."
    )
    decoding: Decoding = Field(Decoding(), description="How a completion is generated.")

    @model_validator(mode="after")
    def _check_template(self) -> Self:
        if self.template.count("{text}") != 1:
            raise ValueError("template must hold {text} exactly once")
        if len(self.entity_types) > 1 and not any(p in self.template for p in PLACEHOLDERS[1:]):
            raise ValueError("template of several entity types must hold {type} or {definition}")
        if self.ask == "all" and self.codec == "mark":
            raise ValueError("codec mark cannot tell types apart: ask each, or use codec tags")
        return self

    def questions(self) -> list[tuple[str, ...]]:
        """For each prompt about a unit of text, the entity types that it asks for."""
        names = tuple(self.entity_types)
        return [names] if self.ask == "all" else [(name,) for name in names]

    def only(self, names: list[str]) -> Self:
        """The same task with only some of its entity types, in the task's own order and by its own
        names: those given may differ from them in case.

        Raises:
            ValueError: if ``names`` is empty or has a name that the task does not have. The message
                lists the names that it has.
        """
        if not names:
            raise ValueError(f"no entity type; valid: {', '.join(self.entity_types)}")
        own = {n.casefold(): n for n in reversed(self.entity_types)}
        asked = [n if n in self.entity_types else own.get(n.casefold(), n) for n in names]
        if unknown := [n for n in asked if n not in self.entity_types]:
            raise ValueError(
                f"unknown entity type {', '.join(unknown)}; valid: {', '.join(self.entity_types)}"
            )
        kept = {n: t for n, t in self.entity_types.items() if n in asked}
        return self.model_copy(update={"entity_types": kept})

    def pieces(self, names: Sequence[str]) -> tuple[str, str]:
        """The template, filled in for these entity types: its parts before and after the text."""
        types = {name: self.entity_types[name] for name in names}
        asked = self.type_separator.join(t.prompt or name for name, t in types.items())
        definitions = " ".join(t.definition for t in types.values())
        before, after = (
            part.replace("{type}", asked).replace("{definition}", definitions)
            for part in self.template.split("{text}")
        )
        return before, after


class CheckpointManifest(Strict):
    """``pubmark.json``: what a checkpoint was tuned for."""

    format_version: Literal[1] = 1
    name: str
    description: str
    task: Task
    base_digest: str | None = Field(
        None, description="Of an adapter: engine.checkpoints.load.digest_weights of its base."
    )
