"""The searches, against transformers' own generate and against worked examples."""

import itertools
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from transformers import GenerationConfig

from model.decoding.search import search
from model.decoding.steps import BeamScoring, SearchSettings, adjust_scores


@pytest.fixture
def language_model(model):
    return model.language_model


@pytest.fixture
def settings(processor) -> SearchSettings:
    tokenizer = processor.tokenizer
    return SearchSettings(eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id)


def make_prefix(language_model, *, n_rows: int = 5, seed: int = 5) -> Tensor:
    width = language_model.config.hidden_size
    return torch.randn(n_rows, 9, width, generator=torch.Generator().manual_seed(seed))


def generate(language_model, prefix: Tensor, *, mask: Tensor | None = None, **kwargs):
    with torch.inference_mode():
        return language_model.generate(
            inputs_embeds=prefix,
            attention_mask=torch.ones(prefix.shape[:2], dtype=torch.int64) if mask is None else mask,
            do_sample=False,
            return_dict_in_generate=True,
            **kwargs,
        )


@torch.inference_mode()
def find(language_model, prefix: Tensor, settings: SearchSettings, *, max_new_tokens: int, mask: Tensor | None = None):
    return search(language_model, prefix, settings=settings, max_new_tokens=max_new_tokens, attention_mask=mask)


def test_greedy_search_agrees_with_transformers(language_model, settings):
    prefix = make_prefix(language_model)
    found = find(language_model, prefix, settings, max_new_tokens=12)
    expected = generate(language_model, prefix, max_new_tokens=12, output_logits=True)
    assert found.token_ids[:, : expected.sequences.shape[1]].tolist() == expected.sequences.tolist()
    chances = torch.stack([logits.softmax(-1).amax(-1) for logits in expected.logits], dim=1)
    is_real = expected.sequences != settings.pad_token_id
    torch.testing.assert_close(found.confidence, (chances * is_real).sum(1) / is_real.sum(1))


@pytest.mark.parametrize("penalty", [1.5, 0.8])
def test_penalised_search_agrees_with_transformers(language_model, settings, penalty):
    prefix = make_prefix(language_model)
    found = find(language_model, prefix, replace(settings, repetition_penalty=penalty), max_new_tokens=12)
    with pytest.warns(UserWarning, match="only to newly generated tokens"):
        expected = generate(language_model, prefix, max_new_tokens=12, repetition_penalty=penalty).sequences
    assert found.token_ids[:, : expected.shape[1]].tolist() == expected.tolist()


def test_padding_between_queries_and_prompt_is_not_seen(language_model, settings):
    whole = make_prefix(language_model, n_rows=2)
    # Queries at 0 to 3 and a prompt from 4 on, whose padding would stand at 4 and 5.
    mask = torch.ones(2, 9, dtype=torch.int64)
    mask[1, 4:6] = 0
    together = find(language_model, whole, settings, max_new_tokens=8, mask=mask)
    short = torch.cat([whole[1:, :4], whole[1:, 6:]], dim=1)
    alone = find(language_model, short, settings, max_new_tokens=8)
    assert together.token_ids[1].tolist() == alone.token_ids[0].tolist()
    unpadded = find(language_model, whole[:1], settings, max_new_tokens=8)
    assert together.token_ids[0].tolist() == unpadded.token_ids[0].tolist()


def test_ended_rows_leave_the_batch_unharmed(language_model, settings):
    prefix = make_prefix(language_model, n_rows=12)
    usual = find(language_model, prefix, settings, max_new_tokens=6).token_ids.tolist()
    # Let a token that one row says early and another never be the end: the first must stop there, the other go on.
    row, other, step = next(
        (row, other, step)
        for row, other, step in itertools.product(range(12), range(12), range(1, 5))
        if usual[row][step] not in usual[other] and usual[row].index(usual[row][step]) == step
    )
    ended = replace(settings, eos_token_id=usual[row][step])
    stopped = find(language_model, prefix, ended, max_new_tokens=6).token_ids.tolist()
    assert stopped[row] == usual[row][: step + 1] + [settings.pad_token_id] * (5 - step)
    assert stopped[other] == usual[other]


@pytest.mark.filterwarnings("ignore:Passing `repetition_penalty`:UserWarning")
@pytest.mark.parametrize(("length_penalty", "repetition_penalty"), [(1.0, 1.0), (-1.0, 1.0), (2.0, 1.3)])
def test_stock_beams_are_those_of_transformers(language_model, settings, length_penalty, repetition_penalty):
    prefix = make_prefix(language_model)
    wanted = {"num_beams": 3, "length_penalty": length_penalty, "repetition_penalty": repetition_penalty}
    found = find(language_model, prefix, replace(settings, **wanted), max_new_tokens=8)
    expected = generate(language_model, prefix, max_new_tokens=8, output_scores=True, **wanted)
    assert found.token_ids.tolist() == expected.sequences.tolist()
    torch.testing.assert_close(found.scores, expected.sequences_scores)
    assert ((found.confidence > 0) & (found.confidence < 1)).all()


def test_one_original_beam_that_cannot_branch_is_greedy(language_model, settings):
    """With a beam as wide as two steps can fill, the best of all two-token sequences must come out."""
    prefix = make_prefix(language_model, n_rows=2)
    n_words = language_model.config.vocab_size
    wide = replace(
        settings, num_beams=n_words, beam_scoring=BeamScoring.ORIGINAL, start_token_id=1, eos_token_id=n_words + 1
    )
    with torch.inference_mode():
        first = language_model(inputs_embeds=prefix).logits[:, -1].log_softmax(-1)
        embed = language_model.get_input_embeddings().weight
        best = []
        for row in range(2):
            extended = torch.cat([prefix[row].expand(n_words, -1, -1), embed[:, None]], dim=1)
            second = language_model(inputs_embeds=extended).logits[:, -1].log_softmax(-1)
            total = first[row][:, None] + second
            flat = int(total.argmax())
            best.append(([flat // n_words, flat % n_words], float(total.max()) / 3))
        found = search(language_model, prefix, settings=wide, max_new_tokens=2)
    assert found.token_ids.tolist() == [tokens for tokens, _ in best]
    # Two tokens and the start token: a length of three.
    assert found.scores.tolist() == pytest.approx([score for _, score in best], rel=1e-4)


def test_penalty_covers_the_start_token_and_what_was_said(settings):
    penalised = replace(settings, repetition_penalty=2.0, start_token_id=0, suppressed_ids=(3,))
    scores = torch.tensor([[1.0, -1.0, 4.0, 9.0, 1.0]])
    adjusted = adjust_scores(scores, settings=penalised, token_ids=torch.tensor([[1, 2]]))
    assert adjusted.tolist() == [[0.5, -2.0, 2.0, -torch.inf, 1.0]]
    assert scores.tolist() == [[1.0, -1.0, 4.0, 9.0, 1.0]]


@pytest.mark.parametrize("num_beams", [1, 3])
@pytest.mark.parametrize("beam_scoring", list(BeamScoring))
def test_suppressed_tokens_are_never_said(language_model, settings, num_beams, beam_scoring):
    prefix = make_prefix(language_model)
    said = set(find(language_model, prefix, settings, max_new_tokens=4).token_ids.flatten().tolist())
    banned = tuple(said - {settings.eos_token_id, settings.pad_token_id})
    quiet = replace(settings, suppressed_ids=banned, num_beams=num_beams, beam_scoring=beam_scoring)
    now = set(find(language_model, prefix, quiet, max_new_tokens=4).token_ids.flatten().tolist())
    assert not now & set(banned)


def test_settings_come_from_the_generation_config(tmp_path):
    settings = SearchSettings.from_folder(tmp_path, eos_token_id=2, pad_token_id=0)
    assert settings == SearchSettings(eos_token_id=2, pad_token_id=0)
    assert settings.limit_new_tokens(48) == 48
    GenerationConfig(
        num_beams=5,
        repetition_penalty=1.5,
        length_penalty=0.5,
        max_length=24,
        decoder_start_token_id=1,
        suppress_tokens=[7],
        beam_scoring="original",
    ).save_pretrained(tmp_path)
    settings = SearchSettings.from_folder(tmp_path, eos_token_id=2, pad_token_id=0)
    assert settings == SearchSettings(
        eos_token_id=2,
        pad_token_id=0,
        num_beams=5,
        repetition_penalty=1.5,
        length_penalty=0.5,
        max_length=24,
        start_token_id=1,
        suppressed_ids=(7,),
        beam_scoring=BeamScoring.ORIGINAL,
    )
    assert settings.limit_new_tokens(48) == 23
