"""prefect.yaml says of the example regions what `deltavlm serve` would tell the server of their files."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.config.region import RegionConfig, load_region_config

ROOT = Path(__file__).parents[3]
REGION_FILES = [ROOT / "configs" / "regions" / f"{name}.yaml" for name in ("folder", "sentinel2", "synthetic")]
"""Those that prefect.yaml deploys; the others show archives."""


@pytest.fixture(scope="module")
def deployments() -> dict[str, dict[str, Any]]:
    written = yaml.safe_load((ROOT / "prefect.yaml").read_text(encoding="utf-8"))
    return {each["name"]: each for each in written["deployments"]}


def list_texts(values: Any) -> Iterator[str]:
    if isinstance(values, str):
        yield values
    elif isinstance(values, dict):
        for each in values.values():
            yield from list_texts(each)
    elif isinstance(values, list):
        for each in values:
            yield from list_texts(each)


@pytest.mark.parametrize("path", REGION_FILES, ids=lambda path: path.stem)
def test_a_region_is_deployed_as_it_is_served(path: Path, deployments: dict[str, dict[str, Any]]) -> None:
    from flows.deployments import give_plain_values, make_region_deployment

    served = make_region_deployment(load_region_config(path))
    written = deployments[str(served.name)]

    region = give_plain_values(RegionConfig.model_validate(written["parameters"]["region"]))
    assert region == served.parameters["region"]
    assert written["tags"] == served.tags
    assert written["version"] == served.version
    limit = written["concurrency_limit"]
    assert limit["limit"] == served.concurrency_limit
    assert limit["collision_strategy"] == served.concurrency_options.collision_strategy.value
    times = [(each["cron"], each["timezone"]) for each in written.get("schedules", [])]
    assert times == [(each.schedule.cron, each.schedule.timezone) for each in served.schedules]


def test_detect_changes_is_deployed_as_it_is_served(deployments: dict[str, dict[str, Any]]) -> None:
    from flows.deployments import make_run_deployment

    served = make_run_deployment()
    written = deployments[str(served.name)]

    assert written["tags"] == served.tags
    assert written["version"] == served.version == version("deltavlm-monitor")
    assert "parameters" not in written
    assert served.parameters == {}


def test_no_schedule_begins_and_no_path_is_of_one_machine(deployments: dict[str, dict[str, Any]]) -> None:
    assert len(deployments) == 1 + len(REGION_FILES)
    for each in deployments.values():
        assert all(schedule["active"] is False for schedule in each.get("schedules", []))
        assert (ROOT / each["entrypoint"].split(":")[0]).is_file()
        assert not [text for text in list_texts(each) if text.startswith(("/", "~"))]
