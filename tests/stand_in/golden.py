"""A set of tensors recorded from the original: our model with its weights, and what it has to give."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from original_files import rename_state
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import LlamaConfig

from model.conversion.names import infer_config
from model.conversion.vocabularies import load_language_vocabulary, load_qformer_tokenizer
from model.modeling import DeltaVlmForConditionalGeneration
from model.processing import CLIP_IMAGE_SETTINGS, DeltaVlmProcessor

TOLERANCE = 1e-5
"""Greatest difference allowed, as a fraction of the largest expected value of the tensor."""

_OTHER_THAN_SIZES = {
    "_name_or_path",
    "architectures",
    "model_type",
    "rope_scaling",
    "torch_dtype",
    "transformers_version",
}


def list_golden_sets() -> list[Path]:
    """Find the folders with a whole recorded model below the shared data; there may be several, of other sizes."""
    shared = Path(os.environ.get("DELTAVLM_SHARED", Path(__file__).parents[3] / "shared"))
    return sorted(file.parent for file in (shared / "parity").glob("*/expected.json"))


@dataclass(frozen=True)
class GoldenSet:
    """One folder of recorded data."""

    folder: Path

    @cached_property
    def config(self) -> dict[str, Any]:
        """Sizes and settings of the recorded model."""
        return json.loads((self.folder / "config.json").read_text())

    @cached_property
    def facts(self) -> dict[str, Any]:
        """Recorded texts, token ids and numbers."""
        return json.loads((self.folder / "expected.json").read_text())

    @cached_property
    def expected(self) -> dict[str, Tensor]:
        """Recorded tensors."""
        return load_file(self.folder / "expected.safetensors")

    @cached_property
    def inputs(self) -> dict[str, Tensor]:
        """What went in."""
        return load_file(self.folder / "inputs.safetensors")

    @cached_property
    def weights(self) -> dict[str, Tensor]:
        """The recorded model's parameters under the original's names, without the mask branch."""
        state = load_file(self.folder / "weights.safetensors")
        return {name: tensor for name, tensor in state.items() if not name.startswith("mask_decoder.")}

    @cached_property
    def model(self) -> DeltaVlmForConditionalGeneration:
        """Our model with these weights, in eval mode."""
        llm = {name: value for name, value in self.config["llm"].items() if name not in _OTHER_THAN_SIZES}
        config = infer_config(
            {name: tuple(tensor.shape) for name, tensor in self.weights.items()},
            text_config=LlamaConfig(**llm),
            vision_heads=self.config["vision"]["num_heads"],
            qformer_heads=self.config["qformer"]["num_attention_heads"],
        )
        # Whichever test comes first: parameters made in inference mode could not be trained.
        with torch.inference_mode(mode=False):
            model = DeltaVlmForConditionalGeneration(config).eval()
            model.load_state_dict(rename_state(self.weights))
        return model

    @cached_property
    def processor(self) -> DeltaVlmProcessor:
        """Our processor with the recorded tokenizers."""
        return DeltaVlmProcessor(
            images=CLIP_IMAGE_SETTINGS,
            tokenizer=load_language_vocabulary(self.folder / "tokenizers" / "llama").tokenizer,
            qformer_tokenizer=load_qformer_tokenizer(
                self.folder / "tokenizers" / "bert",
                max_text_tokens=self.config["max_txt_len"],
                n_rows=self.config["qformer"]["vocab_size"],
            ),
        )

    def pixels(self, keys: tuple[str, str] | list[str]) -> Tensor:
        """Give two recorded inputs as pairs, float32 of shape (n, date=2, band=3, y, x)."""
        before, after = (self.inputs[key] for key in keys)
        return torch.stack([before, after], dim=1)

    def check(self, name: str, actual: Tensor, *, where: Tensor | None = None) -> None:
        """Compare a tensor with the recorded one of this name, where a mask says so or everywhere."""
        golden = self.expected[name]
        assert actual.shape == golden.shape, f"{name}: {tuple(actual.shape)} is not {tuple(golden.shape)}"
        difference = (actual - golden).abs()
        if where is not None:
            difference = difference[where]
        assert difference.max() <= TOLERANCE * golden.abs().max(), f"{name}: off by {difference.max():.3g}"


@contextmanager
def record_outputs(modules: dict[str, nn.Module]) -> Iterator[dict[str, list[Tensor]]]:
    """Collect every output of some modules, in the order of their calls, by the name given to each."""
    outputs: dict[str, list[Tensor]] = {name: [] for name in modules}
    hooks = [
        module.register_forward_hook(
            lambda _module, _inputs, output, name=name: outputs[name].append(
                (output[0] if isinstance(output, tuple) else output).detach().clone()
            )
        )
        for name, module in modules.items()
    ]
    try:
        yield outputs
    finally:
        for hook in hooks:
            hook.remove()
