"""Settings of the model that answers."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from model.interface import ENDPOINT_PREFIX
from pipeline.config.loading import StrictConfig


class ModelConfig(StrictConfig):
    """Which model answers, and how."""

    name: str = Field(
        default="deltavlm-tiny",
        description="A model that ships or that an installed package brings, a folder in transformers' layout, or "
        "openai:URL#NAME for one behind an OpenAI-compatible server.",
    )
    device: str = Field(default="auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$", description="auto, cpu, cuda or cuda:N.")
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        default="auto",
        description="Precision; auto: bfloat16 on CUDA and on CPUs with instructions for it, else float32.",
    )
    quantize: Literal["off", "int8"] = Field(
        default="off",
        description="int8: linear layers of the language model and of the vision tower in a quarter of float32's "
        "memory, the rest in float32; for x86 CPUs without instructions for bfloat16. See docs/full-size.md.",
    )
    batch_size_tiles: int = Field(default=64, ge=1, le=512, description="Most tiles in one pass of the model.")
    outside: Literal["stop", "warn"] = Field(
        default="stop",
        description="What happens where scenes or tiles are other than what the model was made for: stop says so and "
        "ends; warn goes on and says so in the report.",
    )
    outlines: Literal["auto", "off"] = Field(
        default="auto",
        description="How the report draws changes. auto: as outlines, for the kinds that the model has masks "
        "of, else as cells; off: as cells.",
    )

    screening: Literal["auto", "off", "changed"] = Field(
        default="auto",
        description="Which tiles are asked more than whether they changed. off: all; changed: those that may have, "
        "by the answer to the classify prompt; auto: changed for openai: models, else off.",
    )
    screening_confidence: float = Field(
        default=0.95,
        ge=0.5,
        le=1,
        description="With screening: a tile that is called unchanged with at least this confidence is asked no more.",
    )

    @property
    def precision(self) -> str:
        """How weights are held: ``int8`` where they are quantized, else `dtype`."""
        return self.dtype if self.quantize == "off" else self.quantize

    @property
    def is_screening(self) -> bool:
        """Whether tiles are screened, given a prompt that can."""
        return self.screening == "changed" or (self.screening == "auto" and self.name.startswith(ENDPOINT_PREFIX))

    @property
    def reads_context(self) -> bool:
        """Whether the model is told dates, place and size of a tile: general models are."""
        return self.name.startswith(ENDPOINT_PREFIX)

    @model_validator(mode="after")
    def _check_quantize(self) -> Self:
        if self.quantize == "off":
            return self
        problem = None
        if self.device.startswith("cuda"):
            problem = "is for CPUs; a GPU computes in bfloat16, a half of float32"
        elif self.name.startswith(ENDPOINT_PREFIX):
            problem = "is for models in a folder, not for one behind a server"
        elif self.dtype == "bfloat16":
            problem = "computes the rest in float32; leave model.dtype at auto"
        if problem is not None:
            raise ValueError(f"quantize: {self.quantize} {problem}")
        return self

    @field_validator("outlines", "quantize", "screening", mode="before")
    @classmethod
    def _read_off(cls, value: Any) -> Any:
        # YAML takes a plain off for false.
        return "off" if value is False else value
