"""The engine: batches, memory, limits, what it is told of and what it refuses."""

import numpy as np
import pytest
import torch

from model.answering import DeltaVlmAnswerer
from model.decoding.steps import FoundTokens, SearchSettings
from model.decoding.yes_or_no import YesOrNo
from model.interface import NOT_ASKED, Prompt, PromptKind
from model.loading import choose_device, choose_dtype, has_cpu_bfloat16, load_weights
from model.pairs.folders import cut_tiles
from model.registry import load_model
from model.training.synthetic_pairs import synthesize_pairs

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


# A CPU without bfloat16 instructions takes seconds for each tile of that type.
@pytest.mark.parametrize(("dtype", "every"), [("float32", 2), ("bfloat16", 8), ("int8", 4)])
def test_an_answer_does_not_depend_on_its_batch(dtype, every):
    """The guarantee of `model.answering` on a CPU, with the weights that ship."""
    scenes = synthesize_pairs(range(500_000, 500_002), size_px=512, resolution_m=0.5)
    tiles = [tile for scene in scenes for tile in cut_tiles(scene, size_px=128)][::every]
    pairs = np.stack([np.stack([tile.before, tile.after]).transpose(0, 3, 1, 2) for tile in tiles])
    model = load_model("deltavlm-tiny", dtype=dtype, batch_size_tiles=64)
    prompts = [*PROMPTS, Prompt(name="location", kind=PromptKind.LOCATE, text="Where have buildings changed?")]
    expected = model.answer_prompts(pairs, prompts=prompts)
    assert len({answer.text for row in expected for answer in row}) > 3
    for batch_size_tiles in (1, 3):
        model.batch_size_tiles = batch_size_tiles
        answers = model.answer_prompts(pairs, prompts=prompts)
        for row, expected_row in zip(answers, expected, strict=True):
            assert [a.text for a in row] == [a.text for a in expected_row]
            assert [a.confidence for a in row] == pytest.approx([a.confidence for a in expected_row], abs=1e-6)


def test_masks_come_with_the_answers_and_do_not_depend_on_their_batch():
    scenes = synthesize_pairs(range(500_000, 500_001), size_px=512, resolution_m=0.5)
    tiles = [tile for scene in scenes for tile in cut_tiles(scene, size_px=128)][:11]
    pairs = np.stack([np.stack([tile.before, tile.after]).transpose(0, 3, 1, 2) for tile in tiles])
    model = load_model("deltavlm-tiny")
    answers = model.answer_prompts(pairs, prompts=PROMPTS)
    expected = model.predict_masks(pairs).probabilities
    wanted = np.arange(len(pairs)) % 3 != 1
    for batch_size_tiles in (64, 1, 5):
        model.batch_size_tiles = batch_size_tiles
        sizes = []

        def choose(numbers, some, sizes=sizes):
            sizes.append(len(numbers))
            assert [len(row) for row in some] == [len(numbers)] * len(PROMPTS)
            return wanted[numbers.start : numbers.stop]

        answered = model.answer_with_masks(pairs, prompts=PROMPTS, choose_masked=choose)

        texts = [[answer.text for answer in row] for row in answered.answers]
        assert texts == [[answer.text for answer in row] for row in answers]
        assert answered.pair_indexes.tolist() == np.flatnonzero(wanted).tolist()
        assert answered.masks.labels == model.mask_labels == model.identity.mask_labels
        np.testing.assert_array_equal(answered.masks.probabilities, expected[wanted])
        assert sum(sizes) == len(pairs)
        assert max(sizes) <= batch_size_tiles
    alone = model.answer_with_masks(pairs[:3], prompts=[], choose_masked=lambda numbers, _: wanted[: len(numbers)])
    np.testing.assert_array_equal(alone.masks.probabilities, expected[:3][wanted[:3]])


def test_pairs_that_are_asked_on_are_answered_and_outlined_as_if_all_were(monkeypatch):
    scenes = synthesize_pairs(range(500_000, 500_001), size_px=512, resolution_m=0.5)
    tiles = [tile for scene in scenes for tile in cut_tiles(scene, size_px=128)][:11]
    pairs = np.stack([np.stack([tile.before, tile.after]).transpose(0, 3, 1, 2) for tile in tiles])
    model = load_model("deltavlm-tiny")
    wanted = np.arange(len(pairs)) % 3 != 1
    expected = model.answer_with_masks(
        pairs, prompts=PROMPTS, choose_masked=lambda numbers, _: wanted[numbers.start : numbers.stop]
    )
    encoded = []
    encode_dates = model.encode_dates
    monkeypatch.setattr(model, "encode_dates", lambda some: encoded.append(len(some)) or encode_dates(some))
    for batch_size_tiles in (64, 1, 4):
        model.batch_size_tiles, n_seen = batch_size_tiles, 0
        encoded.clear()

        def choose(first):
            nonlocal n_seen
            n_seen += len(first)
            return wanted[n_seen - len(first) : n_seen]

        found = model.answer_screened(
            pairs,
            prompts=PROMPTS,
            choose_asked=choose,
            choose_masked=lambda numbers, _: wanted[numbers.start : numbers.stop],
        )

        assert found.answers[0] == expected.answers[0]
        assert [answer is NOT_ASKED for answer in found.answers[1]] == (~wanted).tolist()
        assert [a for a in found.answers[1] if a is not NOT_ASKED] == [
            a for a, is_wanted in zip(expected.answers[1], wanted, strict=True) if is_wanted
        ]
        np.testing.assert_array_equal(found.masks.probabilities, expected.masks.probabilities)
        assert sum(encoded) == len(pairs)


def test_a_model_without_a_mask_branch_says_so(answerer, pairs):
    with pytest.raises(ValueError, match="no mask branch"):
        answerer.answer_with_masks(pairs, prompts=PROMPTS, choose_masked=lambda numbers, _: np.ones(len(numbers), bool))


def test_there_is_an_answer_for_every_prompt_and_pair(answerer, pairs):
    answers = answerer.answer_prompts(pairs, prompts=PROMPTS)
    assert [len(row) for row in answers] == [5, 5]
    assert all(0 <= answer.confidence <= 1 for row in answers for answer in row)
    assert answerer.answer_prompts(pairs[:0], prompts=PROMPTS) == [[], []]


def test_a_batch_that_does_not_fit_is_halved_and_said_so(answerer, pairs, monkeypatch):
    expected = answerer.answer_prompts(pairs, prompts=PROMPTS)
    encode, tried = answerer.encode_dates, []

    def run_out_of_memory_above_two(batch):
        tried.append(len(batch))
        if len(batch) > 2:
            raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried")
        return encode(batch)

    monkeypatch.setattr(answerer, "encode_dates", run_out_of_memory_above_two)
    assert answerer.answer_prompts(pairs, prompts=PROMPTS) == expected
    assert tried == [5, 2, 2, 1]
    assert answerer.take_notes() == {"out of memory: batches of 2 tiles from here on": 1}
    assert answerer.take_notes() == {}


@pytest.mark.parametrize("problem", [torch.OutOfMemoryError("CUDA out of memory"), MemoryError()])
def test_one_pair_that_does_not_fit_is_an_error(answerer, pairs, monkeypatch, problem):
    def run_out_of_memory(batch):
        raise problem

    monkeypatch.setattr(answerer, "encode_dates", run_out_of_memory)
    with pytest.raises(type(problem)):
        answerer.answer_prompts(pairs, prompts=PROMPTS)
    assert answerer.batch_size_tiles == 1


@pytest.mark.parametrize("problem", [torch.OutOfMemoryError("CUDA out of memory"), MemoryError()])
def test_masks_that_do_not_fit_are_made_in_halves(problem, pairs, monkeypatch):
    answerer = load_model("deltavlm-tiny", dtype="float32")
    expected = answerer.predict_masks(pairs)
    encode, tried = answerer.model.encode_dates, []

    def run_out_of_memory_above_two(pixels):
        tried.append(len(pixels))
        if len(pixels) > 2:
            raise problem
        return encode(pixels)

    monkeypatch.setattr(answerer.model, "encode_dates", run_out_of_memory_above_two)
    masks = answerer.predict_masks(pairs)

    np.testing.assert_allclose(masks.probabilities, expected.probabilities, atol=1e-5)
    assert tried == [4, 2, 2, 1]
    assert answerer.take_notes() == {"out of memory: batches of 2 tiles from here on": 1}

    monkeypatch.setattr(answerer.model, "encode_dates", lambda pixels: run_out_of_memory_above_two(range(9)))
    with pytest.raises(type(problem)):
        answerer.predict_masks(pairs)


def test_other_errors_are_not_taken_for_want_of_memory(answerer, pairs, monkeypatch):
    def fail(batch):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(answerer, "encode_dates", fail)
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        answerer.answer_prompts(pairs, prompts=PROMPTS)
    assert answerer.batch_size_tiles == 64


def test_answers_end_at_the_limit_of_their_kind(model, processor, identity, pairs):
    from model.answering import MAX_NEW_TOKENS

    never_ending = SearchSettings(eos_token_id=-1, pad_token_id=0)
    answerer = DeltaVlmAnswerer(model, processor, identity=identity, batch_size_tiles=64, settings=never_ending)
    seen = []
    decode = processor.decode_answers
    answerer.processor = type("Processor", (), {"__getattr__": lambda _, name: getattr(processor, name)})()
    answerer.processor.decode_answers = lambda ids: seen.append(ids.shape[1]) or decode(ids)
    answerer.answer_prompts(pairs[:1], prompts=PROMPTS)
    assert seen == [MAX_NEW_TOKENS[prompt.kind] for prompt in PROMPTS]
    # A model whose generation config sets a length has it for every kind, its start token included.
    answerer.settings = SearchSettings(eos_token_id=-1, pad_token_id=0, max_length=6, start_token_id=1)
    seen.clear()
    answerer.answer_prompts(pairs[:1], prompts=PROMPTS)
    assert seen == [5, 5]


@pytest.mark.parametrize(
    ("text", "message"),
    [("", "empty prompt"), (" \n", "empty prompt"), ("half \ud800 pair", "UTF-8"), ("road " * 600, "positions")],
)
def test_prompts_that_cannot_be_asked_are_refused(answerer, pairs, text, message):
    prompt = Prompt(name="question", kind=PromptKind.ASK, text=text)
    with pytest.raises(ValueError, match=message):
        answerer.answer_prompts(pairs, prompts=[prompt])


def test_odd_text_is_just_text(answerer, pairs):
    prompt = Prompt(name="question", kind=PromptKind.ASK, text="¿Qué cambió? 変化\u200b\x00 🏠" + "e\u0301" * 3)
    assert len(answerer.answer_prompts(pairs, prompts=[prompt])[0]) == len(pairs)


def test_the_longest_prompt_leaves_room_for_an_answer(answerer, pairs):
    text = "road"
    while answerer.count_tokens(f"{text} road") <= answerer.max_prompt_tokens:
        text += " road"
    assert answerer.count_tokens(text) == answerer.max_prompt_tokens
    prompt = Prompt(name="question", kind=PromptKind.DIALOGUE, text=text)
    assert len(answerer.answer_prompts(pairs[:1], prompts=[prompt])[0]) == 1


def test_yes_and_no_are_weighed_against_each_other(answerer):
    tokenizer = answerer.processor.tokenizer
    yes, no, other = (tokenizer(word, add_special_tokens=False)["input_ids"][0] for word in ("Yes", "No", "1"))
    probabilities = torch.zeros(2, len(tokenizer))
    probabilities[0, [yes, no, other]] = torch.tensor([0.6, 0.2, 0.2])
    probabilities[1, [yes, no, other]] = torch.tensor([0.1, 0.1, 0.8])
    found = FoundTokens(
        token_ids=torch.tensor([[yes], [other]]),
        confidence=torch.tensor([0.6, 0.8]),
        first_probabilities=probabilities,
    )
    choice = YesOrNo.from_tokenizer(tokenizer)
    torch.testing.assert_close(choice.tell_confidence(found, settings=answerer.settings), torch.tensor([0.75, 0.8]))


def test_devices_and_precisions_are_checked():
    assert choose_device("cpu").type == "cpu"
    assert choose_dtype("bfloat16", device=torch.device("cpu")) is torch.bfloat16
    assert choose_dtype("auto", device=torch.device("cuda")) is torch.bfloat16
    expected = torch.bfloat16 if has_cpu_bfloat16() else torch.float32
    assert choose_dtype("auto", device=torch.device("cpu")) is expected
    with pytest.raises(ValueError, match="expected auto"):
        choose_dtype("float64", device=torch.device("cpu"))
    n_gpus = torch.cuda.device_count()
    with pytest.raises(ValueError, match=f"machine with {n_gpus} CUDA devices"):
        choose_device(f"cuda:{n_gpus}")


class TestWeightsThatDoNotFit:
    @pytest.fixture
    def folder(self, model, processor, tmp_path):
        model.save_pretrained(tmp_path)
        processor.save_pretrained(tmp_path)
        return tmp_path

    def load(self, folder):
        return load_weights(str(folder), device=torch.device("cpu"), dtype=torch.float32)

    def test_truncated(self, folder):
        weights = folder / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-1000])
        with pytest.raises(ValueError, match=r"cannot be read: .*; fetch it again or convert anew"):
            self.load(folder)

    def test_another_size(self, folder):
        config = (folder / "config.json").read_text()
        (folder / "config.json").write_text(config.replace('"num_query_tokens": 16', '"num_query_tokens": 12'))
        with pytest.raises(ValueError, match="query_tokens"):
            self.load(folder)

    def test_another_depth(self, folder):
        config = (folder / "config.json").read_text()
        (folder / "config.json").write_text(config.replace('"num_hidden_layers": 3', '"num_hidden_layers": 2'))
        with pytest.raises(ValueError, match="unexpected keys"):
            self.load(folder)

    def test_another_architecture(self, folder):
        (folder / "config.json").write_text('{"model_type": "bert"}')
        with pytest.raises(ValueError, match="model type 'bert'"):
            self.load(folder)

    @pytest.mark.parametrize("config", ["{", "[]", '{"model_type": "deltavlm", "num_query_tokens": "many"}'])
    def test_a_damaged_config(self, folder, config):
        (folder / "config.json").write_text(config)
        with pytest.raises(ValueError, match=r"config\.json"):
            self.load(folder)


def test_fused_norms_change_nothing_but_rounding(model):
    import copy

    tower = copy.deepcopy(model.vision_model)
    pixels = torch.randn(2, 3, 192, 192, generator=torch.Generator().manual_seed(8))
    for module in tower.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean, -0.2, 0.2)
            torch.nn.init.uniform_(module.running_var, 0.5, 2.0)
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.uniform_(module.bias, -0.2, 0.2)
    with torch.inference_mode():
        expected = tower(pixels).last_hidden_state
        tower.fuse_norms()
        fused = tower(pixels).last_hidden_state
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in tower.modules())
    torch.testing.assert_close(fused, expected, atol=2e-4, rtol=1e-4)
