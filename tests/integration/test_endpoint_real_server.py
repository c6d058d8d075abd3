"""Against a server that is not ours: ``transformers serve`` with a general vision-language model of random weights."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from tiny_vision_language_model import write_tiny_model
from transformers import LlavaForConditionalGeneration, LlavaProcessor
from transformers.utils.import_utils import is_serve_available

from model.changechat.asking import NotedPair, write_open_questions
from model.changechat.assistant import Assistant
from model.changechat.building import build_set
from model.changechat.layouts import find_pairs
from model.changechat.pair_notes import note_pair
from model.changechat.reply_cache import ReplyCache
from model.interface import Prompt, PromptKind
from model.registry import load_model
from model.remote.endpoint import Endpoint, EndpointAddress
from model.remote.model import load_message_book
from model.remote.replies import tidy_text

PROMPT = Prompt(name="changed", kind=PromptKind.CLASSIFY, text="Have these two images changed?")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("general") / "tiny"
    write_tiny_model(folder)
    return folder


@pytest.fixture(scope="module")
def name(folder: Path) -> Iterator[str]:
    """Serve the model and give its name."""
    command = shutil.which("transformers", path=str(Path(sys.executable).parent))
    if command is None or not is_serve_available():
        pytest.skip("transformers serve needs fastapi, uvicorn, pydantic and openai")
    settings = ["--host", "127.0.0.1", "--port", "0", "--device", "cpu", "--dtype", "float32"]
    with subprocess.Popen(
        [command, "serve", *settings, str(folder)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        text=True,
    ) as process:
        try:
            assert process.stderr is not None
            log = []
            for line in process.stderr:
                log.append(line)
                if (told := re.search(r"Uvicorn running on (http://[\d.:]+)", line)) is not None:
                    break
            else:
                raise RuntimeError(f"transformers serve ended: {''.join(log)}")
            yield f"openai:{told[1]}/v1#{folder}"
        finally:
            process.kill()


def generate(folder: Path, pair: npt.NDArray[np.uint8]) -> str:
    """Ask the model itself, in this process, as its makers say."""
    book = load_message_book()
    form = book.forms[PROMPT.kind]
    before, after = (Image.fromarray(image) for image in pair.transpose(0, 2, 3, 1))
    content = [
        {"type": "text", "text": book.before_label},
        {"type": "image", "image": before},
        {"type": "text", "text": book.after_label},
        {"type": "image", "image": after},
        {"type": "text", "text": f"{PROMPT.text}\n\n{form.form}"},
    ]
    processor = LlavaProcessor.from_pretrained(folder)
    model = LlavaForConditionalGeneration.from_pretrained(folder).eval()
    inputs = processor.apply_chat_template(
        [{"role": "user", "content": content}],
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
    )
    with torch.inference_mode():
        ids = model.generate(**inputs, max_new_tokens=form.max_tokens, do_sample=False)
    return tidy_text(processor.decode(ids[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))


def test_answers_are_those_of_the_model_itself(folder: Path, name: str) -> None:
    random = np.random.default_rng(0)
    pairs = np.stack([random.integers(0, high, (2, 3, 32, 32), dtype=np.uint8) for high in (256, 40)])
    pairs = np.concatenate([pairs, pairs[:1, ::-1]])
    expected = [generate(folder, pair) for pair in pairs]
    assert expected[0] != expected[2], "this model does not tell before from after, so nothing is tested"

    model = load_model(name)
    (answers,) = model.answer_prompts(pairs, prompts=[PROMPT])

    assert [answer.text for answer in answers] == expected
    assert model.identity.model_id.startswith(f"{folder}@127.0.0.1:")
    assert all(np.isnan(answer.confidence) for answer in answers)


def test_a_model_that_babbles_gives_no_questions(name: str, tmp_path: Path) -> None:
    for part in ("A", "B", "label"):
        (tmp_path / part).mkdir()
        image = np.zeros((32, 32) if part == "label" else (32, 32, 3), np.uint8)
        cv2.imwrite(str(tmp_path / part / "place.png"), image)
    built = build_set(find_pairs(tmp_path))
    (pair,) = built.pairs
    assistant = Assistant(
        endpoint=Endpoint(EndpointAddress.parse(name)), cache=ReplyCache(tmp_path / "cache.jsonl"), n_questions=1
    )

    result = write_open_questions(
        [NotedPair(measured=pair, notes=note_pair(pair, class_values=built.class_values))], assistant=assistant
    )

    assert (result.records, result.failed) == ((), {})
    assert result.rejected == {"no JSON list of questions and answers": 2}
    assert assistant.n_requests == 2
    assert assistant.n_prompt_tokens > 1000
