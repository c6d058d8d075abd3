"""Text and pixels in and out of the processor."""

import numpy as np
import pytest
import torch

from model.errors import InputError
from model.processing import DeltaVlmProcessor

ANSWER = "roads: ['top-left', 'center-center']. buildings: []."


def test_tokenizers_round_trip(processor):
    ids = processor.tokenizer(ANSWER)["input_ids"]
    assert processor.decode_answers(torch.tensor([ids])) == [ANSWER]
    assert processor.tokenizer.convert_ids_to_tokens(ids)[0] == "<s>"
    assert "top-left" in processor.tokenizer.convert_ids_to_tokens(ids)


@pytest.mark.parametrize("text", ["naïve façade — 建物 🏠", "\t two\n lines ", ""])
def test_any_text_can_be_read(processor, text):
    ids = processor.tokenizer(text)["input_ids"]
    assert processor.decode_answers(torch.tensor([ids])) == [text.strip()]


def test_prompts_are_padded_on_the_side_each_reader_needs(processor):
    text = processor.prepare_prompts(["Yes", "Please judge whether"])
    assert text["attention_mask"][0].tolist() == sorted(text["attention_mask"][0].tolist())
    assert text["qformer_attention_mask"][0].tolist() == sorted(
        text["qformer_attention_mask"][0].tolist(), reverse=True
    )


def test_the_qformer_reads_lower_case_and_the_end_of_what_is_too_long(processor):
    read = processor.prepare_prompts(["YES", "yes", "road " * 300 + "changed"])["qformer_input_ids"]
    assert read[0].tolist() == read[1].tolist()
    assert read.shape[1] == 128
    assert processor.decode_answers(read[2:])[0].endswith("changed")


def test_pixels_are_scaled(processor):
    pairs = np.zeros((1, 2, 3, 192, 192), np.uint8)
    pairs[0, 1] = 255
    prepared = processor.prepare_pairs(pairs)
    assert prepared.dtype == torch.float32
    torch.testing.assert_close(prepared[0, 0], torch.full((3, 192, 192), -127 / 128))
    torch.testing.assert_close(prepared[0, 1], torch.ones(3, 192, 192))


@pytest.mark.parametrize(
    "pairs",
    [
        np.zeros((1, 2, 3, 8, 8), np.float32),
        np.zeros((2, 3, 8, 8), np.uint8),
        np.zeros((1, 2, 4, 8, 8), np.uint8),
    ],
)
def test_other_pixels_are_refused(processor, pairs):
    with pytest.raises(ValueError, match="expected uint8 and"):
        processor.prepare_pairs(pairs)


@pytest.mark.parametrize(
    "name", ["preprocessor_config.json", "tokenizer_config.json", "qformer_tokenizer/tokenizer_config.json"]
)
def test_a_missing_file_is_named(processor, tmp_path, name):
    processor.save_pretrained(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(InputError, match=f"no {name} in"):
        DeltaVlmProcessor.from_pretrained(tmp_path)


def test_processor_is_saved_whole(processor, tmp_path):
    processor.save_pretrained(tmp_path)
    loaded = DeltaVlmProcessor.from_pretrained(tmp_path)
    assert loaded.images == processor.images
    before, after = processor.prepare_prompts([ANSWER, "YES"]), loaded.prepare_prompts([ANSWER, "YES"])
    assert all(torch.equal(before[name], after[name]) for name in before)
