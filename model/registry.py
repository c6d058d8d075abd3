"""Which model a name stands for, whose weights they are, and how it is loaded; importing this loads no torch."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from importlib import resources
from importlib.metadata import EntryPoints, entry_points
from pathlib import Path
from typing import Any

from model.certainty import read_certainty
from model.errors import InputError
from model.file_hashes import hash_file
from model.home import ModelHome
from model.inspection import INT8, fit_dtype
from model.interface import ENDPOINT_PREFIX, ChangeModel, ModelIdentity, ModelSource


def load_named_model(name: str, *, device: str, dtype: str) -> ChangeModel:
    """Load a model.

    Raises:
        InputError: there is no such model, or it cannot be used.
    """
    try:
        return load_model(name, device=device, dtype=dtype, batch_size_tiles=1)
    except InputError as problem:
        raise problem.about(f"model {name!r}: ") from None


ENTRY_POINT_GROUP = "deltavlm.models"
"""Group of entry points, each with the name of a model and a `ModelSource`."""

SHIPPED_MODELS = ("deltavlm-tiny",)
"""Names that are resolved to weights inside this package."""


def find_model_source(name: str) -> ModelSource | None:
    """Give the model of this name that a server offers or an installed package brings, if one does.

    Raises:
        InputError: the name begins as one of a served model and has another form.
    """
    if name.startswith(ENDPOINT_PREFIX):
        from model.remote.model import RemoteModelSource

        return RemoteModelSource.from_name(name)
    for entry_point in _list_entry_points():
        if entry_point.name == name:
            source: ModelSource = entry_point.load()
            return source
    return None


@cache
def _list_entry_points() -> EntryPoints:
    # It looks into every package that is installed, and a run asks several times.
    return entry_points(group=ENTRY_POINT_GROUP)


def find_model_folder(name: str) -> Path:
    """Resolve the name of a shipped model, or a folder in transformers' layout, to a folder.

    Raises:
        InputError: neither a shipped name nor a folder with a ``config.json`` and weights in safetensors, the only form
            that holds data alone.
    """
    folder = Path(str(resources.files("model.weights"))) / name if name in SHIPPED_MODELS else Path(name)
    if not (folder / "config.json").is_file() or not any(folder.glob("*.safetensors")):
        raise InputError(
            f"no model at {name!r}",
            expected=f"one of {', '.join(SHIPPED_MODELS)} or a folder with config.json and model.safetensors",
            remedy="correct the name of the model",
        )
    return folder


def identify_model(name: str) -> ModelIdentity:
    """Hash a model's files without loading them; of large ones the hash is kept until they change.

    Raises:
        InputError: as `find_model_folder`.
    """
    if (source := find_model_source(name)) is not None:
        return source.identify()
    folder = find_model_folder(name)
    digest = hashlib.sha256()
    for file in sorted(folder.rglob("*")):
        if file.suffix in {".json", ".safetensors", ".txt", ".model"} and file.is_file():
            digest.update(json.dumps(file.relative_to(folder).as_posix()).encode())
            digest.update(hash_file(file))
    weight_hash, config = digest.hexdigest(), _read_config(folder)
    return ModelIdentity(
        model_id=f"{folder.resolve().name}@{weight_hash[:12]}",
        weight_hash=weight_hash,
        path=str(folder),
        mask_labels=_read_mask_labels(config),
        home=ModelHome.from_config(config),
        certainty=read_certainty(folder),
    )


def _read_config(folder: Path) -> Any:
    try:
        return json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        # What is damaged is told by whoever loads it.
        return None


def _read_mask_labels(config: Any) -> tuple[str, ...]:
    try:
        labels = config["mask_config"]["labels"]
    except (KeyError, TypeError):
        return ()
    return tuple(map(str, labels)) if isinstance(labels, list) else ()


def resolve_dtype(name: str, *, device: str, dtype: str, memory_bytes: float | None = None) -> str:
    """Tell what precision a model would answer in on this machine; a model whose own affair that is keeps the word.

    Args:
        name: As `load_model`.
        device: As `load_model`.
        dtype: As `load_model`; what ``auto`` prefers has to fit into memory, else it is the narrower one.
        memory_bytes: What this process may take; left out, what the machine has.

    Raises:
        InputError: there is no such device or precision here, or the weights do not fit into its memory.
    """
    if find_model_source(name) is not None:
        if dtype == INT8:
            raise InputError(
                f"model.quantize int8 for model {name!r}",
                expected="a model in a folder; what a server or another package brings is held as they hold it",
                remedy="leave model.quantize out",
            )
        return dtype
    from model.loading import choose_device, choose_dtype, measure_room

    target = choose_device(device)
    chosen = str(choose_dtype(dtype, device=target)).removeprefix("torch.")
    preferred = INT8 if dtype == INT8 else chosen
    room, place = measure_room(target, memory_bytes=memory_bytes)
    folder = str(find_model_folder(name))
    return fit_dtype(folder, dtype=preferred, is_free=dtype == "auto", memory_bytes=room, place=place)


def load_model(name: str, *, device: str = "auto", dtype: str = "auto", batch_size_tiles: int = 64) -> ChangeModel:
    """Load a model and make it ready to answer.

    Args:
        name: A shipped model, one that an installed package brings, a folder in transformers' layout, or
            ``openai:URL#NAME`` for one behind an OpenAI-compatible server.
        device: ``auto`` (CUDA where there is one), ``cpu``, ``cuda`` or ``cuda:N``.
        dtype: ``auto`` (bfloat16 on CUDA, on CPUs with instructions for it and where float32 does not fit into memory,
            else float32), ``float32``, ``bfloat16``, or ``int8`` for linear layers in int8 and the rest in float32, on
            x86 CPUs.
        batch_size_tiles: Most pairs that go through the model at once.

    Raises:
        InputError: as `find_model_folder`, or a model cannot be used; a server among them that cannot be reached or
            refuses to answer.
    """
    dtype = resolve_dtype(name, device=device, dtype=dtype)
    # ^ Before the files are hashed, which takes a minute for large ones.
    if (source := find_model_source(name)) is not None:
        # Only those who load a model need numpy, and what asks servers.
        from model.checking import CheckedModel

        return CheckedModel(source.load(device=device, dtype=dtype, batch_size_tiles=batch_size_tiles))
    identity = identify_model(name)
    # torch and transformers take seconds to import, and only workers need them.
    from model.answering import DeltaVlmAnswerer

    return DeltaVlmAnswerer.from_folder(identity, device=device, dtype=dtype, batch_size_tiles=batch_size_tiles)


def identify_named_model(name: str) -> ModelIdentity:
    """Find the weights of a model by its name.

    Raises:
        InputError: there is no such model.
    """
    try:
        return identify_model(name)
    except InputError as problem:
        raise problem.about("model.name: ") from None
