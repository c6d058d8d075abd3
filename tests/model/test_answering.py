"""The engine against transformers' own generate, and against itself in other batches."""

import itertools

import numpy as np
import pytest
import torch

from model.answering import DeltaVlmAnswerer
from model.interface import Prompt, PromptKind

PROMPTS = (
    Prompt(name="changed", kind=PromptKind.CLASSIFY, text="Please judge whether these two images have changed."),
    Prompt(name="count", kind=PromptKind.COUNT, text="Please determine how many roads have changed?"),
)


@pytest.fixture
def pairs() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (5, 2, 3, 64, 64), dtype=np.uint8)


@pytest.fixture
def answerer(model, processor, identity) -> DeltaVlmAnswerer:
    return DeltaVlmAnswerer(model, processor, identity=identity, batch_size_tiles=64)


def test_greedy_search_agrees_with_transformers(answerer, pairs):
    prefix = embed(answerer, pairs, PROMPTS[1])
    found = answerer.search_greedily(prefix, max_new_tokens=12)
    with torch.inference_mode():
        expected = answerer.model.language_model.generate(
            inputs_embeds=prefix,
            attention_mask=torch.ones(prefix.shape[:2], dtype=torch.int64),
            max_new_tokens=12,
            do_sample=False,
            return_dict_in_generate=True,
            output_logits=True,
        )
    assert found.token_ids[:, : expected.sequences.shape[1]].tolist() == expected.sequences.tolist()
    chances = torch.stack([logits.softmax(-1).amax(-1) for logits in expected.logits], dim=1)
    is_real = expected.sequences != answerer.processor.tokenizer.pad_token_id
    expected_confidence = (chances * is_real).sum(1) / is_real.sum(1)
    torch.testing.assert_close(found.confidence, expected_confidence)


def test_ended_rows_leave_the_batch_unharmed(answerer):
    width = answerer.model.config.text_config.hidden_size
    prefix = torch.randn(6, 9, width, generator=torch.Generator().manual_seed(5))
    tokenizer = answerer.processor.tokenizer
    usual = answerer.search_greedily(prefix, max_new_tokens=6).token_ids.tolist()
    # Let a token that one row says early and another never be the end: the first must stop there, the other go on.
    row, other, step = next(
        (row, other, step)
        for row, other, step in itertools.product(range(6), range(6), range(1, 5))
        if usual[row][step] not in usual[other] and usual[row].index(usual[row][step]) == step
    )
    usual_end = tokenizer.eos_token
    try:
        tokenizer.eos_token = tokenizer.convert_ids_to_tokens(usual[row][step])
        stopped = answerer.search_greedily(prefix, max_new_tokens=6).token_ids.tolist()
    finally:
        tokenizer.eos_token = usual_end
    assert stopped[row] == usual[row][: step + 1] + [tokenizer.pad_token_id] * (5 - step)
    assert stopped[other] == usual[other]


def embed(answerer: DeltaVlmAnswerer, pairs: np.ndarray, prompt: Prompt) -> torch.Tensor:
    text = answerer.processor.prepare_prompts([prompt.text] * len(pairs))
    with torch.inference_mode():
        query_output = answerer.model.query_differences(
            answerer.encode_pairs(pairs),
            qformer_input_ids=text["qformer_input_ids"],
            qformer_attention_mask=text["qformer_attention_mask"],
        )
        return answerer.model.prefix_embeddings(query_output, input_ids=text["input_ids"])


@pytest.mark.parametrize("batch_size_tiles", [1, 2])
def test_answers_do_not_depend_on_the_batch(answerer, pairs, model, processor, identity, batch_size_tiles):
    expected = answerer.answer_prompts(pairs, prompts=PROMPTS)
    other = DeltaVlmAnswerer(model, processor, identity=identity, batch_size_tiles=batch_size_tiles)
    answers = other.answer_prompts(pairs, prompts=PROMPTS)
    assert [[a.text for a in row] for row in answers] == [[a.text for a in row] for row in expected]
    for row, expected_row in zip(answers, expected, strict=True):
        assert [a.confidence for a in row] == pytest.approx([a.confidence for a in expected_row], abs=1e-5)


def test_there_is_an_answer_for_every_prompt_and_pair(answerer, pairs):
    answers = answerer.answer_prompts(pairs, prompts=PROMPTS)
    assert [len(row) for row in answers] == [5, 5]
    assert all(0 <= answer.confidence <= 1 for row in answers for answer in row)
    assert answerer.answer_prompts(pairs[:0], prompts=PROMPTS) == [[], []]


def test_yes_and_no_are_weighed_against_each_other(answerer):
    from model.answering import GreedyTokens

    tokenizer = answerer.processor.tokenizer
    yes, no, other = (tokenizer(word, add_special_tokens=False)["input_ids"][0] for word in ("Yes", "No", "1"))
    probabilities = torch.zeros(2, len(tokenizer))
    probabilities[0, [yes, no, other]] = torch.tensor([0.6, 0.2, 0.2])
    probabilities[1, [yes, no, other]] = torch.tensor([0.1, 0.1, 0.8])
    found = GreedyTokens(
        token_ids=torch.tensor([[yes], [other]]),
        confidence=torch.tensor([0.6, 0.8]),
        first_probabilities=probabilities,
    )
    torch.testing.assert_close(answerer._choice_confidence(found), torch.tensor([0.75, 0.8]))
