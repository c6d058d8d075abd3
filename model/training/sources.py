"""Where the pairs of a training come from, as its config says, and which of them are held out for validation."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

from model.errors import InputError
from model.pairs.folders import LabelledPair, read_captions, scan_pair_folder
from model.pairs.held_out import pick_held_out
from model.pairs.matched_crops import MatchLimits, read_matched_crops
from model.training.conversations import InstructionSource, scan_instructions
from model.training.dataset import PairSource, Source
from model.training.synthetic_pairs import SyntheticPairs, synthesize_tile_pairs

logger = logging.getLogger(__name__)

DEFAULT_CROP_SIZE_PX = 256
"""Side of a tile of a run, unless its config says otherwise."""


class SourceConfig(BaseModel):
    """What every source can be told."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    weight: float = Field(default=1.0, gt=0, description="Relative frequency of the source.")


class CroppedSourceConfig(SourceConfig):
    """What every source of pairs with masks can be told."""

    scale_range: tuple[float, float] = Field(default=(1.0, 1.0), description="Variation of the crop's side.")


class FolderSourceConfig(CroppedSourceConfig):
    """Real pairs: a folder with A/, B/ and label/."""

    kind: Literal["folder"] = "folder"
    path: str = Field(description="Folder, relative to the data root.")
    pattern: str = Field(default="*", description="Which stems to take.")
    captions: str | None = Field(default=None, description="captions.json in the folder.")
    captions_split: str = Field(default="train", description="Split of captions.json to take.")
    has_road_truth: bool = Field(
        default=False,
        description="Whether masks hold 128 where a road changed and 255 where a building did; else every value but "
        "zero is a changed building, and nothing is known of roads.",
    )
    crop_size_px: int | None = Field(
        default=None,
        ge=16,
        description="Side of a crop in pixels: what a tile of a run will show; left out, 256 or the side of the "
        "smallest pair.",
    )


class SyntheticSourceConfig(CroppedSourceConfig):
    """Synthetic pairs."""

    kind: Literal["synthetic"]
    n_pairs: int | None = Field(
        default=None,
        ge=1,
        description="How many tiles to make beforehand, 32 of each landscape; those in which buildings both came and "
        "went are left out. Left out with `on_the_fly`.",
    )
    on_the_fly: bool = Field(
        default=False,
        description="Whether pairs are made when they are drawn, each from a seed of its own, and never held.",
    )
    first_seed: int = Field(default=100_000, ge=0, description="Seed of the first pair.")
    size_px: int = Field(default=512, ge=64, description="Side of a pair in pixels.")
    resolution_m: float = Field(default=0.5, gt=0, description="Pixel size in metres.")
    crop_size_px: int = Field(ge=16, description="Side of a crop in pixels.")

    @model_validator(mode="after")
    def _check_number(self) -> SyntheticSourceConfig:
        if self.on_the_fly == (self.n_pairs is not None):
            raise ValueError("one of n_pairs and on_the_fly: true is needed, and not both")
        return self


class MatchedSourceConfig(SourceConfig):
    """Crops of LEVIR-CD's panels that people wrote about, found again in them."""

    kind: Literal["matched"]
    path: str = Field(description="Folder of the panels, relative to the data root.")
    matches: str = Field(description="JSON list of the panels and their crops, relative to the data root.")
    captions: str = Field(description="LEVIR-CC's captions, relative to the data root.")
    min_margin: float = Field(default=4.0, description="Least margin of a panel's match.")
    min_share: float = Field(default=0.7, gt=0, le=1, description="Least part of a crop that its panel shows.")
    is_changed: bool | None = Field(
        default=None, description="Only crops that people say have changed, or have not; left out, both."
    )


class ChangeChatSourceConfig(SourceConfig):
    """Questions and answers that come with their pairs: a file in ChangeChat-105k's form."""

    kind: Literal["changechat"]
    path: str = Field(description="JSON file, relative to the data root.")
    images: str = Field(default=".", description="Folder that its image paths are relative to, from the data root.")


def _name_kind(value: Any) -> Any:
    return value.get("kind", "folder") if isinstance(value, dict) else getattr(value, "kind", None)


AnySourceConfig = Annotated[
    Annotated[FolderSourceConfig, Tag("folder")]
    | Annotated[MatchedSourceConfig, Tag("matched")]
    | Annotated[SyntheticSourceConfig, Tag("synthetic")]
    | Annotated[ChangeChatSourceConfig, Tag("changechat")],
    Discriminator(_name_kind),
]
"""A source of the kind that its config names; a folder where it names none."""


class ValidationConfig(BaseModel):
    """How training is watched on pairs that it does not learn from; measured at every checkpoint."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sources: list[AnySourceConfig] = Field(
        default_factory=list, description="Where these pairs come from, beside what is held out of the training's own."
    )
    held_out_fraction: float = Field(
        default=0.0, ge=0, lt=1, description="Part of the training's real pairs to hold out, by a hash of their names."
    )
    max_tiles: int = Field(default=256, ge=1, description="Most tiles, or instructions, of each source.")
    figure: Literal["loss", "text_loss", "token_accuracy", "exact_fraction"] = Field(
        default="loss",
        description="What decides which checkpoint is best: the whole loss, that of the answers' tokens, the part of "
        "the tokens that are right, or that of the answers whose every token is, which is what a greedy search would "
        "say.",
    )
    patience: int | None = Field(
        default=None, ge=1, description="Stop after so many checkpoints in a row that were no better than the best."
    )

    @model_validator(mode="after")
    def _check_sources(self) -> ValidationConfig:
        if not self.sources and not self.held_out_fraction:
            raise ValueError("sources or held_out_fraction is needed: there is nothing to validate on")
        return self


@dataclass(frozen=True, kw_only=True)
class LoadedSources:
    """What the sources of a config gave."""

    training: tuple[Source[Any], ...]
    held_out: tuple[Source[Any], ...]
    """The part of the same sources that training does not see."""
    skipped: tuple[str, ...]
    """One line per pair that was left out: its name and why."""


def load_sources(
    configs: Sequence[AnySourceConfig],
    *,
    data_root: Path,
    held_out_fraction: float = 0.0,
) -> LoadedSources:
    """Read or make the pairs of every source.

    Args:
        configs: What to read and make.
        data_root: Where the paths of real sources start.
        held_out_fraction: Part of the real pairs that is held out, by a hash of their names: a pair stays on its side
            whatever else the folder holds. Synthetic pairs are never held out.

    Raises:
        InputError: a source is not there, or no pair of it can be used; a source is damaged, or too small to hold
            anything out.
    """
    training: list[Source[Any]] = []
    held_out: list[Source[Any]] = []
    skipped: list[str] = []
    for config in configs:
        source: PairSource | InstructionSource
        if isinstance(config, SyntheticSourceConfig):
            training.append(_make_synthetic(config))
            continue
        if isinstance(config, FolderSourceConfig):
            source, left_out = _read_folder(config, data_root=data_root)
        elif isinstance(config, MatchedSourceConfig):
            source, left_out = _read_matched(config, data_root=data_root), []
        else:
            instructions, left_out = scan_instructions(data_root / config.path, images=data_root / config.images)
            source = InstructionSource(instructions=instructions, weight=config.weight)
        skipped += left_out
        logger.info("%s: %d items, %d pairs left out", config.path, len(source), len(left_out))
        if held_out_fraction:
            source, held = _hold_out(source, fraction=held_out_fraction, path=config.path)
            held_out.append(held)
        training.append(source)
    return LoadedSources(training=tuple(training), held_out=tuple(held_out), skipped=tuple(skipped))


def load_all_sources(
    configs: Sequence[AnySourceConfig],
    *,
    validation: ValidationConfig | None,
    data_root: Path,
) -> LoadedSources:
    """Read or make the sources to learn from, and with them what they are validated on.

    Raises:
        InputError: as `load_sources`.
    """
    if validation is None:
        return load_sources(configs, data_root=data_root)
    learned = load_sources(configs, data_root=data_root, held_out_fraction=validation.held_out_fraction)
    watched = load_sources(validation.sources, data_root=data_root)
    return LoadedSources(
        training=learned.training,
        held_out=(*learned.held_out, *watched.training),
        skipped=(*learned.skipped, *watched.skipped),
    )


def _make_synthetic(config: SyntheticSourceConfig) -> PairSource:
    pairs: Sequence[LabelledPair]
    if config.n_pairs is None:
        pairs = SyntheticPairs(first_seed=config.first_seed, size_px=config.size_px, resolution_m=config.resolution_m)
    else:
        seeds = range(config.first_seed, config.first_seed + config.n_pairs)
        pairs = synthesize_tile_pairs(seeds, size_px=config.size_px, resolution_m=config.resolution_m)
        if not pairs:
            raise InputError(
                f"{config.n_pairs} synthetic pairs, and buildings came and went in all",
                expected="some of one kind",
                remedy="raise n_pairs, to 32 or more",
            )
    return PairSource(
        pairs=pairs, crop_size_px=config.crop_size_px, weight=config.weight, scale_range=config.scale_range
    )


def _read_folder(config: FolderSourceConfig, *, data_root: Path) -> tuple[PairSource, list[str]]:
    folder = data_root / config.path
    captions = read_captions(folder / config.captions, split=config.captions_split) if config.captions else None
    reading = scan_pair_folder(folder, pattern=config.pattern, captions=captions, has_road_truth=config.has_road_truth)
    smallest = min(min(pair.mask.shape) for pair in reading.pairs)
    source = PairSource(
        pairs=reading.pairs,
        crop_size_px=config.crop_size_px or min(DEFAULT_CROP_SIZE_PX, smallest),
        weight=config.weight,
        scale_range=config.scale_range,
    )
    return source, list(reading.skipped)


def _read_matched(config: MatchedSourceConfig, *, data_root: Path) -> PairSource:
    pairs = read_matched_crops(
        data_root / config.path,
        matches=data_root / config.matches,
        captions=data_root / config.captions,
        limits=MatchLimits(min_margin=config.min_margin, min_share=config.min_share, is_changed=config.is_changed),
    )
    # Captions speak of the whole crop.
    return PairSource(pairs=pairs, crop_size_px=max(max(pair.mask.shape) for pair in pairs), weight=config.weight)


def _hold_out(
    source: PairSource | InstructionSource, *, fraction: float, path: str
) -> tuple[PairSource | InstructionSource, PairSource | InstructionSource]:
    """Split a source in two: what is trained on, and what is held out."""
    if isinstance(source, InstructionSource):
        names = {instruction.before.stem for instruction in source.instructions}
        held = choose_held_out(names, fraction=fraction, path=path)
        parts = [[i for i in source.instructions if (i.before.stem in held) == is_held] for is_held in (False, True)]
        return replace(source, instructions=parts[0]), replace(source, instructions=parts[1])
    held = choose_held_out({pair.name for pair in source.pairs}, fraction=fraction, path=path)
    pairs = [[pair for pair in source.pairs if (pair.name in held) == is_held] for is_held in (False, True)]
    return replace(source, pairs=pairs[0]), replace(source, pairs=pairs[1])


def choose_held_out(names: set[str], *, fraction: float, path: str) -> set[str]:
    """Choose the names that are held out: those whose hash is small enough, and at least one.

    Raises:
        InputError: there would be nothing left on one side.
    """
    held = pick_held_out(names, fraction=fraction)
    if len(held) == len(names):
        raise InputError(
            f"{len(names)} pair(s) in {path}, of which {fraction:.0%} should be held out",
            expected="pairs on both sides",
            remedy="add pairs, or set validation.held_out_fraction to 0",
        )
    return held
