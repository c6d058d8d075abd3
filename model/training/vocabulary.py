"""The tokenizer of the small model: byte-level BPE that keeps numbers and cell names whole."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from torch import Tensor
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

PAD_TOKEN, BOS_TOKEN, EOS_TOKEN = "<pad>", "<s>", "</s>"
MAX_QFORMER_TOKENS = 128
# Words may contain hyphens, so that a cell name such as top-left is one word and in the end one token.
WORD_PATTERN = r" ?[A-Za-z]+(?:-[A-Za-z]+)*| ?[0-9]+| ?[^\sA-Za-z0-9]+|\s+"


def train_tokenizer(texts: Iterable[str], *, vocab_size: int) -> Tokenizer:
    """Learn the vocabulary from texts; every byte is in it, so that any text can be read."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORD_PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[PAD_TOKEN, BOS_TOKEN, EOS_TOKEN],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS_TOKEN} $A", special_tokens=[(BOS_TOKEN, tokenizer.token_to_id(BOS_TOKEN))]
    )
    return tokenizer


def wrap_language_tokenizer(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    """Give the language model's view: pads on the left, so that prompts end where answers begin."""
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(tokenizer.to_str()),
        pad_token=PAD_TOKEN,
        bos_token=BOS_TOKEN,
        eos_token=EOS_TOKEN,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )


def wrap_qformer_tokenizer(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    """Give the Q-Former's view: lower case, pads on the right, keeps the end of what is too long."""
    lowered = Tokenizer.from_str(tokenizer.to_str())
    lowered.normalizer = normalizers.Lowercase()
    return PreTrainedTokenizerFast(
        tokenizer_object=lowered,
        pad_token=PAD_TOKEN,
        bos_token=BOS_TOKEN,
        eos_token=EOS_TOKEN,
        padding_side="right",
        truncation_side="left",
        model_max_length=MAX_QFORMER_TOKENS,
        clean_up_tokenization_spaces=False,
    )


@torch.no_grad()
def carry_embeddings(weights: Tensor, *, former: PreTrainedTokenizerBase, renewed: PreTrainedTokenizerBase) -> Tensor:
    """Arrange rows of an embedding for a renewed vocabulary.

    Args:
        weights: Embedding of the former vocabulary, shape (former tokens, width).
        former: Its tokenizer.
        renewed: The tokenizer to come.

    Returns:
        Shape (renewed tokens, width): the row of the same token, or the mean of the pieces it was made of before.
    """
    known = former.get_vocab()
    rows = []
    for token, _ in sorted(renewed.get_vocab().items(), key=lambda entry: entry[1]):
        if token in known:
            rows.append(weights[known[token]])
        else:
            text = renewed.convert_tokens_to_string([token])
            pieces = former(text, add_special_tokens=False)["input_ids"]
            rows.append(weights[pieces].mean(dim=0))
    return torch.stack(rows)
