"""Everything a run can be told, typed and described; a typo fails before anything is read."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import yaml
from pydantic import (
    Field,
    SerializationInfo,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from model.errors import InputError
from model.interface import ENDPOINT_PREFIX, Prompt, PromptKind
from model.redaction import redact_named, redact_values
from model.settings import check_settings
from pipeline.config.cluster import ClusterConfig
from pipeline.config.limits import LimitsConfig
from pipeline.config.loading import COMMAND_LINE, StrictConfig, read_tree
from pipeline.config.scene import SceneConfig, StretchConfig
from pipeline.uris import check_run_uri, expand_home


class GridConfig(StrictConfig):
    """The common grid that both dates are warped onto."""

    crs: str = Field(
        default="auto",
        description="CRS of the grid in metres, such as EPSG:32614; auto: the UTM zone of the overlap's centre.",
    )
    resolution_m: float = Field(
        default=0.5, gt=0, le=1000, description="Pixel size in metres. deltavlm-tiny was trained on tiles of 128 m."
    )
    tile_size_px: int = Field(default=256, ge=16, le=4096, description="Side of a tile in pixels, a multiple of 16.")

    anchor: Literal["overlap", "lattice"] = Field(
        default="overlap",
        description="Where the first tile begins. overlap: at the edge of what both scenes show; lattice: at a whole "
        "multiple of the tiles' spacing, so that runs of neighbouring or repeated areas have their tiles in common.",
    )
    max_tiles: int = Field(
        default=20_000_000,
        ge=1,
        description="A grid of more tiles is refused: a scene may say that it covers a continent. The default is "
        "330,000 square kilometres in tiles of 128 m, more than one UTM zone has of most countries.",
    )

    @field_validator("tile_size_px")
    @classmethod
    def _check_tile_size(cls, value: int) -> int:
        if value % 16:
            raise ValueError(f"{value} is no multiple of 16; use {max(16, round(value / 16) * 16)}")
        return value


class TilesConfig(StrictConfig):
    """How the tile store is written and which of its tiles are worth a look."""

    resampling: Literal["auto", "nearest", "bilinear", "cubic", "average"] = Field(
        default="auto",
        description="How pixels are interpolated onto the grid. auto: average, weighted by area, where the raster is "
        "finer than the grid by more than 1.25 times, else bilinear.",
    )
    stretch: StretchConfig = Field(
        default_factory=StretchConfig, description="How values other than 8-bit ones are scaled to 0-255."
    )
    shard_size_tiles: int = Field(
        default=8, ge=1, le=32, description="Side of a shard in tiles; a shard is the unit of write and one batch."
    )
    overlap_px: int = Field(
        default=0,
        ge=0,
        multiple_of=2,
        description="Pixels that neighbouring tiles share, so that one of them shows an object on a border as "
        "a whole; less than half of grid.tile_size_px. Nothing is counted twice.",
    )
    min_valid_fraction: float = Field(
        default=0.2,
        ge=0,
        le=1,
        description="Tiles of whose ground, inside both scenes and the area of interest, less than this fraction is "
        "valid on both dates get the status no_data.",
    )
    max_cloud_fraction: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="Tiles of whose ground more than this fraction is cloudy on either date get the status cloudy.",
    )


class RegistrationConfig(StrictConfig):
    """How the shift between the two dates is measured, and whether it is corrected."""

    gone_keys: ClassVar[Mapping[str, str]] = {
        "n_blocks": "16 blocks are looked at",
        "block_size_px": "blocks are 512 pixels wide",
    }

    estimate: bool = Field(
        default=True,
        description="Measure the shift between the dates, in blocks spread over the area that both scenes show.",
    )
    correct: bool = Field(
        default=False, description="Correct the later date by the measured shift, if one shift fits the whole area."
    )
    max_shift_px: float = Field(
        default=32, ge=8, le=256, description="Largest shift to search for, in pixels of the grid."
    )

    @model_validator(mode="after")
    def _check_correction(self) -> Self:
        if self.correct and not self.estimate:
            raise ValueError("registration.correct needs registration.estimate: a shift is corrected once it is known")
        return self


class ModelConfig(StrictConfig):
    """Which model answers, and how."""

    name: str = Field(
        default="deltavlm-tiny",
        description="A model that ships or that an installed package brings, a folder in transformers' layout, or "
        "openai:URL#NAME for one behind an OpenAI-compatible server.",
    )
    device: str = Field(default="auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$", description="auto, cpu, cuda or cuda:N.")
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        default="auto",
        description="Precision; auto: bfloat16 on CUDA and on CPUs with instructions for it, else float32.",
    )
    batch_size_tiles: int = Field(default=64, ge=1, le=512, description="Most tiles in one pass of the model.")
    outside: Literal["stop", "warn"] = Field(
        default="stop",
        description="What happens where scenes or tiles are other than what the model was made for: stop says so and "
        "ends; warn goes on and says so in the report.",
    )
    outlines: Literal["auto", "off"] = Field(
        default="auto",
        description="How the report draws changes. auto: as outlines, for the kinds that the model has masks "
        "of, else as cells; off: as cells.",
    )

    screening: Literal["auto", "off", "changed"] = Field(
        default="auto",
        description="Which tiles are asked more than whether they changed. off: all; changed: those that may have, "
        "by the answer to the classify prompt; auto: changed for openai: models, else off.",
    )
    screening_confidence: float = Field(
        default=0.95,
        ge=0.5,
        le=1,
        description="With screening: a tile that is called unchanged with at least this confidence is asked no more.",
    )

    @property
    def is_screening(self) -> bool:
        """Whether tiles are screened, given a prompt that can."""
        return self.screening == "changed" or (self.screening == "auto" and self.name.startswith(ENDPOINT_PREFIX))

    @property
    def reads_context(self) -> bool:
        """Whether the model is told dates, place and size of a tile: general models are."""
        return self.name.startswith(ENDPOINT_PREFIX)

    @field_validator("outlines", "screening", mode="before")
    @classmethod
    def _read_off(cls, value: Any) -> Any:
        # YAML takes a plain off for false.
        return "off" if value is False else value


class PromptConfig(StrictConfig):
    """One question put to every tile."""

    name: str = Field(
        pattern=r"^[a-z][a-z0-9_]*$",
        description="Unique name; an `ask` prompt's answers become the column of that name.",
    )
    kind: PromptKind = Field(description="describe, classify, count, locate or ask.")
    text: str = Field(min_length=1, max_length=2000, description="The words the model reads.")

    @field_validator("kind")
    @classmethod
    def _refuse_dialogue(cls, value: PromptKind) -> PromptKind:
        if value is PromptKind.DIALOGUE:
            raise ValueError("a run asks single questions; dialogue belongs to a conversation about one tile")
        return value

    def to_prompt(self) -> Prompt:
        """Give the plain value that the model takes."""
        return Prompt(name=self.name, kind=self.kind, text=self.text)


class ReportConfig(StrictConfig):
    """What the report tells of what was found."""

    min_confidence: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="Changes of a lower confidence are kept out of changes, zones' areas, page and exports; their "
        "tiles stay as they are. Changes whose confidence was not measured stay in.",
    )


class StorageConfig(StrictConfig):
    """How much patience a run has with the object store that it is written to, and whom it lets lead it where."""

    retry_timeout_s: float = Field(
        default=120,
        ge=1,
        le=1800,
        description="Seconds for which a failing request to s3:// is retried before the run stops.",
    )
    lock_timeout_s: float = Field(
        default=300,
        ge=2,
        le=7200,
        description="Seconds after which the lock of a run in s3:// may be taken over, if its owner has not "
        "renewed it.",
    )
    allow_private_hosts: bool = Field(
        default=False,
        description="Whether STAC documents, VRTs and redirects from the network may lead to hosts of closed networks "
        "other than their own: to this machine, to private or link-local addresses. What the config itself names is "
        "read wherever it is.",
    )

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        if self.lock_timeout_s < 2 * self.retry_timeout_s:
            raise ValueError("storage.lock_timeout_s must be at least twice storage.retry_timeout_s")
        return self


class RunSettings(StrictConfig):
    """How pairs are compared: what a run, and a region for all its pairs, can be told beside where things are."""

    zones: str | None = Field(
        default=None,
        description="Polygons to sum the findings over, such as districts (GeoJSON, GeoPackage and the like); the sums "
        "are in zones.parquet.",
    )
    zones_id_column: str | None = Field(
        default=None,
        description="Column with the zones' ids. Left out, zone_id or id if its values are complete and "
        "unique, else zones are numbered.",
    )
    zones_name_column: str | None = Field(
        default=None, description="Column with the zones' names. Left out, name or zone_name, if there is one."
    )
    grid: GridConfig = Field(default_factory=GridConfig, description="The common grid of both dates.")
    tiles: TilesConfig = Field(default_factory=TilesConfig, description="How tiles are written and selected.")
    registration: RegistrationConfig = Field(
        default_factory=RegistrationConfig, description="The shift between the dates."
    )
    model: ModelConfig = Field(default_factory=ModelConfig, description="The model that answers.")
    prompts: tuple[PromptConfig, ...] = Field(
        default_factory=lambda: load_default_prompts(),
        min_length=1,
        description="The questions; left out, those of configs/prompts.yaml.",
    )
    report: ReportConfig = Field(default_factory=ReportConfig, description="What the report tells.")
    cluster: ClusterConfig = Field(default_factory=ClusterConfig, description="The Dask workers.")
    storage: StorageConfig = Field(
        default_factory=StorageConfig, description="Retries and locks in an object store, and hosts."
    )
    limits: LimitsConfig = Field(
        default_factory=LimitsConfig, description="How long servers, models and workers are waited for."
    )

    @field_validator("output", check_fields=False)
    @classmethod
    def _check_output(cls, value: str) -> str:
        return check_run_uri(value)

    @field_validator("aoi", "zones", "exclude", check_fields=False)
    @classmethod
    def _expand_home(cls, value: str | None) -> str | None:
        return value and expand_home(value)

    @model_serializer(mode="wrap")
    def _redact(self, give: SerializerFunctionWrapHandler, info: SerializationInfo) -> dict[str, Any]:
        # JSON goes into run.json, to Prefect's server and into logs; Python values stay with the run. The questions
        # have to be kept to the letter, as the run is named after them.
        values: dict[str, Any] = give(self)
        return redact_values(values, kept=["prompts"]) if info.mode == "json" else values

    @model_validator(mode="after")
    def _check_overlap(self) -> Self:
        if 2 * self.tiles.overlap_px >= self.grid.tile_size_px:
            raise ValueError(
                f"tiles.overlap_px is {self.tiles.overlap_px}; it has to be less than half of grid.tile_size_px, "
                f"{self.grid.tile_size_px}"
            )
        return self

    @model_validator(mode="after")
    def _check_device(self) -> Self:
        if self.cluster.kind == "cuda" and self.model.device not in {"auto", "cuda"}:
            raise ValueError(
                f"model.device {self.model.device}: with cluster.kind cuda it is cuda, each worker's own GPU"
            )
        return self

    @model_validator(mode="after")
    def _check_prompts(self) -> Self:
        names = [prompt.name for prompt in self.prompts]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise ValueError(f"prompts: the names {', '.join(repeated)} appear more than once; give each its own")
        kinds = [p.kind for p in self.prompts if p.kind is not PromptKind.ASK]
        doubled = sorted({kind.value for kind in kinds if kinds.count(kind) > 1})
        if doubled:
            raise ValueError(f"prompts: more than one of kind {', '.join(doubled)}; further questions are of kind ask")
        return self


class BlockConfig(StrictConfig):
    """One square of the lattice of ``grid.crs``: a run of a region's block."""

    east: int = Field(description="Squares between it and the origin of grid.crs, eastwards.")
    north: int = Field(description="Squares between it and the origin of grid.crs, northwards.")
    size_tiles: int = Field(ge=1, le=100_000, description="Side of a square in tiles.")
    is_in_zone: bool = Field(description="Whether ground beyond the UTM zone of grid.crs belongs to other blocks.")


class PairPlaces(StrictConfig):
    """Where a run finds its two scenes, and where its result goes."""

    before: SceneConfig = Field(description="The earlier scene.")
    after: SceneConfig = Field(description="The later scene.")
    output: str = Field(
        min_length=1,
        description="Local folder of the run, or s3://bucket/prefix; made if it is not there, continued if it is.",
    )
    aoi: str | None = Field(
        default=None,
        description="Area of interest: polygons in GeoJSON, GeoPackage or the like. Tiles that touch none of "
        "them get the status outside.",
    )
    block: BlockConfig | None = Field(
        default=None,
        description="Square of a lattice that the run keeps to, as `deltavlm monitor` gives each run of a region of "
        "several blocks; it takes aoi, grid.crs and grid.anchor lattice.",
    )

    @field_validator("before", "after", mode="before")
    @classmethod
    def _accept_plain_uri(cls, value: Any) -> Any:
        return {"uri": value} if isinstance(value, str | Path | list | tuple) else value


class RunConfig(RunSettings, PairPlaces):
    """One run: two scenes of one place, a grid, a model and what to ask it."""

    # ^ pydantic takes the fields of the last base first, so forms and run.json begin with the scenes.

    @model_validator(mode="after")
    def _check_block(self) -> Self:
        if self.block is None:
            return self
        missing = [
            words
            for words, is_missing in (
                ("aoi", self.aoi is None),
                ("grid.crs", self.grid.crs == "auto"),
                ("grid.anchor lattice", self.grid.anchor != "lattice"),
            )
            if is_missing
        ]
        if missing:
            raise ValueError(f"block needs {', '.join(missing)}; give these too, or leave block out")
        return self


def list_report_settings(config: ReportConfig) -> list[Any]:
    """Give what of these settings a run is named after; nothing where all are as they are by default."""
    values = config.model_dump(mode="json", include=set(ReportConfig.model_fields))
    return [] if values == ReportConfig().model_dump(mode="json") else [values]


def describe_settings(config: RunSettings) -> dict[str, Any]:
    """Give settings as plain values for a record: without credentials, also where a cluster's arguments hold some."""
    values = config.model_dump(mode="json")
    values["cluster"]["arguments"] = redact_named(values["cluster"]["arguments"])
    # Where there are none, records are what they were before there were any.
    return {key: value for key, value in values.items() if key not in _BLOCK_KEYS or value is not None}


_BLOCK_KEYS = frozenset({"block", "blocks"})


def load_default_prompts() -> tuple[PromptConfig, ...]:
    """Read ``configs/prompts.yaml``: one prompt each to describe, classify, count and locate."""
    text = resources.files("configs").joinpath("prompts.yaml").read_text(encoding="utf-8")
    return tuple(PromptConfig.model_validate(entry) for entry in yaml.safe_load(text)["prompts"])


def load_config(
    path: str | Path | None = None,
    *,
    values: Mapping[str, Any] | None = None,
    assignments: Sequence[str] = (),
) -> RunConfig:
    """Build a `RunConfig` from a YAML file, then values, then ``key=value`` assignments, each over the former.

    Args:
        path: YAML file with the keys of `RunConfig`.
        values: Keys of `RunConfig` to put on top; None values are left out, mappings merge.
        assignments: ``dotted.key=value`` with the value in YAML, such as ``grid.resolution_m=1``.

    Raises:
        InputError: the file cannot be read, an assignment has no ``=``, a key or value does not fit, or a scene or the
            output is missing.
    """
    tree = read_run_tree(path, values=values, assignments=assignments)
    if missing := [key for key in REQUIRED_KEYS if tree.get(key) is None]:
        raise explain_missing(missing, tree=tree, path=path)
    return check_settings(RunConfig, tree, source=path or COMMAND_LINE, described_in=DESCRIBED_IN)


def read_run_tree(
    path: str | Path | None, *, values: Mapping[str, Any] | None, assignments: Sequence[str]
) -> dict[str, Any]:
    """Gather what `load_config` makes a config of.

    Raises:
        InputError: the file cannot be read, or an assignment has no ``=``.
    """
    return read_tree(
        path, values=values, assignments=assignments, described_in=DESCRIBED_IN, begin_with="configs/demo.yaml"
    )


def explain_missing(missing: Sequence[str], *, tree: Mapping[str, Any], path: str | Path | None) -> InputError:
    """Say which of the keys that a run cannot do without are missing, and what to type.

    Args:
        missing: These keys.
        tree: What was given.
        path: The config that does not have them either.
    """
    words = ["deltavlm run"]
    if path is None or set(missing) & set(SCENE_KEYS):
        words += [_name_scene(key, tree=tree) for key in SCENE_KEYS]
    words += [f"--config {path}"] if path is not None else []
    words.append(f"--output {shlex.quote(str(tree.get('output') or 'runs/mine'))}")
    return InputError(
        "; ".join(f"no {_REQUIRED[key]}" for key in missing),
        expected="two scenes and an output" + (f", in {path} or on the command line" if path is not None else ""),
        remedy=f"type: {' '.join(words)}",
    )


def _name_scene(key: str, *, tree: Mapping[str, Any]) -> str:
    scene = tree.get(key)
    uri = scene.get("uri") if isinstance(scene, Mapping) else scene
    return shlex.quote(uri) if isinstance(uri, str) else f"{key}.tif"


DESCRIBED_IN = "configs/default.yaml"
"""Where every setting is described."""
SCENE_KEYS = ("before", "after")
"""Settings that are scenes."""
REQUIRED_KEYS = (*SCENE_KEYS, "output")
"""Settings without a default."""
_REQUIRED = {
    "before": "BEFORE, the scene of the earlier date",
    "after": "AFTER, the scene of the later date",
    "output": "output, the folder for the results",
}


ZONE_KEYS = ("zones", "zones_id_column", "zones_name_column")
"""Settings that tell of zones."""
