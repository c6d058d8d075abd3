"""From labelled pairs to batches, losses and a model on disk that answers."""

import math
from dataclasses import replace
from itertools import islice

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from model.images import CHANGED_VALUE
from model.interface import CELL_NAMES, Prompt, PromptKind
from model.pairs.facts import ChangeFacts, KindFacts, TargetText, measure_mask
from model.pairs.folders import LabelledPair
from model.processing import IGNORED_LABEL, PromptForm
from model.registry import load_model
from model.training.augmentation import Augmentation
from model.training.checkpoints import save_weights
from model.training.collation import KINDS, InstructionCollator
from model.training.dataset import AskedPair, FixedSamples, InstructionSample, InstructionStream, PairSource
from model.training.heads import N_CELLS, DifferenceHead, encode_facts, fact_loss
from model.training.recipe import TrainingConfig
from model.training.trainer import train
from model.training.training_model import TrainingModel, answer_losses, measure_answers, summarise_answers

PROMPTS = (
    Prompt(name="changed", kind=PromptKind.CLASSIFY, text="Please judge whether these two images have changed."),
    Prompt(name="count", kind=PromptKind.COUNT, text="Please determine how many roads and buildings have changed?"),
    Prompt(name="location", kind=PromptKind.LOCATE, text="Please indicate the locations where changes have occurred."),
    Prompt(name="description", kind=PromptKind.DESCRIBE, text="Please briefly describe the changes."),
)


def make_pair(*, n_buildings: int, seed: int = 0) -> LabelledPair:
    random = np.random.default_rng(seed)
    before = random.integers(60, 120, (96, 96, 3), dtype=np.uint8)
    mask = np.zeros((96, 96), np.uint8)
    for index in range(n_buildings):
        mask[4 + 30 * (index // 3) :, 4 + 30 * (index % 3) :][:20, :20] = CHANGED_VALUE
    after = np.where(mask[..., None] > 0, 230, before).astype(np.uint8)
    return LabelledPair(name=f"made_{seed}", before=before, after=after, mask=mask, has_road_truth=False)


def make_stream(*, seed: int) -> InstructionStream:
    source = PairSource(pairs=[make_pair(n_buildings=n, seed=n) for n in range(5)], crop_size_px=96, weight=1.0)
    return InstructionStream(
        [source], prompts=PROMPTS, image_size=192, prompts_per_pair=2, augmentation=Augmentation(), seed=seed
    )


def test_the_stream_is_given_by_its_seed():
    first, again, other = (list(islice(make_stream(seed=seed), 6)) for seed in (1, 1, 2))
    assert [sample.turns for sample in first] == [sample.turns for sample in again]
    assert all(np.array_equal(a.pair, b.pair) for a, b in zip(first, again, strict=True))
    assert any(not np.array_equal(a.pair, b.pair) for a, b in zip(first, other, strict=True))
    assert all(sample.pair.shape == (2, 3, 192, 192) and len(sample.turns) == 2 for sample in first)


def test_a_sample_needs_none_before_it():
    stream = make_stream(seed=3)
    expected = list(islice(stream, 9))
    drawn = {index: stream[index] for index in (8, 0, 5)}
    for index, sample in drawn.items():
        assert np.array_equal(sample.pair, expected[index].pair)
        assert sample.turns == expected[index].turns


def test_an_epoch_shows_every_item_once_and_each_in_its_own_order():
    sources = [
        PairSource(pairs=[make_pair(n_buildings=n, seed=n) for n in numbers], crop_size_px=96, weight=1.0)
        for numbers in ((0, 1, 2), (3, 4))
    ]
    plain = Augmentation(colour_shift=0, gamma_range=(1, 1), unchanged_fraction=0, removal_fraction=0, shift_px=0)
    stream = InstructionStream(
        sources,
        prompts=PROMPTS[1:2],
        image_size=96,
        prompts_per_pair=1,
        augmentation=plain,
        seed=1,
        n_samples=15,
        is_in_epochs=True,
    )
    counts = [stream[index].facts.building.count for index in range(len(stream))]
    epochs = [counts[:5], counts[5:10], counts[10:]]
    assert [sorted(epoch) for epoch in epochs] == [[0, 1, 2, 3, 4]] * 3
    assert len(set(map(tuple, epochs))) > 1


def test_validation_shows_tiles_as_they_are():
    pair = make_pair(n_buildings=9)
    source = PairSource(pairs=[pair], crop_size_px=48, weight=1.0)
    tiles = source.list_fixed(max_items=3)
    assert [tile.name for tile in tiles] == ["made_0_0_0", "made_0_0_48", "made_0_48_0"]
    samples = FixedSamples(tiles, stream=make_stream(seed=1))
    assert len(samples) == 3
    assert samples[1].turns == samples[1].turns
    assert samples[1].kinds == samples[1].kinds


def test_instructions_pass_as_they_were_written(processor):
    asked = AskedPair(
        before=make_pair(n_buildings=0).before,
        after=make_pair(n_buildings=1).after,
        kind=PromptKind.DIALOGUE,
        question="q: Have they changed? a: Yes  q: How many roads?",
        answer="One Road.",
    )
    sample = make_stream(seed=0).make_sample(asked, random=np.random.default_rng(0))
    assert sample.facts is None
    batch = InstructionCollator(replace(processor, prompt_form=PromptForm.CLEANED), has_clean_answers=True)([sample])
    shown = processor.tokenizer.decode(batch["input_ids"][0])
    assert shown == "<s>q have they changed? a yes q how many roads?one road</s>"
    assert batch["fact_known"].sum() == 0
    assert KINDS[batch["answer_kinds"][0]] is PromptKind.DIALOGUE


def test_long_prompts_lose_their_beginning_and_long_answers_their_end(processor):
    prompt, answer = PROMPTS[1].text, "3 roads has changed, and 12 buildings has changed."
    (start, *asked), (_, *said) = (processor.tokenizer(text)["input_ids"] for text in (prompt, answer))
    sample = InstructionSample(
        pair=np.zeros((2, 3, 192, 192), np.uint8), facts=None, turns=((prompt, TargetText(text=answer)),)
    )
    batch = InstructionCollator(processor, max_prompt_tokens=4, max_answer_tokens=5)([sample])
    assert batch["input_ids"][0].tolist() == [start, *asked[-3:], *said[:5]]
    assert batch["labels"][0].tolist() == [IGNORED_LABEL] * 4 + said[:5]


def test_labels_are_the_answer_without_what_is_unknown(processor):
    facts = measure_mask(make_pair(n_buildings=2).mask, has_road_truth=False)
    answer = TargetText(text="0 roads has changed, and 2 buildings has changed.", unknown_spans=((0, 7),))
    sample = InstructionSample(
        pair=np.zeros((2, 3, 192, 192), np.uint8), facts=facts, turns=((PROMPTS[1].text, answer), ("Yes", answer))
    )
    batch = InstructionCollator(processor)([sample, sample])
    assert batch["pair_index"].tolist() == [0, 0, 1, 1]
    learned = batch["labels"][0][batch["labels"][0] != IGNORED_LABEL]
    assert processor.tokenizer.decode(learned) == " has changed, and 2 buildings has changed.</s>"
    shown = batch["input_ids"][0][batch["attention_mask"][0].bool()]
    assert processor.tokenizer.decode(shown) == f"<s>{PROMPTS[1].text}{answer.text}</s>"
    assert (batch["labels"][batch["attention_mask"] == 0] == IGNORED_LABEL).all()


def make_facts(*, building_cells: list[str], building_count: int, has_road_truth: bool) -> ChangeFacts:
    building = KindFacts(count=building_count, is_cell_changed=tuple(name in building_cells for name in CELL_NAMES))
    road = KindFacts(count=0, is_cell_changed=(False,) * N_CELLS) if has_road_truth else None
    return ChangeFacts(building=building, road=road)


def test_the_auxiliary_loss_is_zero_for_the_truth_and_blind_to_the_unknown():
    facts = [
        make_facts(building_cells=["top-left"], building_count=3, has_road_truth=True),
        make_facts(building_cells=[], building_count=0, has_road_truth=False),
    ]
    targets, known = encode_facts(facts)
    # Logits far out on the right side for cells and "changed"; counts as they are.
    right = torch.where(targets > 0, 40.0, -40.0)
    counts = [N_CELLS, 2 * N_CELLS + 1]
    right[:, counts] = targets[:, counts]
    assert fact_loss(right, targets, known).item() == pytest.approx(0.0, abs=1e-6)
    wrong_about_roads = right.clone()
    wrong_about_roads[1, : N_CELLS + 1] = 40.0
    assert fact_loss(wrong_about_roads, targets, known).item() == pytest.approx(0.0, abs=1e-6)
    wrong_about_roads[0, 0] = 40.0
    assert fact_loss(wrong_about_roads, targets, known).item() > 1


def test_the_difference_head_reads_each_cell_from_its_own_place():
    torch.manual_seed(0)
    head = DifferenceHead(width=8, tokens_per_side=12)
    features = torch.randn(1, 2 * 144, 8)
    touched = features.clone()
    # Token (0, 11) lies in the top right cell, on both dates.
    touched[:, [11, 144 + 11]] += 5.0
    moved = (head(touched) - head(features))[0].abs() > 1e-6
    assert [moved[index].item() for index in range(N_CELLS)] == [name == "top-right" for name in CELL_NAMES]


@pytest.fixture
def pair_folder(tmp_path):
    for n_buildings in range(4):
        pair = make_pair(n_buildings=n_buildings, seed=n_buildings)
        for folder, image in (("A", pair.before), ("B", pair.after), ("label", pair.mask)):
            (tmp_path / "pairs" / folder).mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(tmp_path / "pairs" / folder / f"{n_buildings}.png"), image)
    return tmp_path


def make_batch(processor, *, swapped: bool = False) -> dict[str, torch.Tensor]:
    sample = next(iter(make_stream(seed=5)))
    batch = InstructionCollator(processor)([sample])
    if swapped:
        batch["pixel_values"] = batch["pixel_values"].flip(1)
    return batch


def copy_model(model):
    copied = type(model)(type(model.config).from_dict(model.config.to_dict()))
    copied.load_state_dict(model.state_dict())
    return copied


def test_the_order_of_the_dates_reaches_the_loss_through_the_difference_perception(model, processor):
    """Without heads, text alone: the CSRM is in the path of training, as it is in that of answering."""
    training = TrainingModel(copy_model(model), text_loss_weight=1.0, auxiliary_loss_weight=0.0).eval()
    losses = [training(**make_batch(processor, swapped=swapped))["loss"] for swapped in (False, True)]
    assert abs(losses[0].item() - losses[1].item()) > 1e-4
    losses[0].backward()
    gradients = {name: p.grad for name, p in training.model.difference.named_parameters()}
    assert {name.split(".")[0] for name in gradients} == {"context1", "context2", "context3", "gate1", "gate2"}
    assert all(gradient.abs().sum() > 0 for gradient in gradients.values())


@pytest.mark.parametrize("answers_weigh_alike", [False, True])
def test_rows_grouped_by_length_and_a_fused_tower_give_the_loss_of_all_at_once(model, processor, answers_weigh_alike):
    training = TrainingModel(
        copy_model(model),
        text_loss_weight=1.0,
        frozen_parts=["vision_model", "difference"],
        answers_weigh_alike=answers_weigh_alike,
    )
    for module in training.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    training.model.qformer.config.attention_probs_dropout_prob = 0.0
    batch = make_batch(processor)
    with torch.no_grad():
        grouped, whole = training.train()(**batch), training.eval()(**batch)
    assert len({int(n) for n in batch["attention_mask"].sum(dim=1)}) > 1
    for name in ("text", "difference", "query", "detail", "loss"):
        torch.testing.assert_close(grouped[name], whole[name], rtol=1e-4, atol=1e-5)


def test_a_short_answer_may_weigh_as_much_as_a_long_one():
    # Each token is as likely as any of four, but for the first of the long answer, which is certain.
    logits = torch.zeros(3, 4, 4)
    logits[1, 0, 3] = 100.0
    targets = torch.tensor([[-100, -100, 2, -100], [3, 1, 1, 1], [-100, -100, -100, -100]])
    torch.testing.assert_close(answer_losses(logits, targets), math.log(4) * torch.tensor([1.0, 0.75]))


def test_what_does_not_learn_is_saved_as_it_was(model, processor):
    training = TrainingModel(copy_model(model), text_loss_weight=1.0, frozen_parts=["vision_model"]).train()
    before = {name: value.clone() for name, value in training.model.vision_model.state_dict().items()}
    training(**make_batch(processor))["loss"].backward()
    after = training.model.vision_model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_answers_are_measured_as_a_greedy_search_would_say_them():
    labels = torch.tensor([[-100, 4, 2], [-100, 5, 2], [-100, -100, 2]])
    logits = torch.full((3, 3, 8), -20.0)
    for row, (first, second) in enumerate([(4, 2), (4, 2), (7, 2)]):
        logits[row, 0, first] = logits[row, 1, second] = 20.0
    kinds = torch.tensor([KINDS.index(k) for k in (PromptKind.CLASSIFY, PromptKind.CLASSIFY, PromptKind.COUNT)])
    figures = measure_answers(logits, labels, kinds=kinds, pair_index=torch.tensor([0, 1, 1]), n_pairs=2)
    assert figures[:, :3].tolist() == [[0, 2, 2], [40, 3, 2]]
    assert summarise_answers(figures.numpy()) == {
        "text_loss": 8.0,
        "token_accuracy": 0.8,
        "exact_fraction": pytest.approx(2 / 3),
        "exact_classify": 0.5,
        "exact_count": 1.0,
    }


def test_training_writes_a_model_that_answers(pair_folder):
    config = TrainingConfig.model_validate(
        {
            "sources": [{"path": "pairs", "crop_size_px": 96, "weight": 1.0}],
            "prompts": [{"name": p.name, "kind": p.kind.value, "text": p.text} for p in PROMPTS],
            "vocab_size": 360,
            "n_steps": 2,
            "warm_up_steps": 1,
            "batch_size_pairs": 2,
            "prompts_per_pair": 2,
            "n_loader_workers": 0,
            "use_bfloat16": False,
        }
    )
    folder = train(config, output=pair_folder / "out" / "made-model", data_root=pair_folder).folder
    model = load_model(str(folder))
    assert model.identity.model_id.startswith("made-model@")
    pairs = np.stack([make_pair(n_buildings=n).before for n in (0, 1)])[:, None].repeat(2, axis=1)
    answers = model.answer_prompts(np.ascontiguousarray(pairs.transpose(0, 1, 4, 2, 3)), prompts=PROMPTS[:1])
    assert [len(row) for row in answers] == [2]
    # Going on from these weights starts where they are.
    further = train(
        config.model_copy(update={"initial_weights": str(folder), "n_steps": 1, "learning_rate": 0.0}),
        output=pair_folder / "out" / "further",
        data_root=pair_folder,
    ).folder
    before, after = (load_file(f / "model.safetensors") for f in (folder, further))
    trained = {name: tensor for name, tensor in before.items() if "running_" not in name and "num_batches" not in name}
    assert all(torch.equal(tensor, after[name]) for name, tensor in trained.items())


def test_models_are_saved_in_half_precision(pair_folder, model: nn.Module):
    save_weights(model, pair_folder / "half")
    saved = load_file(pair_folder / "half" / "model.safetensors")
    assert {tensor.dtype for tensor in saved.values()} <= {torch.float16, torch.int64}
    assert next(model.parameters()).dtype == torch.float32
