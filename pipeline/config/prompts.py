"""The questions put to every tile."""

from __future__ import annotations

from importlib import resources

import yaml
from pydantic import Field, field_validator

from model.interface import Prompt, PromptKind
from pipeline.config.loading import StrictConfig


class PromptConfig(StrictConfig):
    """One question put to every tile."""

    name: str = Field(
        pattern=r"^[a-z][a-z0-9_]*$",
        description="Unique name; an `ask` prompt's answers become the column of that name.",
    )
    kind: PromptKind = Field(description="describe, classify, count, locate or ask.")
    text: str = Field(min_length=1, max_length=2000, description="The words the model reads.")

    @field_validator("kind")
    @classmethod
    def _refuse_dialogue(cls, value: PromptKind) -> PromptKind:
        if value is PromptKind.DIALOGUE:
            raise ValueError("a run asks single questions; dialogue belongs to a conversation about one tile")
        return value

    def to_prompt(self) -> Prompt:
        """Give the plain value that the model takes."""
        return Prompt(name=self.name, kind=self.kind, text=self.text)


def load_default_prompts() -> tuple[PromptConfig, ...]:
    """Read ``configs/prompts.yaml``: one prompt each to describe, classify, count and locate."""
    text = resources.files("configs").joinpath("prompts.yaml").read_text(encoding="utf-8")
    return tuple(PromptConfig.model_validate(entry) for entry in yaml.safe_load(text)["prompts"])
