"""Our model with the original's weights gives the original's tensors, tokens, texts, losses and gradients."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import torch
from golden import TOLERANCE, GoldenSet, list_golden_sets, record_outputs
from torch import Tensor

from model.answering import DeltaVlmAnswerer
from model.conversion.names import rename_key
from model.decoding.search import search
from model.decoding.steps import BeamScoring, FoundTokens, SearchSettings, Steps
from model.interface import ModelIdentity, Prompt, PromptKind
from model.modeling import DeltaVlmForConditionalGeneration
from model.pairs.facts import TargetText
from model.processing import clean_text
from model.training.collation import InstructionCollator
from model.training.dataset import InstructionSample

GOLDEN_SETS = list_golden_sets()
NO_GOLDEN_SET = pytest.param(
    None, marks=pytest.mark.skip(reason="no recorded tensors; set DELTAVLM_SHARED to the folder that holds parity/")
)


@pytest.fixture(scope="module", params=GOLDEN_SETS or [NO_GOLDEN_SET], ids=lambda folder: folder and folder.name)
def golden(request: pytest.FixtureRequest) -> GoldenSet:
    folder: Path = request.param
    return GoldenSet(folder)


def embed_prompts(
    golden: GoldenSet, features: Tensor, prompts: list[str], *, max_text_tokens: int
) -> tuple[Tensor, Tensor]:
    """Prefix and attention mask of prompts of different lengths in one batch, as the original's `generate` has them."""
    processor, model = golden.processor, golden.model
    processor.qformer_tokenizer.model_max_length = max_text_tokens
    text = processor.prepare_prompts(prompts)
    query_output = model.query_differences(
        features,
        qformer_input_ids=text["qformer_input_ids"],
        qformer_attention_mask=text["qformer_attention_mask"],
    )
    prefix = model.prefix_embeddings(query_output, input_ids=text["input_ids"])
    queries = torch.ones(query_output.shape[:2], dtype=torch.int64)
    return prefix, torch.cat([queries, text["attention_mask"]], dim=1)


def search_settings(golden: GoldenSet, run: dict) -> SearchSettings:
    generation, asked = golden.config["llm_generation_config"], run["call_kwargs"]
    return SearchSettings(
        eos_token_id=generation["eos_token_id"],
        pad_token_id=generation["pad_token_id"],
        start_token_id=generation["bos_token_id"],
        max_length=asked["max_length"],
        num_beams=asked["num_beams"],
        repetition_penalty=asked["repetition_penalty"],
        length_penalty=asked["length_penalty"],
        beam_scoring=BeamScoring.ORIGINAL,
    )


def find(golden: GoldenSet, case: dict, run: dict) -> FoundTokens:
    features = golden.model.encode_pairs(golden.pixels(case["image_keys"]))
    prompts = case["prompts"] or [case["default_prompt"]] * len(features)
    max_text_tokens = case["attrs"].get("max_txt_len", golden.config["max_txt_len"])
    prefix, mask = embed_prompts(golden, features, prompts, max_text_tokens=max_text_tokens)
    settings = search_settings(golden, run)
    return search(
        golden.model.language_model,
        prefix,
        settings=settings,
        max_new_tokens=settings.limit_new_tokens(0),
        attention_mask=mask,
    )


@torch.inference_mode()
def test_vision_tower(golden: GoldenSet) -> None:
    vision = golden.model.vision_model
    for date, key in (("A", "image_A"), ("B", "image_B")):
        blocks = {f"main.vit.{date}.block{i}": layer for i, layer in enumerate(vision.encoder.layers)}
        recorded = {name: block for name, block in blocks.items() if name in golden.expected}
        with record_outputs({**recorded, "last": vision.encoder.layers[-1]}) as outputs:
            normed = vision(golden.inputs[key]).last_hidden_state
        for name in recorded:
            golden.check(name, outputs[name][0])
        golden.check(f"main.vit.{date}", outputs["last"][0])
        golden.check(f"main.ln_vision.{date}", normed)


@torch.inference_mode()
def test_norms_have_the_epsilons_of_the_original(golden: GoldenSet) -> None:
    model = golden.model
    norms = {
        "ln_vision": model.vision_model.post_layernorm,
        "vit_block0_norm1": model.vision_model.encoder.layers[0].layer_norm1,
        "qformer_embeddings_LayerNorm": model.qformer.embeddings.layernorm,
        "llm_input_layernorm0": model.language_model.model.layers[0].input_layernorm,
    }
    for name, norm in norms.items():
        golden.check(f"probe.{name}", norm(golden.inputs[f"probe.{name}"]))


@torch.inference_mode()
def test_difference_perception(golden: GoldenSet) -> None:
    before, after = golden.expected["main.ln_vision.A"], golden.expected["main.ln_vision.B"]
    csrm = golden.model.difference
    linears = {name: getattr(csrm, name) for name in ("context1", "context2", "gate1", "gate2")}
    with record_outputs(linears) as outputs:
        related = csrm(before, after)
    golden.check("main.csrm.diff", after - before)
    for index, date in enumerate(("bef", "aft")):
        for name in ("context1", "gate1"):
            golden.check(f"main.csrm.{name}_diff", outputs[name][index])
        for name in ("context2", "gate2"):
            golden.check(f"main.csrm.{name}_{date}", outputs[name][index])
        gated = torch.sigmoid(outputs["gate1"][index] + outputs["gate2"][index]) * torch.tanh(
            outputs["context1"][index] + outputs["context2"][index]
        )
        golden.check(f"main.csrm.input_{date}s", gated)
    golden.check("main.csrm.image_embedsA", related.chunk(2, dim=1)[0])
    golden.check("main.csrm.image_embedsB", related.chunk(2, dim=1)[1])


@torch.inference_mode()
def test_qformer_and_projection(golden: GoldenSet) -> None:
    model = golden.model
    features = model.encode_pairs(golden.pixels(["image_A", "image_B"]))
    layers = {f"main.qformer.layer{i}": layer for i, layer in enumerate(model.qformer.encoder.layer)}
    recorded = {name: layer for name, layer in layers.items() if name in golden.expected}
    modules = {"main.qformer.embeddings": model.qformer.embeddings, "main.qformer.last_hidden_state": model.qformer}
    n_queries = golden.config["num_query_token"]
    mask = golden.expected["main.qformer.attention_mask"]
    with record_outputs({**recorded, "main.qformer.embeddings": modules["main.qformer.embeddings"]}) as outputs:
        query_output = model.query_differences(
            features,
            qformer_input_ids=golden.expected["main.qformer.input_ids"],
            qformer_attention_mask=mask[:, n_queries:],
        )
    # The original computes padded text positions under another mask value; nobody reads them.
    is_read = mask.bool()
    for name, (output,) in outputs.items():
        golden.check(name, output, where=is_read)
    last = golden.expected["main.qformer.last_hidden_state"]
    assert (query_output - last[:, :n_queries]).abs().max() <= TOLERANCE * last.abs().max()
    golden.check("main.llm_proj", model.language_projection(query_output))


@torch.inference_mode()
def test_prefill_and_every_step(golden: GoldenSet) -> None:
    case = golden.facts["cases"]["main"]
    features = golden.model.encode_pairs(golden.pixels(case["image_keys"]))
    prefix, mask = embed_prompts(golden, features, case["prompts"], max_text_tokens=golden.config["max_txt_len"])
    assert torch.equal(mask, golden.expected["main.llm.attention_mask"])
    logits = golden.model.language_model(
        inputs_embeds=prefix, attention_mask=mask, position_ids=golden.expected["main.llm.position_ids"]
    ).logits
    golden.check("main.llm.prefill_logits", logits, where=mask.bool())
    steps = Steps(golden.model.language_model, attention_mask=mask)
    seen = [steps.take_prefix(prefix)]
    for token in golden.expected["main.greedy.sequences"][:, 1:-1].T:
        seen.append(steps.take_tokens(token))
    golden.check("main.greedy.step_logits", torch.stack(seen)[: len(golden.expected["main.greedy.step_logits"])])


@torch.inference_mode()
def test_tokens_texts_and_scores_of_every_case(golden: GoldenSet) -> None:
    for case_name, case in golden.facts["cases"].items():
        for run_name, run in case["runs"].items():
            found = find(golden, case, run)
            where = f"{case_name}.{run_name}"
            start, pad = (golden.config["llm_generation_config"][f"{name}_token_id"] for name in ("bos", "pad"))
            length = len(run["sequences_raw"][0])
            rows = [[start, *row, *[pad] * length][:length] for row in found.token_ids.tolist()]
            assert rows == run["sequences_raw"], where
            assert golden.processor.decode_answers(found.token_ids) == run["text"], where
            if "sequences_scores" in run:
                assert found.scores is not None
                assert found.scores.tolist() == pytest.approx(run["sequences_scores"], rel=TOLERANCE), where
            assert ((found.confidence > 0) & (found.confidence <= 1)).all()


def test_the_engine_answers_as_the_original_does_one_by_one(golden: GoldenSet, tmp_path: Path) -> None:
    """`predict_answers` of the original, once per pair and prompt, as its `infer_subtasks.py` calls it."""
    identity = ModelIdentity(model_id="golden", weight_hash="0" * 64, path=str(tmp_path))
    run = golden.facts["cases"]["main"]["runs"]["greedy"]
    answerer = DeltaVlmAnswerer(
        golden.model, golden.processor, identity=identity, batch_size_tiles=64, settings=search_settings(golden, run)
    )
    with torch.inference_mode():
        features = golden.model.encode_pairs(golden.pixels(["image_A", "image_B"]))
    for single in golden.facts["singles_predict_answers"]:
        index, prompt = single["image_index"], Prompt(name="ask", kind=PromptKind.ASK, text=single["prompt"])
        (answer,) = answerer.ask(features[index : index + 1], prompt=prompt)
        assert [answer.text] == single["text"]
        # Beside others in the batch, it is the same answer.
        assert answerer.ask(features, prompt=prompt)[index].text == answer.text


def test_prompts_are_tokenised_as_in_the_original(golden: GoldenSet) -> None:
    for case in golden.facts["cases"].values():
        golden.processor.qformer_tokenizer.model_max_length = case["attrs"].get(
            "max_txt_len", golden.config["max_txt_len"]
        )
        prompts = case["prompts"] or [case["default_prompt"]]
        text = golden.processor.prepare_prompts(prompts)
        for reader, name in (("llm_prompt_ids", ""), ("qformer_input_ids", "qformer_")):
            ids = [
                row[mask.bool()].tolist()
                for row, mask in zip(text[f"{name}input_ids"], text[f"{name}attention_mask"], strict=True)
            ]
            assert ids == case[reader][: len(prompts)]


def test_texts_are_cleaned_as_in_the_original(golden: GoldenSet) -> None:
    cleaned = golden.facts["caption_processor"]
    for kind in ("input", "output"):
        assert [clean_text(text) for text in cleaned[f"raw_{kind}"]] == cleaned[f"text_{kind}"]
    for raw, expected in cleaned["extra"]:
        assert clean_text(raw) == expected


@pytest.mark.parametrize("name", ["with_csrm", "with_csrm_trunc", "released_no_csrm", "released_no_csrm_trunc"])
def test_losses_and_gradients(golden: GoldenSet, name: str) -> None:
    recorded, model = golden.facts["losses"][name], golden.model
    text = collate(
        golden,
        zip(recorded["text_input"], recorded["text_output"], strict=True),
        max_prompt_tokens=recorded["attrs"].get("max_txt_len", golden.config["max_txt_len"]),
        max_answer_tokens=recorded["attrs"].get("max_output_txt_len", golden.config["max_output_txt_len"]),
    )
    prefix = f"loss.{name}"
    check_targets(golden, text, prefix=prefix)

    model.zero_grad()
    pixels = golden.pixels(["image_A", "image_B"])
    output = run_training_step(model, pixels, text, has_csrm="no_csrm" not in name)
    output.loss.backward()
    golden.check(prefix, output.loss.detach())
    if f"{prefix}.logits_at_targets" in golden.expected:
        # The logits at one position tell of the token at the next; the queries stand before the first.
        is_target = text["labels"] != -100
        logits = output.logits[:, golden.config["num_query_token"] - 1 : -1]
        golden.check(f"{prefix}.logits_at_targets", logits[is_target].detach())
    check_gradients(golden, recorded["grad_norm"])
    model.zero_grad()
    if "loss_with_A_and_B_swapped" in recorded:
        swapped = run_training_step(model, pixels.flip(1), text, has_csrm="no_csrm" not in name)
        assert swapped.loss.item() == pytest.approx(recorded["loss_with_A_and_B_swapped"], rel=TOLERANCE)


def collate(
    golden: GoldenSet, turns: Iterable[tuple[str, str]], *, max_prompt_tokens: int, max_answer_tokens: int
) -> dict[str, Tensor]:
    """Text of a batch, as our training puts it together."""
    # The original counts the answer's start token, which it then drops, and cuts prompts for both readers alike.
    collator = InstructionCollator(
        golden.processor, max_prompt_tokens=max_prompt_tokens, max_answer_tokens=max_answer_tokens - 1
    )
    golden.processor.qformer_tokenizer.model_max_length = max_prompt_tokens
    pair = np.zeros((2, 3, 8, 8), np.uint8)
    batch = collator(
        [
            InstructionSample(pair=pair, facts=None, turns=((prompt, TargetText(text=answer)),))
            for prompt, answer in turns
        ]
    )
    names = ("input_ids", "attention_mask", "labels", "qformer_input_ids", "qformer_attention_mask")
    return {name: batch[name] for name in names}


def check_targets(golden: GoldenSet, text: dict[str, Tensor], *, prefix: str) -> None:
    """Compare ids, masks and labels; the original leaves more padding behind the longest row."""
    n_queries, length = golden.config["num_query_token"], text["input_ids"].shape[1]
    expected = {name: golden.expected[f"{prefix}.{name}"] for name in ("labels", "attention_mask")}
    assert torch.equal(text["labels"], expected["labels"][:, n_queries : n_queries + length])
    assert torch.equal(text["attention_mask"], expected["attention_mask"][:, n_queries : n_queries + length])
    assert not expected["attention_mask"][:, n_queries + length :].any()
    is_text = text["attention_mask"].bool()
    assert torch.equal(text["input_ids"][is_text], golden.expected[f"{prefix}.llm_input_ids"][:, :length][is_text])
    assert torch.equal(text["qformer_input_ids"], golden.expected[f"{prefix}.qformer_input_ids"])


def run_training_step(
    model: DeltaVlmForConditionalGeneration, pixels: Tensor, text: dict[str, Tensor], *, has_csrm: bool
):
    if has_csrm:
        return model(pixels, **text)
    # As released, the original's training leaves the difference perception out: the Q-Former reads both dates' tokens.
    return model(difference_features=torch.cat(model.encode_dates(pixels), dim=1), **text)


def check_gradients(golden: GoldenSet, norms: dict[str, float | None]) -> None:
    """Compare the norm of every recorded gradient; halves of a joined bias each for themselves."""
    parameters = dict(golden.model.named_parameters())
    largest = max(norm for norm in norms.values() if norm is not None)
    checked = 0
    for key, norm in norms.items():
        name = rename_key(key)
        if name is None:
            assert norm is None, f"{key} has a gradient in the original, and no place in our model"
            continue
        gradient = parameters[name].grad
        if key.endswith(("q_bias", "v_bias")) and gradient is not None:
            queries, _, values = gradient.chunk(3)
            gradient = queries if key.endswith("q_bias") else values
        # Biases of keys have a gradient of zero, which rounding makes 1e-8: near zero the largest norm is the measure.
        actual = 0.0 if gradient is None else float(gradient.norm())
        assert actual == pytest.approx(norm or 0.0, rel=1e-4, abs=TOLERANCE * largest), key
        checked += norm is not None
    assert checked > 50
