"""A run's settings: what the shipped files say, what a typo gets, and what goes over what."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from model.errors import InputError
from pipeline.config.limits import LimitsConfig
from pipeline.config.loading import RECORDED
from pipeline.config.prompts import PromptConfig
from pipeline.config.run import RunConfig, load_config
from pipeline.config.stac import StacConfig

DEFAULT_TEXT = resources.files("configs").joinpath("default.yaml").read_text(encoding="utf-8")
REQUIRED = {"before": "b.tif", "after": "a.tif", "output": "run"}


def list_settings(model: type[BaseModel], values: Any, *, prefix: str = "") -> dict[str, str]:
    """Give the description of every setting, by its dotted key, as the model and the values nest."""
    settings: dict[str, str] = {}
    for name, field in model.model_fields.items():
        assert name in values, f"{prefix}{name} is missing in default.yaml"
        settings[prefix + name] = field.description or ""
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            settings |= list_settings(field.annotation, values[name], prefix=f"{prefix}{name}.")
    assert set(values) == set(model.model_fields)
    return settings


def test_default_yaml_describes_every_setting_in_the_words_of_the_code() -> None:
    comments = " ".join(re.sub(r"^\s*#\s*", "", line) for line in DEFAULT_TEXT.splitlines() if "#" in line)
    settings = list_settings(RunConfig, yaml.safe_load(DEFAULT_TEXT))
    for model in (PromptConfig, StacConfig):
        settings |= {name: field.description or "" for name, field in model.model_fields.items()}

    undescribed = [key for key, description in settings.items() if description not in comments]

    assert len(settings) > 25
    assert undescribed == []


def test_default_yaml_holds_the_defaults() -> None:
    values = yaml.safe_load(DEFAULT_TEXT)
    given = {key: values[key] for key in ("before", "after", "output")}

    assert RunConfig.model_validate(values) == RunConfig.model_validate(given)


@pytest.mark.parametrize("name", ["default.yaml", "demo.yaml", "gpu.yaml", "gpus.yaml"])
def test_shipped_config_is_valid(name: str) -> None:
    with resources.as_file(resources.files("configs").joinpath(name)) as path:
        config = load_config(path, values=REQUIRED)

    assert config.before.uri == "b.tif"


def test_assignments_go_over_values_and_values_over_the_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "before: {uri: file.tif, bands: [3, 2, 1]}\nafter: a.tif\noutput: run\n"
        "grid: {resolution_m: 2, tile_size_px: 64}\n"
    )

    config = load_config(
        path,
        values={"before": "value.tif", "after": None},
        assignments=("grid.resolution_m=0.25", "after.bands=[4, 3, 2]"),
    )

    assert (config.before.uri, config.before.bands) == ("value.tif", (3, 2, 1))
    assert (config.after.uri, config.after.bands) == ("a.tif", (4, 3, 2))
    assert (config.grid.resolution_m, config.grid.tile_size_px) == (0.25, 64)


@pytest.mark.parametrize(
    ("assignment", "expected"),
    [
        ("grid.resolution=1", "grid.resolution: unknown key"),
        ("resolution_m=1", "resolution_m: unknown key"),
        ("grid.resolution_m=0", "grid.resolution_m"),
        ("grid.tile_size_px=100", "grid.tile_size_px: 100 is no multiple of 16; use 96"),
        ("grid.tile_size_px=0", "grid.tile_size_px"),
        ("tiles.resampling=lanczos", "tiles.resampling"),
        ("tiles.min_valid_fraction=2", "tiles.min_valid_fraction"),
        ("prompts=[]", "prompts"),
        ("prompts=[{name: a, kind: dialogue, text: t}]", "dialogue"),
        ("prompts=[{name: A b, kind: ask, text: t}]", "prompts.0.name"),
        ("prompts=[{name: a, kind: ask, text: t}, {name: a, kind: ask, text: u}]", "more than once"),
        ("prompts=[{name: a, kind: count, text: t}, {name: b, kind: count, text: u}]", "more than one of kind count"),
        ("cluster.kind=address", "cluster.address"),
        ("cluster.address=tcp://host:1", "cluster.address"),
        ("cluster.kind=class", "cluster.class_path"),
        ("cluster.class_path=distributed.LocalCluster", "cluster.class_path"),
        ("cluster.arguments={n_workers: 1}", "cluster.arguments goes with cluster.kind: class"),
        ("cluster={kind: address, address: 'tcp://h:1', adaptive: {maximum: 2}}", "cluster.address has its own"),
        ("cluster={kind: address, address: 'tcp://h:1', memory_limit: 4GiB}", "workers of this machine"),
        ("cluster={n_workers: 2, adaptive: {maximum: 3}}", "exclude each other"),
        ("cluster.adaptive={minimum: 3, maximum: 2}", "maximum 2 is below minimum 3"),
        ("cluster.memory_limit=lots", "cluster.memory_limit"),
        ("cluster.security={tls_ca_file: ca.pem}", "cluster.security.tls_client_cert: missing"),
        ("before.bands=[1, 2]", "before.bands"),
        ("before.stac={href: item.json}", "before: uri and stac given; name one of uri, band_files, stac"),
        ("before={stac: {href: item.json}, uri: null, bands: [1, 2, 3]}", "set stac.bands"),
        ("before={stac: {href: item.json, clouds: 3}, uri: null}", "before.stac.clouds: unknown key"),
        ("registration.n_blocks=25", "registration: the key n_blocks is gone, 16 blocks are looked at: leave it out"),
        ("registration.block_size_px=256", "the key block_size_px is gone, blocks are 512 pixels wide"),
        ("cluster.worker_ttl_s=null", "cluster: the key worker_ttl_s is gone"),
        ("grid", "--set 'grid'"),
        ("aoi={a", "--set 'aoi={a'"),
    ],
)
def test_mistake_is_named(assignment: str, expected: str) -> None:
    with pytest.raises(InputError, match=re.escape(expected)):
        load_config(values=REQUIRED, assignments=(assignment,))


@pytest.mark.parametrize("uri", ["item.json", "https://host/item.JSON?sig=a.tif", "s3://bucket/items.geojson"])
def test_uri_of_a_description_is_one_of_stac(uri: str) -> None:
    config = load_config(values={**REQUIRED, "before": uri}, assignments=("before.stac.bands=[visual]",))

    assert (config.before.uri, config.before.stac) == (None, StacConfig(href=uri, bands=("visual",)))
    assert RunConfig.model_validate(config.model_dump()) == config


@pytest.mark.parametrize(
    ("text", "expected"),
    [("1999", "1999"), ("2024-05-01", "2024-05-01"), ("2024-05-01T10:00:00Z", "2024-05-01T10:00:00+00:00")],
)
def test_dates_that_yaml_takes_for_more_than_text_are_dates(text: str, expected: str) -> None:
    config = load_config(values={**REQUIRED, "before": "item.json"}, assignments=(f"before.stac.datetime={text}",))

    assert config.before.stac is not None
    assert config.before.stac.datetime == expected


def test_sentinel2_yaml_is_a_search_at_ten_metres() -> None:
    with resources.as_file(resources.files("configs").joinpath("sentinel2.yaml")) as path:
        config = load_config(path, values={"output": "run"})

    assert config.before.stac is not None
    assert config.before.stac.collections == ("sentinel-2-l2a",)
    assert config.grid.resolution_m == 10


@pytest.mark.parametrize("content", ["- a\n- b\n", "a: [1\n", "\x00"])
def test_file_that_is_no_config_is_named(content: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(content)

    with pytest.raises(InputError, match=r"mine\.yaml"):
        load_config(path)


def test_workers_with_a_gpu_each_take_no_numbered_device() -> None:
    with pytest.raises(InputError, match=r"model\.device cuda:1: with cluster\.kind cuda it is cuda"):
        load_config(values=REQUIRED, assignments=("cluster.kind=cuda", "model.device=cuda:1"))


def test_record_of_a_run_may_name_what_is_gone() -> None:
    recorded = {**REQUIRED, "registration": {"n_blocks": 16, "correct": True}, "cluster": {"worker_ttl_s": 600}}

    assert RunConfig.model_validate(recorded, context=RECORDED) == load_config(
        values={**REQUIRED, "registration": {"correct": True}}
    )


def test_config_survives_json() -> None:
    config = load_config(values=REQUIRED, assignments=("before.datetime=2020-06-01T10:00:00Z",))

    assert RunConfig.model_validate_json(config.model_dump_json()) == config


def test_outlines_are_switched_off_by_the_word_that_yaml_takes_for_false(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("before: a.tif\nafter: b.tif\noutput: run\nmodel:\n  outlines: off\n")

    assert load_config(path).model.outlines == "off"
    with pytest.raises(InputError, match=r"model\.outlines"):
        load_config(path, assignments=["model.outlines=on"])


@pytest.mark.parametrize(
    ("assignment", "expected"),
    [
        ("model.device=cuda:1", "is for CPUs"),
        ("model.name=openai:http://127.0.0.1:1/v1#m", "not for one behind a server"),
        ("model.dtype=bfloat16", r"leave model\.dtype at auto"),
    ],
)
def test_int8_is_refused_where_it_does_not_go(assignment: str, expected: str) -> None:
    quantized = load_config(values=REQUIRED, assignments=("model.quantize=int8",))

    assert (quantized.model.precision, quantized.model.dtype) == ("int8", "auto")
    with pytest.raises(InputError, match=rf"quantize: int8 .*{expected}"):
        load_config(values=REQUIRED, assignments=("model.quantize=int8", assignment))


def test_a_single_tile_that_hangs_is_given_up_in_minutes() -> None:
    assert LimitsConfig().find_batch_s(1) == 180
    assert LimitsConfig(tile_s=5).find_batch_s(64) == 330
