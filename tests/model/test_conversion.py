"""The original's files become a folder with the same tensors, whichever way they are cut up."""

import json
import shutil
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from original_files import OriginalFiles, make_llm_config, make_state, rename_state, settle, write_original_files
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from model.configuration import DeltaVlmConfig, MaskDecoderConfig
from model.conversion import converting, hub
from model.conversion.converting import convert_model
from model.conversion.csrm_training import CSRM_WEIGHTS
from model.conversion.inputs import ConversionSettings
from model.conversion.names import infer_config, infer_mask_config
from model.conversion.vocabularies import load_language_vocabulary
from model.errors import InputError
from model.inspection import inspect_model
from model.interface import Prompt, PromptKind
from model.mask_decoder import ChangeMaskDecoder
from model.modeling import DeltaVlmForConditionalGeneration
from model.processing import DeltaVlmProcessor
from model.registry import find_model_folder, load_model

PAD_ROWS = ("language_model.model.embed_tokens.weight", "language_model.lm_head.weight")


def load_folder(folder: Path) -> dict[str, Tensor]:
    tensors = {}
    for file in sorted(folder.glob("*.safetensors")):
        tensors |= load_file(file)
    return tensors


def find_differences(found: dict[str, Tensor], expected: dict[str, Tensor]) -> list[str]:
    assert found.keys() == expected.keys()
    return [name for name, tensor in expected.items() if not torch.equal(found[name].float(), tensor.float())]


def forget_pad_rows(state: dict[str, Tensor]) -> dict[str, Tensor]:
    state = dict(state)
    for name in PAD_ROWS:
        state[name] = torch.cat([state[name][:-1], torch.zeros_like(state[name][-1:])])
    return state


@pytest.fixture(scope="module")
def converted(originals, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("converted") / "made-7b"
    convert_model(settle(originals), output=folder)
    return folder


def test_every_tensor_is_the_originals(originals, converted):
    assert find_differences(load_folder(converted), forget_pad_rows(rename_state(originals.state))) == []
    model, report = DeltaVlmForConditionalGeneration.from_pretrained(converted, output_loading_info=True)
    assert not any(report.values())
    assert model.config.vision_config.num_attention_heads == 4
    assert model.config.vision_config.image_size == 12


def test_each_tensor_keeps_its_dtype_or_gets_the_one_asked_for(originals, converted, tmp_path):
    kept = load_folder(converted)
    assert kept["language_model.lm_head.weight"].dtype == torch.float16
    assert kept["query_tokens"].dtype == torch.float32
    made_anew = convert_model(settle(originals, dtype="bfloat16"), output=tmp_path / "half")
    assert {tensor.dtype for tensor in load_folder(tmp_path / "half").values()} == {torch.bfloat16}
    assert json.loads((tmp_path / "half" / "config.json").read_text())["dtype"] == "bfloat16"
    assert made_anew["dtype"] == "bfloat16"


def test_shards_hold_the_same_as_one_file(originals, converted, tmp_path):
    convert_model(settle(originals, max_shard_bytes=40_000), output=tmp_path / "shards")
    index = json.loads((tmp_path / "shards" / "model.safetensors.index.json").read_text())
    files = sorted((tmp_path / "shards").glob("*.safetensors"))
    assert files[0].name == f"model-00001-of-{len(files):05d}.safetensors"
    assert len(files) > 3
    assert set(index["weight_map"].values()) == {file.name for file in files}
    assert find_differences(load_folder(tmp_path / "shards"), load_folder(converted)) == []
    assert find_model_folder(str(tmp_path / "shards")) == tmp_path / "shards"
    facts, whole = inspect_model(tmp_path / "shards"), inspect_model(converted)
    assert facts["files"] == len(files)
    assert facts["parameters"] == whole["parameters"]


def test_equal_inputs_give_equal_folders_without_paths(originals, converted, tmp_path):
    convert_model(settle(originals), output=tmp_path / "again")
    for file in converted.rglob("*"):
        if file.is_file():
            content = file.read_bytes()
            assert content == (tmp_path / "again" / file.relative_to(converted)).read_bytes(), file
            assert str(originals.checkpoint.parent).encode() not in content, file


def test_padding_is_never_said_where_the_weights_know_no_row_for_it(originals, converted, tmp_path):
    stored = json.loads((converted / "generation_config.json").read_text())
    tokenizer = DeltaVlmProcessor.from_pretrained(converted).tokenizer
    assert stored["suppress_tokens"] == [tokenizer.pad_token_id] == [len(tokenizer) - 1]
    save_file({key: tensor.contiguous() for key, tensor in originals.state.items()}, tmp_path / "full.safetensors")
    whole = settle(originals, checkpoint=str(tmp_path / "full.safetensors"), vision=None)
    convert_model(whole, output=tmp_path / "full")
    assert "suppress_tokens" not in json.loads((tmp_path / "full" / "generation_config.json").read_text())
    assert find_differences(load_folder(tmp_path / "full"), rename_state(originals.state)) == []


def test_generation_follows_the_original(converted):
    stored = json.loads((converted / "generation_config.json").read_text())
    del stored["transformers_version"], stored["suppress_tokens"]
    assert stored == {
        "num_beams": 1,
        "repetition_penalty": 1.5,
        "length_penalty": 1.0,
        "max_length": 128,
        "decoder_start_token_id": 1,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
    }


def test_tokenizers_follow_the_original(converted):
    processor = DeltaVlmProcessor.from_pretrained(converted)
    text = processor.prepare_prompts(["roads", "please describe the changes"])
    assert text["input_ids"][1, 0] == 2  # </s> in front, as in the original
    assert text["input_ids"][0, 0] == processor.tokenizer.pad_token_id
    assert text["attention_mask"][0, 0] == 0
    assert text["qformer_input_ids"][0].tolist()[:3] == [2, 9, 3]  # [CLS] roads [SEP]
    assert processor.qformer_tokenizer.truncation_side == "left"
    assert processor.qformer_tokenizer.model_max_length == 128
    assert processor.qformer_tokenizer.bos_token == "[DEC]"


def test_the_folder_is_a_model_that_answers(converted):
    pairs = np.random.default_rng(0).integers(0, 256, (2, 2, 3, 32, 32), dtype=np.uint8)
    prompt = Prompt(name="roads", kind=PromptKind.COUNT, text="please describe the roads")
    (answers,) = load_model(str(converted)).answer_prompts(pairs, prompts=[prompt])
    assert len(answers) == 2
    assert all(0 <= answer.confidence <= 1 for answer in answers)


def test_pickled_shards_and_a_half_precision_tower_do_too(originals, tmp_path):
    files = write_original_files(
        tmp_path,
        originals.state,
        llm_config=make_llm_config(),
        llama_tokenizer=originals.language_model.parent / "tokenizers" / "llama",
        bert_tokenizer=originals.qformer_tokenizer,
        has_pickled_llm=True,
        vision_dtype=torch.float16,
    )
    convert_model(settle(files), output=tmp_path / "out")
    expected = forget_pad_rows(rename_state(originals.state))
    for name, tensor in expected.items():
        if name.startswith("vision_model.") and "post_layernorm" not in name:
            expected[name] = tensor.half()
    found = load_folder(tmp_path / "out")
    assert find_differences(found, expected) == []
    assert found["vision_model.embeddings.class_embedding"].dtype == torch.float16


def test_weights_in_the_old_format_of_torch_do_too(originals, converted, tmp_path):
    state = torch.load(originals.vision, weights_only=True)
    torch.save(state, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    convert_model(settle(originals, vision=str(tmp_path / "old.pth")), output=tmp_path / "out")
    assert find_differences(load_folder(tmp_path / "out"), load_folder(converted)) == []


def test_the_checkpoint_counts_before_the_base_models(originals, tmp_path):
    checkpoint = torch.load(originals.checkpoint, weights_only=True)
    trained = {f"visual_encoder.blocks.2.norm1.{part}": torch.full((32,), 7.0) for part in ("weight", "bias")}
    torch.save({"model": checkpoint["model"] | trained}, tmp_path / "checkpoint_best.pth")
    told = convert_model(settle(originals, checkpoint=str(tmp_path / "checkpoint_best.pth")), output=tmp_path / "out")
    found = load_folder(tmp_path / "out")
    assert found["vision_model.encoder.layers.2.layer_norm1.weight"].unique().tolist() == [7.0]
    assert found["vision_model.encoder.layers.1.layer_norm1.weight"].unique().tolist() != [7.0]
    assert told["sources"][1]["overridden"] == {"blocks.N.norm1.weight": 1, "blocks.N.norm1.bias": 1}


def test_a_release_with_the_towers_last_blocks_is_completed_by_evas_file(originals, tmp_path):
    """As released: 39 blocks, the last two of them trained; EVA's file has 40."""
    state = make_state(n_layers=39, n_words=originals.state["llm_model.lm_head.weight"].shape[0])
    kept = {key: v for key, v in state.items() if not key.startswith(("visual_encoder.", "llm_model."))}
    kept |= {
        key: v for key, v in state.items() if key.startswith(("visual_encoder.blocks.37", "visual_encoder.blocks.38"))
    }
    torch.save({"model": kept}, tmp_path / "checkpoint_best.pth")
    files = write_original_files(
        tmp_path,
        state,
        llm_config=make_llm_config(),
        llama_tokenizer=originals.language_model.parent / "tokenizers" / "llama",
        bert_tokenizer=originals.qformer_tokenizer,
        checkpoint=tmp_path / "checkpoint_best.pth",
    )
    settings = settle(files, vision_layers=39)
    with pytest.raises(ValueError, match=r"encoder\.layers\.0-36, vision_model\.embeddings .*: from eva_vit_g\.pth"):
        convert_model(replace(settings, vision=None), output=tmp_path / "out")
    told = convert_model(settings, output=tmp_path / "out")
    assert told["sources"][1]["unused"]["blocks.N.norm1.weight"] == 1
    assert told["sources"][1]["overridden"]["blocks.N.norm1.weight"] == 2
    found = load_folder(tmp_path / "out")
    expected = rename_state({key: tensor for key, tensor in state.items() if not key.startswith("llm_model.")})
    tower = {name: tensor for name, tensor in expected.items() if name.startswith("vision_model.")}
    assert find_differences({name: found[name] for name in tower}, tower) == []
    assert not any(name.startswith("vision_model.encoder.layers.39.") for name in found)


def test_a_language_model_of_another_family_keeps_its_tokens(originals, tmp_path):
    """Tied embeddings, a token for padding of its own, more rows than tokens."""
    from transformers import LlamaTokenizer, Qwen2Config, Qwen2ForCausalLM

    folder = tmp_path / "other"
    vocabulary = {token: index for index, token in enumerate(["<unk>", "<|end|>", "<|pad|>", *"abcdefgh"])}
    tokenizer = LlamaTokenizer(
        vocab=vocabulary, merges=[], bos_token=None, eos_token="<|end|>", pad_token="<|pad|>", add_bos_token=False
    )
    tokenizer.save_pretrained(folder)
    config = Qwen2Config(
        vocab_size=16,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        bos_token_id=None,
        eos_token_id=1,
        pad_token_id=2,
        tie_word_embeddings=True,
    )
    Qwen2ForCausalLM(config).save_pretrained(folder)
    checkpoint = torch.load(originals.checkpoint, weights_only=True)["model"]
    torch.save({key: v for key, v in checkpoint.items() if not key.startswith("llm_model.")}, tmp_path / "c.pth")
    convert_model(
        settle(originals, checkpoint=str(tmp_path / "c.pth"), language_model=str(folder)), output=tmp_path / "out"
    )
    found = load_folder(tmp_path / "out")
    assert "language_model.lm_head.weight" not in found
    assert found["language_model.model.embed_tokens.weight"].shape == (16, 16)
    assert inspect_model(tmp_path / "out")["language_model"]["family"] == "qwen2"
    stored = json.loads((tmp_path / "out" / "generation_config.json").read_text())
    assert (stored["eos_token_id"], stored["pad_token_id"], stored.get("suppress_tokens")) == (1, 2, None)
    _, report = DeltaVlmForConditionalGeneration.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not any(report.values())


def test_memory_is_bounded_by_the_files_written(originals):
    """600 MB of weights, in files of 50 MB."""
    width, n_layers = 1024, 18
    llm = make_wide_language_model(
        n_words=originals.state["llm_model.lm_head.weight"].shape[0], width=width, n_layers=n_layers
    )
    state = {key: tensor for key, tensor in originals.state.items() if not key.startswith("llm_")}
    state |= llm | {"llm_proj.weight": torch.ones(width, 24), "llm_proj.bias": torch.ones(width)}
    # Not in tmp_path, which pytest keeps for a while.
    folder = Path(tempfile.mkdtemp())
    files = write_original_files(
        folder,
        state,
        llm_config=make_llm_config(width=width)
        | {"intermediate_size": 4 * width, "num_hidden_layers": n_layers, "num_attention_heads": 8},
        llama_tokenizer=originals.language_model.parent / "tokenizers" / "llama",
        bert_tokenizer=originals.qformer_tokenizer,
    )
    settings = settle(files, max_shard_bytes=50_000_000)
    code = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from model.conversion.inputs import ConversionSettings\n"
        "from model.conversion.converting import convert_model\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "start = peak()\n"
        f"convert_model({settings!r}, output=Path({str(folder / 'out')!r}))\n"
        "print(peak() - start)\n"
    )
    try:
        result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
        n_bytes = sum(file.stat().st_size for file in (folder / "out").glob("*.safetensors"))
    finally:
        shutil.rmtree(folder)
    growth = int(result.stdout) * 1024  # Linux tells it in KiB
    assert n_bytes > 550e6
    assert growth < 300e6


def make_wide_language_model(*, n_words: int, width: int, n_layers: int) -> dict[str, Tensor]:
    shapes: dict[str, tuple[int, ...]] = {
        f"{part}.weight": (n_words, width) for part in ("model.embed_tokens", "lm_head")
    }
    for index in range(n_layers):
        layer = f"model.layers.{index}."
        shapes |= {f"{layer}self_attn.{part}_proj.weight": (width, width) for part in "qkvo"}
        shapes |= {f"{layer}mlp.{part}_proj.weight": (4 * width, width) for part in ("gate", "up")}
        shapes |= {f"{layer}mlp.down_proj.weight": (width, 4 * width)}
        shapes |= {f"{layer}{part}_layernorm.weight": (width,) for part in ("input", "post_attention")}
    shapes |= {"model.norm.weight": (width,)}
    return {f"llm_model.{key}": torch.full(shape, 0.01, dtype=torch.float16) for key, shape in shapes.items()}


def test_a_failure_leaves_no_folder(originals, tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise OSError("No space left on device")

    monkeypatch.setattr(converting, "write_shards", fail)
    with pytest.raises(InputError, match="No space left"):
        convert_model(settle(originals), output=tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_conversion_left_is_cleared_and_a_model_is_not(originals, converted, tmp_path):
    (tmp_path / ".out.partial").mkdir()
    (tmp_path / ".out.partial" / "model-00001-of-00009.safetensors").write_bytes(b"half")
    convert_model(settle(originals), output=tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert len(list((tmp_path / "out").glob("*.safetensors"))) == 1
    with pytest.raises(ValueError, match=r"out is there already; expected a new folder; remove it"):
        convert_model(settle(originals), output=tmp_path / "out")


def test_names_of_the_hub_are_downloaded(originals, converted, tmp_path, monkeypatch):
    asked = []

    def download(repository: str, *, allow_patterns: list[str]) -> str:
        asked.append((repository, allow_patterns))
        return str(
            {"some/checkpoint": originals.checkpoint.parent, "some/vicuna": originals.language_model}[repository]
        )

    monkeypatch.setattr(hub, "snapshot_download", download)
    settings = settle(originals, checkpoint="some/checkpoint:checkpoint_best.pth", language_model="some/vicuna")
    convert_model(settings, output=tmp_path / "out")
    assert find_differences(load_folder(tmp_path / "out"), load_folder(converted)) == []
    assert asked[0] == ("some/checkpoint", ["checkpoint_best.pth"])
    assert "*.safetensors" in asked[1][1]
    with pytest.raises(InputError, match=r"CHECKPOINT: some/checkpoint .* has no file other\.pth"):
        convert_model(replace(settings, checkpoint="some/checkpoint:other.pth"), output=tmp_path / "other")


def test_without_a_network_the_name_and_the_way_out_are_told(originals, tmp_path, monkeypatch):
    def download(repository: str, *, allow_patterns: list[str]) -> str:
        raise OSError("Name or service not known")

    monkeypatch.setattr(hub, "snapshot_download", download)
    with pytest.raises(InputError, match=r"--language-model: no file or folder some/vicuna .* copy them here"):
        convert_model(settle(originals, language_model="some/vicuna"), output=tmp_path / "out")


def test_a_mask_branch_can_come_by_itself(originals, tmp_path):
    sizes = MaskDecoderConfig(hidden_size=16, min_hidden_size=8, n_stages=2, num_attention_heads=2, window_size=3)
    branch = {f"mask_decoder.{name}": tensor for name, tensor in ChangeMaskDecoder(sizes).state_dict().items()}
    torch.save({"model": branch | {"temp": torch.tensor(0.07)}}, tmp_path / "mask.pth")
    convert_model(
        settle(originals, mask_checkpoint=str(tmp_path / "mask.pth"), mask_size_px=48), output=tmp_path / "out"
    )
    found = {key: tensor for key, tensor in load_folder(tmp_path / "out").items() if key.startswith("mask_decoder.")}
    assert find_differences(found, branch) == []
    model, report = DeltaVlmForConditionalGeneration.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not any(report.values())
    found_sizes = model.config.mask_config
    for name in ("hidden_size", "min_hidden_size", "n_stages", "num_attention_heads", "window_size", "has_attention"):
        assert getattr(found_sizes, name) == getattr(sizes, name)
    assert found_sizes.output_size_px == 48
    assert inspect_model(tmp_path / "out")["masks"] == {"labels": ["change"], "size_px": 48}


def test_the_published_sizes_are_read_off_the_shapes():
    published = DeltaVlmConfig()
    shapes = {
        "visual_encoder.patch_embed.proj.weight": (1408, 3, 14, 14),
        "visual_encoder.pos_embed": (1, 257, 1408),
        "visual_encoder.blocks.0.mlp.fc1.weight": (6144, 1408),
        "visual_encoder.blocks.38.norm1.weight": (1408,),
        "Qformer.bert.embeddings.word_embeddings.weight": (30523, 768),
        "Qformer.bert.embeddings.position_embeddings.weight": (512, 768),
        "Qformer.bert.encoder.layer.0.intermediate.dense.weight": (3072, 768),
        "Qformer.bert.encoder.layer.11.output.dense.weight": (768, 3072),
        "query_tokens": (1, 32, 768),
    }
    config = infer_config(shapes, text_config=published.text_config)
    for part in ("vision_config", "qformer_config"):
        found, expected = getattr(config, part), getattr(published, part)
        for name in ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"):
            assert getattr(found, name) == getattr(expected, name), (part, name)
    assert (config.vision_config.image_size, config.vision_config.patch_size) == (224, 14)
    assert config.num_query_tokens == published.num_query_tokens
    assert infer_mask_config(shapes, output_size_px=256) is None


def test_the_sizes_of_the_light_mask_branch_are_read_off(shared_data):
    with safe_open(shared_data / "parity" / "mask_light" / "weights.safetensors", framework="pt") as file:
        shapes = {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118
    config = infer_mask_config(shapes, output_size_px=56)
    assert (config.hidden_size, config.n_stages, config.has_attention) == (64, 4, False)


# What the original's own files hold, recorded.


def list_golden_folders(shared_data: Path) -> list[Path]:
    folders = []
    for file in sorted((shared_data / "parity").glob("*/weights.safetensors")):
        with safe_open(file, framework="pt") as opened:
            if any(key.startswith("visual_encoder.") for key in opened.keys()):  # noqa: SIM118
                folders.append(file.parent)
    return folders


def split_golden(folder: Path, target: Path, **changes) -> tuple[OriginalFiles, ConversionSettings]:
    sizes = json.loads((folder / "config.json").read_text())
    files = write_original_files(
        target,
        load_file(folder / "weights.safetensors"),
        llm_config=sizes["llm"],
        llama_tokenizer=folder / "tokenizers" / "llama",
        bert_tokenizer=folder / "tokenizers" / "bert",
        checkpoint=folder / "checkpoint_best.pth",
        **changes,
    )
    settings = settle(
        files,
        vision_layers=sizes["vision"]["depth"],
        vision_heads=sizes["vision"]["num_heads"],
        qformer_heads=sizes["qformer"]["num_attention_heads"],
        mask_size_px=sizes.get("mask", {}).get("mask_output_size", 256),
    )
    return files, settings


def test_golden_files_are_put_together(shared_data, tmp_path):
    for folder in list_golden_folders(shared_data):
        (tmp_path / folder.name).mkdir()
        files, settings = split_golden(folder, tmp_path / folder.name)
        convert_model(settings, output=tmp_path / folder.name / "out")
        found = load_folder(tmp_path / folder.name / "out")
        assert find_differences(found, forget_pad_rows(rename_state(files.state))) == []
        processor = DeltaVlmProcessor.from_pretrained(tmp_path / folder.name / "out")
        recorded = json.loads((folder / "expected.json").read_text())["cases"]["main"]
        for prompt, ids, read in zip(
            recorded["prompts"], recorded["llm_prompt_ids"], recorded["qformer_input_ids"], strict=True
        ):
            text = processor.prepare_prompts([prompt])
            assert text["input_ids"][0].tolist() == ids
            assert text["qformer_input_ids"][0].tolist() == read


def test_a_golden_full_state_keeps_its_padding_row_and_mask_branch(shared_data, tmp_path):
    for folder in list_golden_folders(shared_data):
        (tmp_path / folder.name).mkdir()
        _, settings = split_golden(folder, tmp_path / folder.name)
        whole = replace(settings, checkpoint=str(folder / "weights.safetensors"), vision=None, max_shard_bytes=10**6)
        told = convert_model(whole, output=tmp_path / folder.name / "full")
        expected = rename_state(load_file(folder / "weights.safetensors"))
        assert find_differences(load_folder(tmp_path / folder.name / "full"), expected) == []
        assert told["padding_row"] == "as in the sources"
        model, report = DeltaVlmForConditionalGeneration.from_pretrained(
            tmp_path / folder.name / "full", output_loading_info=True
        )
        assert not any(report.values())
        assert (model.config.mask_config is not None) == any(key.startswith("mask_decoder.") for key in expected)


@pytest.mark.parametrize("is_trained", [True, False])
def test_the_optimizers_state_tells_whether_the_csrm_was_trained(shared_data, tmp_path, is_trained):
    for folder in list_golden_folders(shared_data):
        (tmp_path / folder.name).mkdir()
        _, settings = split_golden(folder, tmp_path / folder.name)
        checkpoint = torch.load(folder / "checkpoint_best.pth", weights_only=True)
        names = json.loads((folder / "keys.json").read_text())["trainable_caption_model"]
        decay, rest = (group["params"] for group in checkpoint["optimizer"]["param_groups"])
        shapes = {name: checkpoint["model"][name].shape for name in names}
        order = [n for n in names if len(shapes[n]) != 1] + [n for n in names if len(shapes[n]) == 1]
        assert len(decay) == sum(len(shape) != 1 for shape in shapes.values())
        checkpoint["optimizer"]["state"] = {
            number: {"step": 1, "exp_avg_sq": torch.full(shapes[name], 1e-6)}
            for number, name in zip([*decay, *rest], order, strict=True)
            if is_trained or not name.startswith(("context", "gate"))
        }
        torch.save(checkpoint, tmp_path / folder.name / "stepped.pth")
        settings = replace(settings, checkpoint=str(tmp_path / folder.name / "stepped.pth"))
        told = convert_model(settings, output=tmp_path / folder.name / "out")
        assert told["csrm"]["is_trained"] is is_trained
        assert "optimizer" in told["csrm"]["evidence"]


def test_an_untrained_csrm_is_told_by_its_weights_and_warned_of(originals, tmp_path):
    checkpoint = torch.load(originals.checkpoint, weights_only=True)
    generator = torch.Generator().manual_seed(3)
    for key in CSRM_WEIGHTS:
        weight = checkpoint["model"][key]
        bound = weight.shape[1] ** -0.5
        checkpoint["model"][key] = (torch.rand(weight.shape, generator=generator) * 2 - 1) * bound
    torch.save(checkpoint, tmp_path / "fresh.pth")
    told = convert_model(settle(originals, checkpoint=str(tmp_path / "fresh.pth")), output=tmp_path / "out")
    assert told["csrm"]["is_trained"] is False
    assert json.loads((tmp_path / "out" / "config.json").read_text())["difference_config"]["is_trained"] is False
    (warning,) = inspect_model(tmp_path / "out")["warnings"]
    assert "never trained" in warning
    assert "context1.weight" in warning


def test_a_trained_csrm_is_not_warned_of(converted):
    facts = inspect_model(converted)
    assert facts["difference_is_trained"] is True
    assert facts["warnings"] == []
    assert facts["conversion"]["csrm"]["is_trained"] is True
    assert facts["generation"]["repetition_penalty"] == 1.5


def test_padding_is_a_token_of_its_own_even_where_the_files_name_another(originals, tmp_path):
    shutil.copytree(originals.language_model, tmp_path / "llm")
    stored = json.loads((tmp_path / "llm" / "tokenizer_config.json").read_text())
    (tmp_path / "llm" / "tokenizer_config.json").write_text(json.dumps(stored | {"pad_token": "<unk>"}))
    vocabulary = load_language_vocabulary(tmp_path / "llm")
    assert vocabulary.has_new_pad
    assert vocabulary.tokenizer.pad_token == "[PAD]"


def test_prompts_of_a_vicuna_start_with_its_end_token(originals):
    vocabulary = load_language_vocabulary(originals.language_model)
    assert vocabulary.has_new_pad
    assert vocabulary.tokenizer("roads")["input_ids"][0] == 2
