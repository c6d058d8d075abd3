"""What a model's folder may say: sizes that a machine can hold, and nothing that makes code run.

A folder of transformers' layout is data as long as nobody reads its ``auto_map``, which names Python files to be run,
or an attention that comes as code from a hub. Its sizes are believed by whoever builds the layers that they describe,
long before a weight shows that they are wrong.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from model.errors import InputError

SAFE_LOADING: Mapping[str, Any] = {"trust_remote_code": False, "local_files_only": True}
"""How everything of a folder is loaded that transformers would otherwise fetch, or run, from elsewhere."""

_MAX_JSON_BYTES = 64 << 20
# ^ The largest vocabularies take a third of it.
_MAX_NUMBERS = {
    "num_hidden_layers": 512,
    "num_attention_heads": 1024,
    "num_key_value_heads": 1024,
    "n_stages": 8,
    "n_aspect_stages": 8,
    "aspect_hidden_size": 1 << 16,
    "hidden_size": 1 << 16,
    "intermediate_size": 1 << 18,
    "feature_size": 1 << 16,
    "head_dim": 1 << 12,
    "image_size": 4096,
    "patch_size": 1024,
    "window_size": 1024,
    "output_size_px": 2048,
    "vocab_size": 1 << 21,
    "max_position_embeddings": 1 << 22,
    "num_query_tokens": 4096,
    "num_beams": 64,
    "max_length": 1 << 14,
    "max_new_tokens": 1 << 14,
}
"""Largest values of settings that decide how much is built or how long is generated."""
_CODE_KEYS = frozenset({"auto_map", "custom_pipelines", "custom_generate"})
_ATTENTION_KEYS = frozenset({"attn_implementation", "_attn_implementation", "experts_implementation"})


def check_model_folder(folder: Path) -> None:
    """Look through the settings of a model before anything of it is built.

    Raises:
        InputError: a file is no JSON or too large, names code to be run, or a size that nothing of its kind has.
    """
    for file in sorted({*folder.glob("*.json"), *folder.glob("*/*.json")}):
        if file.stat().st_size > _MAX_JSON_BYTES:
            raise _refuse(f"{file} has {file.stat().st_size:,} bytes", expected=f"at most {_MAX_JSON_BYTES:,}")
        if file.name.endswith("config.json"):
            for key, value in _list_entries(_read(file)):
                _check_entry(key, value, file=file)


def check_sizes(folder: Path, *, n_described: int, n_stored: int) -> None:
    """Refuse a config that describes far more than the weights are.

    Args:
        folder: The model's folder.
        n_described: Parameters that the config makes.
        n_stored: Parameters in the files.

    Raises:
        InputError: they are of other models.
    """
    # Tied weights are stored once, and a vocabulary may have grown.
    if n_described > 2 * n_stored + 1_000_000:
        raise _refuse(
            f"config.json in {folder} describes {n_described:,} parameters, and the weights are {n_stored:,}",
            expected="a config and weights of one model",
        )


def _read(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as problem:
        raise _refuse(f"{file} is no JSON ({str(problem)[:200]})", expected="an object of settings") from None
    if not isinstance(content, dict):
        raise _refuse(f"{file} holds a JSON {type(content).__name__}", expected="an object of settings")
    return content


def _list_entries(content: Any) -> Iterator[tuple[str, Any]]:
    """List keys and values in any depth; without recursion, as the depth is a stranger's."""
    waiting = [content]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            yield from value.items()
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value


def _check_entry(key: str, value: Any, *, file: Path) -> None:
    if key in _CODE_KEYS and value:
        raise _refuse(f"{file} names code to be run ({key})", expected="settings alone")
    if key in _ATTENTION_KEYS and isinstance(value, str) and not value.isidentifier():
        raise _refuse(f"{file}: {key} is {value[:80]!r}", expected="an attention that transformers has itself")
    most = _MAX_NUMBERS.get(key)
    if most is None or value is None:
        return
    is_size = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= most
    if not is_size and not isinstance(value, list | dict):
        raise _refuse(f"{file}: {key} is {str(value)[:80]}", expected=f"a number from 0 to {most:,}")


def _refuse(found: str, *, expected: str) -> InputError:
    return InputError(found, expected=expected, remedy="do not trust this model, or get its files again")
