from __future__ import annotations

from typing import Any

import pytest

from flows.retries import PatienceConfig, UnreadTilesError, choose_policy, is_worth_retrying
from flows.run_names import UNNAMED, name_run
from model.errors import FolderError, InputError
from pipeline.config.run import load_config
from pipeline.config.scene import SceneConfig, is_remote_scene

WRONG = InputError("a.tif is cut off", expected="a whole file", remedy="fetch it again")
FULL = FolderError("the disk is full", expected="room", remedy="make some")


@pytest.mark.parametrize(
    ("scene", "expected"),
    [
        ({"uri": "/data/a.tif"}, False),
        ({"uri": "file:///data/a.tif"}, False),
        ({"uri": "zip:///data/a.zip!a.tif"}, False),
        ({"uri": ["/data/a.tif", "s3://bucket/b.tif"]}, True),
        ({"uri": "https://host/a.tif"}, True),
        ({"band_files": {"red": "r.tif", "green": "g.tif", "blue": "https://host/b.tif"}}, True),
        ({"band_files": {"red": "r.tif", "green": "g.tif", "blue": "b.tif"}}, False),
        ({"stac": {"href": "/data/item.json"}}, True),
        ({"uri": "/data/a.tif", "classes": {"band": 4}}, False),
        ({"uri": "/data/a.tif", "classes": {"uri": "/data/scl.tif"}}, False),
        ({"uri": "/data/a.tif", "classes": {"uri": ["/data/scl.tif", "https://host/scl.tif"]}}, True),
    ],
)
def test_scenes_on_the_network_are_told_from_local_ones(scene: dict[str, Any], expected: bool) -> None:
    assert is_remote_scene(SceneConfig.model_validate(scene)) is expected


@pytest.mark.parametrize(
    ("problem", "if_remote", "if_local"),
    [
        (WRONG, True, False),
        (FULL, False, False),
        (TimeoutError("too long"), True, False),
        (UnreadTilesError(3), True, False),
        (OSError("stale file handle"), True, True),
        (ValueError("a fault"), False, False),
        (None, False, False),
    ],
)
def test_only_what_may_pass_is_tried_again(problem: object, if_remote: bool, if_local: bool) -> None:
    assert is_worth_retrying(problem, reads_remote_scenes=True) is if_remote
    assert is_worth_retrying(problem, reads_remote_scenes=False) is if_local


def test_delays_double_and_each_stage_has_its_own_limit() -> None:
    config = load_config(values={"before": "https://host/b.tif", "after": "a.tif", "output": "run"})
    patience = PatienceConfig(retries=3, retry_delay_s=5)

    found = choose_policy("find_pair", config=config, patience=patience)
    collected = choose_policy("collect_answers", config=config, patience=patience)

    assert (found.retry_delays_s, found.timeout_s, found.reads_remote_scenes) == ((5, 10, 20), 3600, True)
    assert (collected.timeout_s, collected.reads_remote_scenes) == (72 * 3600, False)
    assert found.allows_retry(WRONG)
    assert not collected.allows_retry(WRONG)


def test_time_limits_that_were_settings_are_told_to_be_gone() -> None:
    with pytest.raises(ValueError, match="the key write_tiles_timeout_s is gone, each stage has its own limit"):
        PatienceConfig.model_validate({"write_tiles_timeout_s": 60})


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"before": "x/before.tif", "after": "after.tif", "output": "runs/mine"}, "mine: before to after"),
        (
            {
                "before": {"uri": "b.tif", "datetime": "2020-06-01T10:00:00Z"},
                "after": {"uri": "https://me:pw@host/late.tif?sig=secret"},
                "output": "s3://bucket/pairs/p1/",
            },
            "p1: 2020-06-01 to late",
        ),
        (
            {
                "before": {"stac": {"href": "https://api", "datetime": "2019-06/2019-08"}},
                "after": {"stac": {"href": "https://host/items/after.json"}},
                "output": "r",
            },
            "r: 2019-06/2019-08 to after",
        ),
        ({"before": "b.tif"}, UNNAMED),
        (None, UNNAMED),
    ],
)
def test_runs_are_named_by_folder_and_dates(values: dict[str, Any] | None, expected: str) -> None:
    assert name_run(values) == expected
