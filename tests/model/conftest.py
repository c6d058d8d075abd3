"""A DeltaVLM of the small kind with random weights, for tests of everything but its answers' quality."""

from pathlib import Path

import pytest
import torch
from original_files import OriginalFiles, make_llm_config, make_state, write_original_files, write_tokenizers

from model.configuration import build_tiny_config
from model.interface import ModelIdentity
from model.modeling import DeltaVlmForConditionalGeneration
from model.processing import EFFICIENTNET_LITE_IMAGE_SETTINGS, DeltaVlmProcessor
from model.training.vocabulary import train_tokenizer, wrap_language_tokenizer, wrap_qformer_tokenizer

TEXTS = [
    "Please judge whether these two images have changed. Please answer yes or no.",
    "Yes",
    "No",
    "roads: ['top-left', 'center-center']. buildings: [].",
    "1 road has changed, and 12 buildings has changed.",
] * 20


@pytest.fixture(scope="session")
def processor() -> DeltaVlmProcessor:
    """The processor of a small model with a small vocabulary."""
    tokenizer = train_tokenizer(TEXTS, vocab_size=400)
    return DeltaVlmProcessor(
        images=EFFICIENTNET_LITE_IMAGE_SETTINGS,
        tokenizer=wrap_language_tokenizer(tokenizer),
        qformer_tokenizer=wrap_qformer_tokenizer(tokenizer),
    )


@pytest.fixture(scope="session")
def model(processor: DeltaVlmProcessor) -> DeltaVlmForConditionalGeneration:
    """A small model in eval mode, float32, seeded random weights."""
    torch.manual_seed(0)
    tokenizer = processor.tokenizer
    config = build_tiny_config(
        vocab_size=len(tokenizer),
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = DeltaVlmForConditionalGeneration(config).eval()
    with torch.no_grad():
        # Fresh decoder layers hardly touch their input, and tied embeddings then repeat the last token for ever.
        for parameter in model.language_model.model.layers.parameters():
            if parameter.ndim > 1:
                parameter.mul_(15)
    return model


@pytest.fixture
def identity(tmp_path: Path) -> ModelIdentity:
    """An identity that points nowhere."""
    return ModelIdentity(model_id="random", weight_hash="0" * 64, path=str(tmp_path))


@pytest.fixture(scope="session")
def originals(tmp_path_factory: pytest.TempPathFactory) -> OriginalFiles:
    """The original's files with made weights, the language model's in two safetensors shards without a [PAD] row."""
    folder = tmp_path_factory.mktemp("originals")
    llama, bert, n_words = write_tokenizers(folder / "tokenizers")
    state = make_state(n_words=n_words + 1)
    # Values that survive the language model's dtype.
    state = {key: tensor.half().float() if key.startswith("llm_") else tensor for key, tensor in state.items()}
    return write_original_files(folder, state, llm_config=make_llm_config(), llama_tokenizer=llama, bert_tokenizer=bert)
