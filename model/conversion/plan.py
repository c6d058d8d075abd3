"""What a conversion writes, decided from names and shapes alone: each key has a place, or an error says why not."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from model.conversion.checkpoints import TensorFacts, WeightFile
from model.conversion.names import rename_key
from model.errors import InputError

ORIGINAL_VISION_LAYERS = 39
"""Blocks of EVA ViT-g's 40 that the original builds."""

N_SHOWN = 3
"""How many names an error lists."""

_VISION_LAYER = re.compile(r"(vision_model\.encoder\.layers)\.(\d+)\..*")
_EVA_UNUSED = re.compile(
    r"visual_encoder\.((norm|fc_norm|head|lm_head)\..*|mask_token"
    # The original builds its tower without relative positions and leaves such parameters aside.
    r"|rel_pos_bias\..*|blocks\.\d+\.attn\.relative_position_(index|bias_table))"
)
_BLOCK = re.compile(r"visual_encoder\.blocks\.(\d+)\.")

_ORIGINS = (
    ("vision_model.post_layernorm", "the original's checkpoint_best.pth"),
    ("vision_model", "eva_vit_g.pth (--vision)"),
    ("language_model", "a Vicuna-7B folder (--language-model)"),
    ("mask_decoder", "a checkpoint of the mask branch (--mask-checkpoint)"),
    ("", "the original's checkpoint_best.pth"),
)
"""Beginnings of our names, and where such parameters come from; the first that fits counts."""


@dataclass(frozen=True, kw_only=True)
class WeightSource:
    """One of the inputs of a conversion."""

    role: str
    """What it is for: ``checkpoint``, ``vision``, ``language_model`` or ``mask_checkpoint``."""
    files: tuple[WeightFile, ...]
    prefix: str = ""
    """Put before its keys to give them the names that they have inside the original's model."""
    is_unused: Callable[[str], bool] = field(default=lambda key: False)  # noqa: ARG005
    """Tells prefixed keys that it is known to hold and the model not to need."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a tensor lies."""

    path: Path
    key: str
    """Its name there."""
    facts: TensorFacts


@dataclass(frozen=True, kw_only=True)
class SourceAccount:
    """What became of the keys of one source."""

    role: str
    files: tuple[tuple[str, int], ...]
    """Names without folders, and sizes in bytes."""
    n_tensors: int
    unused: tuple[str, ...]
    """Keys that hold nothing the model needs."""
    overridden: tuple[str, ...]
    """Keys that another source, which counts before this one, holds too."""


@dataclass(frozen=True, kw_only=True)
class PlannedTensor:
    """One tensor of the model to be."""

    name: str
    places: tuple[Place, ...]
    """One; or two, the biases of queries and of values that become one bias."""
    shape: tuple[int, ...]
    dtype: torch.dtype
    n_added_rows: int = 0
    """Rows of zeros behind those of its place."""

    @property
    def n_bytes(self) -> int:
        """Size of its values."""
        return TensorFacts(shape=self.shape, dtype=self.dtype).n_bytes


def make_vision_source(files: tuple[WeightFile, ...], *, n_layers: int) -> WeightSource:
    """Make the source of EVA ViT-g's own file, whose blocks from `n_layers` on and heads the original leaves out."""

    def is_unused(key: str) -> bool:
        block = _BLOCK.match(key)
        return bool(_EVA_UNUSED.fullmatch(key)) or (block is not None and int(block[1]) >= n_layers)

    return WeightSource(role="vision", files=files, prefix="visual_encoder.", is_unused=is_unused)


def gather_places(sources: Sequence[WeightSource]) -> tuple[dict[str, Place], list[SourceAccount]]:
    """Find a place for each of the original's keys, the first source that holds it counting.

    Raises:
        InputError: a key that the original does not have, or one that two files of a source hold.
    """
    places: dict[str, Place] = {}
    accounts = []
    for source in sources:
        own = _list_places(source)
        unused = {key for key in own if source.is_unused(key) or rename_key(key) is None}
        overridden = {key for key in own if key in places and key not in unused}
        places.update({key: place for key, place in own.items() if key not in unused | overridden})
        accounts.append(
            SourceAccount(
                role=source.role,
                files=tuple((file.path.name, file.path.stat().st_size) for file in source.files),
                n_tensors=len(own),
                unused=tuple(place.key for key, place in own.items() if key in unused),
                overridden=tuple(place.key for key, place in own.items() if key in overridden),
            )
        )
    return places, accounts


def _list_places(source: WeightSource) -> dict[str, Place]:
    own: dict[str, Place] = {}
    unknown = []
    for file in source.files:
        for key, facts in file.tensors.items():
            full = source.prefix + key
            if full in own:
                raise InputError(
                    f"{file.path} holds {key}, which another file beside it holds too",
                    expected="each tensor once",
                    remedy="remove the files that do not belong to the model",
                )
            own[full] = Place(path=file.path, key=key, facts=facts)
            if not (source.is_unused(full) or _has_name(full)):
                unknown.append(key)
    if unknown:
        names = ", ".join(unknown[:N_SHOWN]) + (", ..." if len(unknown) > N_SHOWN else "")
        raise InputError(
            f"{source.files[0].path}: {len(unknown)} of its {len(own)} tensors have names that the original does not "
            f"know ({names})",
            expected=f"the original's {source.role.replace('_', ' ')}",
            remedy="give that, not another model's",
        )
    return own


def find_missing_parts(keys: Collection[str], *, n_vision_layers: int) -> list[str]:
    """Name the parts, by our names, without which not even the sizes of a model can be told.

    Args:
        keys: Of the original, as far as there is a place for them.
        n_vision_layers: Layers that the vision tower would have; the highest that there is counts before it.
    """
    names = {name for key in keys if (name := rename_key(key)) is not None}
    embeddings = "vision_model.embeddings."
    expected = [
        embeddings + part
        for part in ("class_embedding", "position_embedding", "patch_embedding.weight", "patch_embedding.bias")
    ]
    layers = {int(found[2]) for name in names if (found := _VISION_LAYER.fullmatch(name))}
    n_layers = max(layers, default=n_vision_layers - 1) + 1
    expected += [f"vision_model.encoder.layers.{index}.mlp.fc1.weight" for index in range(n_layers)]
    expected += ["vision_model.post_layernorm.weight", "query_tokens", "language_projection.weight"]
    expected += [f"difference.{part}.weight" for part in ("context1", "context2", "context3", "gate1", "gate2")]
    expected += [
        "qformer.embeddings.word_embeddings.weight",
        "qformer.embeddings.position_embeddings.weight",
        "qformer.encoder.layer.0.intermediate.dense.weight",
    ]
    missing = [name for name in expected if name not in names]
    return missing + ([] if any(name.startswith("language_model.") for name in names) else ["language_model"])


def describe_missing(names: Iterable[str]) -> str:
    """Say which parameters are missing, by part, and where each part should come from."""
    parts: dict[str, list[str]] = {}
    layers: list[int] = []
    for name in names:
        if found := _VISION_LAYER.fullmatch(name):
            layers.append(int(found[2]))
            continue
        parts.setdefault(".".join(name.split(".")[:2]), []).append(name)
    lines = []
    if layers:
        ranges = ", ".join(f"{a}-{b}" if a < b else str(a) for a, b in _join_runs(sorted(set(layers))))
        lines.append(("vision_model.encoder.layers." + ranges, "vision_model"))
    for part, members in parts.items():
        shown = part if len(members) > 1 else members[0]
        lines.append((shown + (f" ({len(members)} tensors)" if len(members) > 1 else ""), part))
    by_origin: dict[str, list[str]] = {}
    for shown, part in lines:
        origin = next(origin for start, origin in _ORIGINS if part.startswith(start))
        by_origin.setdefault(origin, []).append(shown)
    return "missing " + "; ".join(f"{', '.join(shown)}: from {origin}" for origin, shown in by_origin.items())


def plan_tensors(
    places: Mapping[str, Place],
    *,
    expected: Mapping[str, tuple[int, ...]],
    padded: Mapping[str, int],
    dtype: torch.dtype | None,
) -> list[PlannedTensor]:
    """Give each tensor of the model its place.

    Args:
        places: By the original's key.
        expected: Shape of each tensor of the model, in the order in which they are written.
        padded: Rows of zeros that are added to a tensor, by our name.
        dtype: Of floating-point tensors; left out, each keeps its own.

    Raises:
        InputError: a tensor is missing, is not the model's, or has another shape than its config says.
    """
    by_name: dict[str, list[tuple[str, Place]]] = {}
    for key, place in places.items():
        if (name := rename_key(key)) is not None:
            by_name.setdefault(name, []).append((key, place))
    if missing := [name for name in expected if name not in by_name]:
        raise InputError(
            describe_missing(missing),
            expected=f"{len(expected)} tensors, found {len(expected) - len(missing)}",
            remedy="give the named files",
        )
    if extra := [found for name, found in by_name.items() if name not in expected]:
        first = extra[0][0][1]
        raise InputError(
            f"{first.path} holds {first.key} and {len(extra) - 1} more that a model of these sizes has no use for",
            expected="the parameters of one model",
            remedy="give files that belong together",
        )
    plans = [_plan_tensor(name, by_name[name], n_added_rows=padded.get(name, 0), dtype=dtype) for name in expected]
    if wrong := [plan for plan in plans if plan.shape != expected[plan.name]]:
        raise _refuse_misfit(wrong, expected=expected[wrong[0].name])
    return plans


def _refuse_misfit(wrong: Sequence[PlannedTensor], *, expected: tuple[int, ...]) -> InputError:
    first = wrong[0]
    return InputError(
        f"{first.places[0].path}: {first.places[0].key} makes {first.name} {_show(first.shape)}, and {len(wrong) - 1} "
        "more do not fit",
        expected=f"{_show(expected)} by the sizes of the other parts and of the language model's config.json",
        remedy="give files that belong together",
    )


def _plan_tensor(
    name: str, found: list[tuple[str, Place]], *, n_added_rows: int, dtype: torch.dtype | None
) -> PlannedTensor:
    places = tuple(place for _, place in sorted(found, key=lambda pair: pair[0]))  # q_bias before v_bias
    shape, own_dtype = places[0].facts.shape, places[0].facts.dtype
    if name.endswith(".self_attn.qkv.bias") and name.startswith("vision_model."):
        if len(places) != 2:
            raise InputError(
                f"{places[0].path} holds {places[0].key} without its other half",
                expected="q_bias and v_bias",
                remedy="give a whole file",
            )
        shape = (2 * shape[0] + places[1].facts.shape[0],)
    elif n_added_rows:
        shape = (shape[0] + n_added_rows, *shape[1:])
    return PlannedTensor(
        name=name,
        places=places,
        shape=shape,
        dtype=dtype if dtype is not None and own_dtype.is_floating_point else own_dtype,
        n_added_rows=n_added_rows,
    )


def _has_name(key: str) -> bool:
    try:
        rename_key(key)
    except KeyError:
        return False
    return True


def _join_runs(numbers: Sequence[int]) -> list[tuple[int, int]]:
    runs: list[tuple[int, int]] = []
    for number in numbers:
        if runs and runs[-1][1] == number - 1:
            runs[-1] = (runs[-1][0], number)
        else:
            runs.append((number, number))
    return runs


def _show(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "a scalar"
