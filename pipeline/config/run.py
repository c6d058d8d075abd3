"""Everything a run can be told, typed and described; a typo fails before anything is read."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from pydantic import (
    Field,
    SerializationInfo,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from model.errors import InputError
from model.interface import PromptKind
from model.redaction import redact_named, redact_values
from model.settings import check_settings
from pipeline.config.cluster import ClusterConfig
from pipeline.config.grid import GridConfig, RegistrationConfig, TilesConfig
from pipeline.config.limits import LimitsConfig
from pipeline.config.loading import COMMAND_LINE, StrictConfig, read_tree
from pipeline.config.model import ModelConfig
from pipeline.config.prompts import PromptConfig, load_default_prompts
from pipeline.config.scene import SceneConfig
from pipeline.config.storage import StorageConfig
from pipeline.uris import check_run_uri, expand_home


class ReportConfig(StrictConfig):
    """What the report tells of what was found."""

    min_confidence: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="Changes of a lower confidence are kept out of changes, zones' areas, page and exports; their "
        "tiles stay as they are. Changes whose confidence was not measured stay in.",
    )


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
        default_factory=load_default_prompts,
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

    @model_validator(mode="after")
    def _check_composites(self) -> Self:
        rules = [scene.composite and (scene.composite.rule, scene.composite.cloud_buffer_m) for scene in self.scenes]
        if rules[0] != rules[1]:
            raise ValueError("before.composite and after.composite differ; both dates are made by one rule")
        return self

    @property
    def scenes(self) -> tuple[SceneConfig, SceneConfig]:
        """Before and after."""
        return self.before, self.after

    @property
    def is_composed(self) -> bool:
        """Whether each scene is made of several dates."""
        return self.before.composite is not None


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
