"""What a training teaches to say: borrowed captions, open questions, dialogues, and a vocabulary learned anew."""

import json
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from training_material import make_processor, make_values, write_small_model
from training_pairs import make_images, write_pairs

from model.interface import Prompt, PromptKind
from model.modeling import DeltaVlmForConditionalGeneration
from model.pairs.captions import CaptionPool
from model.pairs.folders import LabelledPair
from model.processing import DeltaVlmProcessor
from model.registry import find_model_folder, load_model
from model.training.augmentation import Augmentation
from model.training.dataset import InstructionStream, PairSource
from model.training.model_building import build_model, renew_vocabulary
from model.training.recipe import TrainingConfig
from model.training.trainer import train
from model.training.vocabulary import carry_embeddings, train_tokenizer, wrap_language_tokenizer, wrap_qformer_tokenizer

DESCRIBE = Prompt(name="description", kind=PromptKind.DESCRIBE, text="Describe the changes.")
BORROWED = "a villa is built beside the road ."
STILL = Augmentation(colour_shift=0, gamma_range=(1, 1), unchanged_fraction=0, removal_fraction=0, shift_px=0)


def make_pair(*, n_buildings: int, captions: tuple[str, ...] = ()) -> LabelledPair:
    before, after, mask = make_images(n_buildings=n_buildings, seed=n_buildings)
    return LabelledPair(name="made", before=before, after=after, mask=mask, has_road_truth=False, captions=captions)


def make_stream(pair: LabelledPair, **options) -> InstructionStream:
    return InstructionStream(
        [PairSource(pairs=[pair], crop_size_px=96, weight=1.0)],
        **{"prompts": [DESCRIBE], "image_size": 96, "prompts_per_pair": 1, "augmentation": STILL, "seed": 0} | options,
    )


@pytest.mark.parametrize(
    ("pair", "expected"),
    [
        (make_pair(n_buildings=1), BORROWED),
        (make_pair(n_buildings=1, captions=("a barn was put up .",)), "a barn was put up ."),
    ],
    ids=["without", "with captions of its own"],
)
def test_a_pair_without_captions_borrows_one(pair, expected):
    pool = CaptionPool([[BORROWED] * 5] * 2)
    assert {sample.turns[0][1].text for sample in islice(make_stream(pair, captions=pool), 5)} == {expected}


def test_where_nothing_can_be_borrowed_the_mask_speaks():
    pool = CaptionPool([[BORROWED] * 5] * 2)
    texts = {sample.turns[0][1].text for sample in islice(make_stream(make_pair(n_buildings=2), captions=pool), 5)}
    assert BORROWED not in texts
    assert all("two" in text for text in texts)


def test_open_questions_and_dialogues_are_asked_where_the_config_says_so():
    stream = make_stream(make_pair(n_buildings=2), has_questions=True, prompts_per_pair=4)
    samples = list(islice(stream, 8))
    assert all(set(sample.kinds) == {PromptKind.DESCRIBE, PromptKind.ASK, PromptKind.DIALOGUE} for sample in samples)
    by_kind = dict(zip(samples[0].kinds, samples[0].turns, strict=True))
    assert by_kind[PromptKind.DIALOGUE][0].startswith("q: ")
    assert not by_kind[PromptKind.ASK][0].startswith("q: ")


def test_without_borrowing_what_is_new_is_described_by_those_who_saw_it():
    pool = CaptionPool([[BORROWED] * 5] * 2)
    options = {"captions": pool, "borrows_captions": False, "has_questions": True, "prompts_per_pair": 4}
    seen = list(islice(make_stream(make_pair(n_buildings=1), **options), 20))
    assert all(PromptKind.DESCRIBE not in sample.kinds for sample in seen)
    assert BORROWED not in {answer.text for sample in seen for _, answer in sample.turns}
    own = make_pair(n_buildings=1, captions=("a barn was put up .",))
    assert all(PromptKind.DESCRIBE in sample.kinds for sample in islice(make_stream(own, **options), 5))


def test_where_people_and_mask_disagree_only_words_are_learned():
    pair = replace(make_pair(n_buildings=0, captions=("a road is built .", "a path appears .")), is_flagged=True)
    sample = next(iter(make_stream(pair, has_questions=True, prompts_per_pair=4)))
    assert sample.kinds == (PromptKind.DESCRIBE,)
    assert sample.facts is None
    assert sample.details is not None


def test_captions_turn_with_their_pair():
    pair = make_pair(n_buildings=1, captions=("a house is built at the top left .",))
    texts = {sample.turns[0][1].text for sample in islice(make_stream(pair), 40)}
    assert texts == {
        f"a house is built at the {row} {side} ." for row in ("top", "bottom") for side in ("left", "right")
    }


def test_embeddings_are_carried_over_by_token():
    former = wrap_language_tokenizer(train_tokenizer(["house house road"] * 50, vocab_size=300))
    renewed = wrap_language_tokenizer(train_tokenizer(["house housetop villa villa"] * 50, vocab_size=310))
    weights = torch.randn(len(former), 4)
    carried = carry_embeddings(weights, former=former, renewed=renewed)
    assert carried.shape == (len(renewed), 4)
    (old,), (new,) = (t("house", add_special_tokens=False)["input_ids"] for t in (former, renewed))
    assert torch.equal(carried[new], weights[old])
    (villa,) = renewed(" villa", add_special_tokens=False)["input_ids"]
    pieces = former(" villa", add_special_tokens=False)["input_ids"]
    torch.testing.assert_close(carried[villa], weights[pieces].mean(dim=0))


def test_a_renewed_vocabulary_fits_both_readers(tmp_path):
    write_small_model(tmp_path / "small")
    model = DeltaVlmForConditionalGeneration.from_pretrained(tmp_path / "small")
    tokenizer = train_tokenizer(["villas are built beside the crossroad ."] * 50, vocab_size=450)
    processor = DeltaVlmProcessor(
        images=make_processor().images,
        tokenizer=wrap_language_tokenizer(tokenizer),
        qformer_tokenizer=wrap_qformer_tokenizer(tokenizer),
    )
    renew_vocabulary(model, processor, former=DeltaVlmProcessor.from_pretrained(tmp_path / "small"))
    processor.save_pretrained(tmp_path / "renewed")
    model.save_pretrained(tmp_path / "renewed")
    answerer = load_model(str(tmp_path / "renewed"), dtype="float32")
    assert answerer.model.config.text_config.vocab_size == len(processor.tokenizer)
    pairs = np.zeros((1, 2, 3, 96, 96), np.uint8)
    assert answerer.answer_prompts(pairs, prompts=[DESCRIBE])[0][0].confidence > 0


def test_a_training_learns_words_that_the_model_did_not_have(tmp_path):
    write_pairs(tmp_path / "pairs", n_pairs=4)
    write_small_model(tmp_path / "small")
    image = {"split": "train", "changeflag": 1, "sentences": [{"raw": BORROWED}] * 5}
    (tmp_path / "captions.json").write_text(json.dumps({"images": [image] * 3}))
    values = make_values(model=tmp_path / "small", n_steps=2)
    values["prompts"] = [{"name": p["name"], "kind": p["kind"], "text": p["text"]} for p in values["prompts"]] + [
        {"name": DESCRIBE.name, "kind": DESCRIBE.kind.value, "text": DESCRIBE.text}
    ]
    values |= {"caption_pool": "captions.json", "renews_vocabulary": True, "has_questions": True, "vocab_size": 1400}
    result = train(TrainingConfig.model_validate(values), output=tmp_path / "out", data_root=tmp_path)
    tokenizer = DeltaVlmProcessor.from_pretrained(result.folder).tokenizer
    assert len(tokenizer(" villa", add_special_tokens=False)["input_ids"]) == 1
    load_model(str(result.folder), dtype="float32")


def test_another_language_model_brings_its_own_vocabulary():
    values = {"sources": [{"path": "."}], "n_steps": 1, "renews_vocabulary": True, "language_model": "small"}
    with pytest.raises(ValidationError, match="renews_vocabulary beside language_model"):
        TrainingConfig.model_validate(values)


@pytest.mark.parametrize(
    ("settings", "learns"),
    [
        ({"sources": [{"kind": "folder", "path": "."}]}, False),
        ({"sources": [{"kind": "folder", "path": "."}], "has_questions": True}, True),
        ({"sources": [{"kind": "changechat", "path": "chat.json"}]}, True),
    ],
)
def test_a_model_that_learns_free_questions_takes_them_as_they_are(settings, learns):
    config = TrainingConfig.model_validate({"initial_weights": "deltavlm-tiny", "n_steps": 1, **settings})
    processor = DeltaVlmProcessor.from_pretrained(find_model_folder("deltavlm-tiny"))

    model = build_model(config, processor, language=None)

    assert model.config.has_open_questions is learns
