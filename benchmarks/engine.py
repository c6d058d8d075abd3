"""The batched engine against a loop that works as the original's `infer_subtasks.py` does, on the same weights.

The loop asks one prompt of one pair at a time and encodes both images again for each, with transformers' own
`generate`, in a process that may use every core. The engine runs as a run's workers do: one process per core with one
thread each, 64 pairs in a batch. Both get the same pixels in memory, answer the same prompts in the same precision, and
take turns; the bar is the median of the ratios. Every answer of the one must be the other's.

With ``--full-size`` the engine runs alone, with random weights of the paper's size on a GPU, and is measured in pairs
per second: three prompts whose answers have 20 tokens each.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import chain
from multiprocessing import get_context
from typing import Any

import numpy as np
import numpy.typing as npt

from flows.fork_server import ALLOCATOR_ENVIRONMENT
from model.interface import Prompt
from model.registry import load_model
from pipeline.config.prompts import load_default_prompts

BAR_RATIO = 10.0
BATCH_SIZE_TILES = 64
N_ROUNDS = 3
ASKED = ("description", "count", "location")
FULL_SIZE_BAR = 85.0
FULL_SIZE_ROOFLINE = 142.0
"""Pairs per second that one H100 is bound by at 64 pairs and three answers of 20 tokens: half of it the prompts' way
through the language model, 30 % reading its weights for each token, 19 % the vision tower."""
ANSWER_TOKENS = 20

Pairs = npt.NDArray[np.uint8]


def make_pairs(n_pairs: int) -> Pairs:
    """Make synthetic tiles of 128 m, uint8 of shape (n, date=2, band=3, y=256, x=256)."""
    from model.pairs.folders import cut_tiles
    from model.training.synthetic_pairs import synthesize_pairs

    scenes = synthesize_pairs(range(900, 900 + -(-n_pairs // 4)), size_px=512, resolution_m=0.5)
    tiles = [tile for scene in scenes for tile in cut_tiles(scene, size_px=256)][:n_pairs]
    return np.stack([np.stack([tile.before, tile.after]).transpose(0, 3, 1, 2) for tile in tiles])


def choose_prompts() -> list[Prompt]:
    """Take the prompts for captions, counts and places."""
    return [prompt.to_prompt() for prompt in load_default_prompts() if prompt.name in ASKED]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What one process made of its pairs."""

    texts: list[list[str]]
    """Answers, one list per prompt."""
    n_tokens: int
    """Tokens of all answers, end tokens included."""
    peak_bytes: int
    """Most memory that the process has ever held."""


_model: Any = None
"""What a pool's initializer leaves for its tasks."""


def load(name: str, dtype: str, n_threads: int) -> None:
    """Load the model into this process."""
    import torch

    global _model
    torch.set_num_threads(n_threads)
    _model = load_model(name, dtype=dtype, batch_size_tiles=BATCH_SIZE_TILES)


def run_engine(pairs: Pairs) -> Outcome:
    """Answer every prompt for every pair, batch by batch."""
    answers = _model.answer_prompts(pairs, prompts=choose_prompts())
    return describe_outcome([[answer.text for answer in row] for row in answers])


def run_loop(pairs: Pairs) -> Outcome:
    """Answer one prompt about one pair at a time, from its pixels to its words."""
    import torch
    from transformers import GenerationConfig

    from model.answering import MAX_NEW_TOKENS

    model, processor = _model.model, _model.processor
    texts = []
    for prompt in choose_prompts():
        config = GenerationConfig(
            max_new_tokens=MAX_NEW_TOKENS[prompt.kind],
            do_sample=False,
            eos_token_id=processor.tokenizer.eos_token_id,
            pad_token_id=processor.tokenizer.pad_token_id,
        )
        row = []
        for pair in pairs:
            with torch.inference_mode():
                pixels = processor.prepare_pairs(pair[None]).to(model.device, model.dtype)
                # The original encodes the images of a pair one after the other.
                before, after = (model.vision_model(pixels[:, date]).last_hidden_state for date in (0, 1))
                text = processor.prepare_prompts([prompt.text])
                query_output = model.query_differences(
                    model.difference(before, after),
                    qformer_input_ids=text["qformer_input_ids"],
                    qformer_attention_mask=text["qformer_attention_mask"],
                )
                prefix = model.prefix_embeddings(query_output, input_ids=text["input_ids"])
                mask = torch.ones(prefix.shape[:2], dtype=torch.int64)
                ids = model.language_model.generate(inputs_embeds=prefix, attention_mask=mask, generation_config=config)
            row += processor.decode_answers(ids)
        texts.append(row)
    return describe_outcome(texts)


def describe_outcome(texts: list[list[str]]) -> Outcome:
    """Count what this process has said and held."""
    tokenizer = _model.processor.tokenizer
    ids = tokenizer([text for row in texts for text in row], add_special_tokens=False)["input_ids"]
    peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return Outcome(texts=texts, n_tokens=sum(len(row) + 1 for row in ids), peak_bytes=peak_bytes)


def open_pool(*, name: str, dtype: str, n_threads: int, environment: dict[str, str]) -> ProcessPoolExecutor:
    """Start one process with the model loaded, under some environment variables."""
    former = dict(os.environ)
    os.environ.update(environment)
    try:
        pool = ProcessPoolExecutor(1, get_context("spawn"), load, (name, dtype, n_threads))
        pool.submit(os.getpid).result()
    finally:
        os.environ.clear()
        os.environ.update(former)
    return pool


def compare(*, name: str, dtype: str, n_processes: int) -> dict[str, Any]:
    """Let engine and loop take turns."""
    pairs = make_pairs(BATCH_SIZE_TILES * n_processes)
    worker = ALLOCATOR_ENVIRONMENT | {"OMP_NUM_THREADS": "1"}
    engines = [open_pool(name=name, dtype=dtype, n_threads=1, environment=worker) for _ in range(n_processes)]
    loop = open_pool(name=name, dtype=dtype, n_threads=os.cpu_count() or 1, environment={})
    shares = np.split(pairs, n_processes)
    engine_s, loop_s = [], []
    for _ in range(N_ROUNDS):
        start = time.perf_counter()
        futures = [engine.submit(run_engine, share) for engine, share in zip(engines, shares, strict=True)]
        outcomes = [future.result() for future in futures]
        engine_s.append(time.perf_counter() - start)
        start = time.perf_counter()
        looped = loop.submit(run_loop, pairs).result()
        loop_s.append(time.perf_counter() - start)
    for pool in (*engines, loop):
        pool.shutdown()
    said = [list(chain.from_iterable(outcome.texts[index] for outcome in outcomes)) for index in range(len(ASKED))]
    ratio = statistics.median(slow / fast for slow, fast in zip(loop_s, engine_s, strict=True))
    n_answers = len(pairs) * len(ASKED)
    sides = {
        "engine": (statistics.median(engine_s), outcomes, [outcome.n_tokens for outcome in outcomes]),
        "loop": (statistics.median(loop_s), [looped], [looped.n_tokens]),
    }
    figures: dict[str, Any] = {"n_pairs": len(pairs), "n_prompts": len(ASKED), "n_processes": n_processes}
    figures["precision"] = dtype
    for side, (seconds, results, tokens) in sides.items():
        figures[f"{side}_answers_per_s"] = round(n_answers / seconds, 1)
        figures[f"{side}_tokens_per_s"] = round(sum(tokens) / seconds, 1)
        figures[f"{side}_peak_mb"] = round(sum(result.peak_bytes for result in results) / 1e6)
    return {
        "name": "engine",
        "figures": figures,
        "ratio": round(ratio, 2),
        "answers_equal": said == looped.texts,
        "bar": BAR_RATIO,
        "holds": ratio >= BAR_RATIO and said == looped.texts,
    }


def measure_full_size() -> dict[str, Any]:
    """Measure the paper's size with random weights on a GPU."""
    import torch

    from model.configuration import DeltaVlmConfig

    if not torch.cuda.is_available():
        sys.exit("--full-size needs a CUDA device and found none; run it on a machine with a GPU of 24 GB or more")
    torch.set_default_dtype(torch.bfloat16)
    with torch.device("cuda"):
        answerer = build_random_answerer(DeltaVlmConfig())
    torch.set_default_dtype(torch.float32)
    pairs = np.random.default_rng(0).integers(0, 256, (BATCH_SIZE_TILES, 2, 3, 256, 256), dtype=np.uint8)
    pairs_per_s = measure_pairs(answerer, pairs, n_rounds=N_ROUNDS)
    figures = {
        "device": torch.cuda.get_device_name(),
        "pairs_per_s": round(pairs_per_s, 1),
        "roofline_pairs_per_s": FULL_SIZE_ROOFLINE,
        "peak_mb": round(torch.cuda.max_memory_allocated() / 1e6),
    }
    holds = pairs_per_s >= FULL_SIZE_BAR
    return {"name": "engine_full_size", "figures": figures, "bar": FULL_SIZE_BAR, "holds": holds}


def build_random_answerer(config: Any) -> Any:
    """Put random weights of some size behind the engine; answers never end before `ANSWER_TOKENS`."""
    from dataclasses import replace

    from model.answering import DeltaVlmAnswerer
    from model.decoding.steps import SearchSettings
    from model.interface import ModelIdentity
    from model.modeling import DeltaVlmForConditionalGeneration
    from model.processing import CLIP_IMAGE_SETTINGS, DeltaVlmProcessor
    from model.registry import find_model_folder

    # The small model's words stand for any: what they are does not matter, only how many.
    processor = DeltaVlmProcessor.from_pretrained(find_model_folder("deltavlm-tiny"))
    images = replace(CLIP_IMAGE_SETTINGS, image_size=config.vision_config.image_size)
    return DeltaVlmAnswerer(
        DeltaVlmForConditionalGeneration(config),
        replace(processor, images=images),
        identity=ModelIdentity(model_id="random", weight_hash="", path=""),
        batch_size_tiles=BATCH_SIZE_TILES,
        settings=SearchSettings(eos_token_id=-1, pad_token_id=0, max_length=ANSWER_TOKENS),
    )


def measure_pairs(answerer: Any, pairs: Pairs, *, n_rounds: int) -> float:
    """Give pairs per second over three prompts: the best of some rounds, after one to warm up."""
    prompts = choose_prompts()
    answerer.answer_prompts(pairs, prompts=prompts)
    seconds = []
    for _ in range(n_rounds):
        start = time.perf_counter()
        answerer.answer_prompts(pairs, prompts=prompts)
        seconds.append(time.perf_counter() - start)
    return len(pairs) / min(seconds)


def main() -> None:
    """Print a table, then one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="deltavlm-tiny", help="name of a model, or its folder")
    parser.add_argument("--dtype", default="auto", help="precision of both sides: auto, float32 or bfloat16")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="engine processes")
    parser.add_argument("--full-size", action="store_true", help="the paper's size on a GPU, random weights")
    asked = parser.parse_args()
    result = (
        measure_full_size()
        if asked.full_size
        else compare(name=asked.model, dtype=asked.dtype, n_processes=asked.processes)
    )
    for name, value in result["figures"].items():
        print(f"{name:<24} {value}")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
