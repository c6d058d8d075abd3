"""Tokenizers and generation settings of a converted model, as the original sets them up from its base models."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from transformers import AutoConfig, AutoTokenizer, BertTokenizer, GenerationConfig, PreTrainedTokenizerBase

from model.errors import InputError
from model.extras import require_extra

PAD_TOKEN = "[PAD]"
LLAMA_START, LLAMA_END = "<s>", "</s>"
QFORMER_START = "[DEC]"
"""Token that LAVIS adds to BERT's vocabulary: never produced, but it has a row in the embedding."""

ORIGINAL_SEARCH: dict[str, Any] = {
    "num_beams": 1,
    "repetition_penalty": 1.5,
    "length_penalty": 1.0,
    # Counts the placeholder that every sequence starts with, so 127 new tokens.
    "max_length": 128,
}
"""How `infer_subtasks.py` of the original generates."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LanguageVocabulary:
    """The vocabulary of a language model, made ready for batches."""

    tokenizer: PreTrainedTokenizerBase
    has_new_pad: bool
    """Whether the token for padding was added here, so that the model's own files have no row for it."""


def load_text_config(folder: Path) -> Any:
    """Load the config of a language model.

    Raises:
        InputError: there is none, or none of a language model that transformers knows.
    """
    if not (folder / "config.json").is_file():
        raise InputError(
            f"no config.json in {folder}",
            expected="a language model's folder with config.json and tokenizer",
            remedy="give that with --language-model",
        )
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except (ValueError, KeyError, TypeError, OSError, StrictDataclassError) as problem:
        raise InputError(
            f"{folder / 'config.json'}: {' '.join(str(problem).split())[:200]}",
            expected="the config of a causal language model that transformers knows",
            remedy="give such a folder with --language-model",
        ) from None
    if not hasattr(config, "vocab_size"):
        raise InputError(
            f"{folder / 'config.json'} is of a {config.model_type} model",
            expected="one of a language model alone, such as llama",
            remedy="give such a folder with --language-model",
        )
    # Where it came from is nobody's business on another machine.
    config.name_or_path = ""
    return config


def load_language_vocabulary(folder: Path) -> LanguageVocabulary:
    """Load the tokenizer of a language model; prompts are padded on the left.

    As in the original, Vicuna's gets the token `[PAD]`, and begins, ends and doubts with `</s>`: prompts start with
    id 2. Other families keep their own special tokens, and get `[PAD]` only where they have none for padding.

    Raises:
        InputError: there is no tokenizer, or only a `tokenizer.model` and the extra convert is missing.
    """
    if (folder / "tokenizer.model").is_file() and not (folder / "tokenizer.json").is_file():
        require_extra("convert", use=f"{folder / 'tokenizer.model'}, a vocabulary of SentencePiece,")
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(
            folder, padding_side="left", truncation_side="left", trust_remote_code=False
        )
    except (ValueError, OSError, KeyError, ImportError, TypeError) as problem:
        raise InputError(
            f"no tokenizer can be read in {folder}: {' '.join(str(problem).split())[:200]}",
            expected="tokenizer.model or tokenizer.json with tokenizer_config.json",
            remedy="add the files of the language model",
        ) from None
    n_own = len(tokenizer)
    is_llama = (tokenizer.bos_token, tokenizer.eos_token) == (LLAMA_START, LLAMA_END)
    if is_llama or tokenizer.pad_token is None:
        # Some files of Vicuna name <unk> for padding, which the original overrides.
        tokenizer.add_special_tokens({"pad_token": PAD_TOKEN})
    if is_llama:
        if tokenizer.init_kwargs.get("add_bos_token") is None:
            # What the original's transformers 4.33 takes it to be where the files say nothing.
            tokenizer.add_bos_token = True
        tokenizer.add_special_tokens({"bos_token": LLAMA_END, "eos_token": LLAMA_END, "unk_token": LLAMA_END})
        # Else the tokenizer goes on putting the former first token before its texts.
        tokenizer.update_post_processor()
    return LanguageVocabulary(tokenizer=tokenizer, has_new_pad=len(tokenizer) > n_own)


def load_qformer_tokenizer(path: Path, *, max_text_tokens: int, n_rows: int) -> PreTrainedTokenizerBase:
    """Load BERT's vocabulary the way the original does.

    Args:
        path: Folder with `vocab.txt`, or that file.
        max_text_tokens: Prompts longer than this lose their beginning.
        n_rows: Of the Q-Former's embedding.

    Raises:
        InputError: there is no vocabulary, or one of another size.
    """
    vocabulary = path / "vocab.txt" if path.is_dir() else path
    # Only what a tokenizer is made with is saved with it.
    sides: dict[str, Any] = {
        "truncation_side": "left",
        "padding_side": "right",
        "model_max_length": max_text_tokens,
    }
    if vocabulary.name.endswith(".txt") and vocabulary.is_file():
        tokenizer = BertTokenizer(vocab=str(vocabulary), do_lower_case=True, **sides)
    elif (path / "tokenizer.json").is_file():
        tokenizer = BertTokenizer.from_pretrained(path, **sides)
    else:
        raise InputError(
            f"no vocab.txt at {path}",
            expected="the vocabulary of bert-base-uncased",
            remedy="give its folder or file with --qformer-tokenizer",
        )
    tokenizer.add_special_tokens({"bos_token": QFORMER_START})
    if len(tokenizer) != n_rows:
        raise InputError(
            f"{path} has {len(tokenizer)} words with {QFORMER_START}",
            expected=f"{n_rows}, the rows of the Q-Former's embedding",
            remedy="give the vocabulary of bert-base-uncased with --qformer-tokenizer",
        )
    return tokenizer


def make_generation_config(
    text_config: Any, *, tokenizer: PreTrainedTokenizerBase, suppressed_ids: list[int]
) -> GenerationConfig:
    """Give the settings under which the original generates.

    It starts every sequence with a placeholder that the language model is never fed, but that lengths and the
    repetition penalty count: `decoder_start_token_id` here.

    Args:
        text_config: Config of the language model.
        tokenizer: Its tokenizer.
        suppressed_ids: Tokens that must not be generated.
    """
    end = text_config.eos_token_id if text_config.eos_token_id is not None else tokenizer.eos_token_id
    start = text_config.bos_token_id if text_config.bos_token_id is not None else tokenizer.bos_token_id
    pad = text_config.pad_token_id if text_config.pad_token_id is not None else tokenizer.pad_token_id
    return GenerationConfig(
        **ORIGINAL_SEARCH,
        decoder_start_token_id=start,
        bos_token_id=start,
        eos_token_id=end,
        pad_token_id=pad,
        suppress_tokens=suppressed_ids or None,
    )


def write_json(path: Path, value: Any) -> None:
    """Write a file of JSON that people can read."""
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
