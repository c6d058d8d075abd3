"""A model's folder from a stranger: sizes of monsters and names of code are told before anything is built."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from model.errors import InputError
from model.model_folders import check_model_folder, check_sizes


def write(folder: Path, content: Any, *, name: str = "config.json") -> Path:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(content if isinstance(content, str) else json.dumps(content))
    return folder


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("config.json", {"auto_map": {"AutoModel": "evil.Model"}}, r"names code to be run \(auto_map\)"),
        ("config.json", {"text_config": {"auto_map": {"AutoConfig": "evil.C"}}}, "names code to be run"),
        ("tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["evil.T", None]}}, "names code to be run"),
        ("qformer_tokenizer/tokenizer_config.json", {"auto_map": {"AutoTokenizer": "evil.T"}}, "names code to be run"),
        ("generation_config.json", {"custom_generate": "someone/evil"}, "names code to be run"),
        ("config.json", {"attn_implementation": "someone/kernel:fn"}, "attn_implementation is 'someone/kernel:fn'"),
        ("config.json", {"text_config": {"num_hidden_layers": 10**9}}, "num_hidden_layers is 1000000000"),
        ("config.json", {"text_config": {"vocab_size": 10**12}}, "vocab_size is 1000000000000"),
        ("config.json", {"vision_config": {"hidden_size": -1}}, "hidden_size is -1"),
        ("config.json", {"num_query_tokens": "many"}, "num_query_tokens is many"),
        ("config.json", '{"vision_config": {"image_size": NaN}}', "image_size is nan"),
        ("config.json", '{"vision_config": {"image_size": 1e999}}', "image_size is inf"),
        ("generation_config.json", {"max_length": 10**9}, "max_length is 1000000000"),
        ("config.json", "[" * 200_000, "is no JSON"),
        ("config.json", '{"a":' * 200_000, "is no JSON"),
        ("config.json", [1], "holds a JSON list"),
    ],
)
def test_settings_of_a_stranger_are_looked_through(name: str, content: Any, words: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=words):
        check_model_folder(write(tmp_path, content, name=name))


def test_settings_of_a_model_are_no_strangers(tmp_path: Path) -> None:
    content = {
        "auto_map": None,
        "text_config": {"attn_implementation": "sdpa", "hidden_size": 4096},
        "max_length": None,
    }

    check_model_folder(write(tmp_path, content))


def test_a_config_of_another_size_than_the_weights_is_refused(tmp_path: Path) -> None:
    check_sizes(tmp_path, n_described=2_000_000, n_stored=1_500_000)
    with pytest.raises(InputError, match=r"describes 9,000,000,000 parameters, and the weights are 1,500,000"):
        check_sizes(tmp_path, n_described=9_000_000_000, n_stored=1_500_000)
