"""What a run that is started from a form may name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from flows.permissions import VARIABLE, Permissions, check_region, check_run, load_permissions, read_permissions
from model.errors import InputError
from pipeline.config.cluster import ClusterConfig
from pipeline.config.region import load_region_config
from pipeline.config.run import RunConfig

REGION = Path(__file__).parents[3] / "configs" / "regions" / "synthetic.yaml"


@pytest.fixture
def places(tmp_path: Path) -> Path:
    (tmp_path / "scenes").mkdir()
    for name in ("before.tif", "after.tif"):
        (tmp_path / "scenes" / name).touch()
    (tmp_path / "secret.tif").touch()
    (tmp_path / "scenes" / "link.tif").symlink_to(tmp_path / "secret.tif")
    return tmp_path


@pytest.fixture
def permissions(places: Path) -> Permissions:
    return Permissions(
        inputs=(str(places / "scenes"), "https://catalog.example/v1"),
        outputs=(str(places / "runs"), "s3://bucket/runs"),
    )


def describe_run(places: Path, **settings: Any) -> RunConfig:
    scenes = {date: str(places / "scenes" / f"{date}.tif") for date in ("before", "after")}
    return RunConfig.model_validate({**scenes, "output": str(places / "runs" / "one"), **settings})


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"cluster": {"n_workers": 3, "memory_limit": "4GiB"}},
        {"cluster": {"kind": "cuda"}},
        {"output": "s3://bucket/runs/one"},
        {"before": {"stac": {"href": "https://catalog.example/v1/search?limit=3"}}},
        {"grid": {"resolution_m": 2}, "model": {"name": "deltavlm-tiny", "device": "cpu"}},
    ],
)
def test_what_is_allowed_or_harmless_is_taken(places: Path, permissions: Permissions, settings: dict[str, Any]) -> None:
    config = describe_run(places, **settings)

    check_run(config, permissions)

    with pytest.raises(InputError, match="no inputs are allowed"):
        check_run(config, Permissions())


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"cluster": {"kind": "class", "class_path": "distributed.LocalCluster"}}, "cluster: distributed.LocalCluster"),
        ({"cluster": {"kind": "address", "address": "tls://evil.example:1"}}, "cluster: tls://evil.example:1"),
        ({"cluster": {"host": "0.0.0.0"}}, "cluster: local"),
        ({"cluster": {"dashboard_port": 8787}}, "cluster: local"),
        ({"cluster": {"allow_unencrypted": True}}, "cluster: local"),
        ({"cluster": {"security": {"tls_ca_file": "/etc/shadow", "tls_client_cert": "x"}}}, "cluster: local"),
        ({"model": {"name": "openai:https://evil.example/v1#gpt"}}, "model.name: openai"),
        ({"model": {"name": "stand-in"}}, "model.name: stand-in"),
        ({"model": {"name": "/home/other/model"}}, "model.name: /home/other/model"),
        ({"output": "/home/me"}, "output: /home/me"),
        ({"output": "s3://bucket/runs-of-others/x"}, "output: s3://bucket/runs-of-others"),
        ({"output": "s3://bucket/runs/../x"}, "output: s3://bucket/runs/../x"),
        ({"before": {"uri": "/etc/passwd"}}, "before: /etc/passwd"),
        ({"before": {"uri": "https://catalog.example.evil/v1/a.tif"}}, "before: https"),
        ({"before": {"uri": "https://catalog.example/v1/%2e%2e/a.tif"}}, "before: https"),
        ({"after": {"uri": "http://169.254.169.254/latest"}}, "after: http"),
        ({"after": {"stac": {"href": "https://evil.example/item.json"}}}, "after: https://evil.example"),
        ({"aoi": "/etc/passwd"}, "aoi: /etc/passwd"),
        ({"storage": {"allow_private_hosts": True}}, "storage.allow_private_hosts: true"),
        ({"cluster": {"n_workers": 5000}}, "cluster.n_workers: 5000"),
        ({"cluster": {"adaptive": {"maximum": 5000}}}, "cluster.n_workers: 5000"),
        ({"grid": {"max_tiles": 10**12}}, "grid.max_tiles: 1000000000000"),
        ({"zones": "https://evil.example/zones.fgb"}, "zones: https"),
        ({"before": {"uri": "https://catalog.example/v1/a.tif", "sign": "os:system"}}, "before.sign: os:system"),
    ],
)
def test_what_runs_code_or_leads_elsewhere_is_refused(
    places: Path, permissions: Permissions, settings: dict[str, Any], expected: str
) -> None:
    with pytest.raises(InputError, match=expected):
        check_run(describe_run(places, **settings), permissions)


def test_classes_count_as_the_scene_does(places: Path, permissions: Permissions) -> None:
    scene = {"uri": str(places / "scenes" / "before.tif"), "classes": {"uri": "/etc/passwd"}}

    with pytest.raises(InputError, match="before: /etc/passwd"):
        check_run(describe_run(places, before=scene), permissions)


@pytest.mark.parametrize("name", ["link.tif", "../secret.tif", "GTIFF_DIR:1:before.tif", "nowhere.tif"])
def test_local_name_counts_where_it_leads(places: Path, permissions: Permissions, name: str) -> None:
    scene = {"band_files": dict.fromkeys(("red", "green", "blue"), str(places / "scenes" / name))}

    with pytest.raises(InputError, match=r"before: .*inputs"):
        check_run(describe_run(places, before=scene), permissions)


def test_classes_and_archives_are_inputs_too(places: Path, permissions: Permissions) -> None:
    classes = {"uri": str(places / "scenes" / "before.tif"), "classes": {"uri": "/vsicurl/http://evil.example/a.tif"}}

    with pytest.raises(InputError, match="before: /vsicurl"):
        check_run(describe_run(places, before=classes), permissions)
    with pytest.raises(InputError, match="before: zip:///etc/secrets"):
        check_run(describe_run(places, before="zip:///etc/secrets.zip!a.tif"), permissions)


def test_allowed_cluster_may_differ_in_size_alone(places: Path, permissions: Permissions) -> None:
    slurm = {"kind": "class", "class_path": "dask_jobqueue.SLURMCluster", "arguments": {"queue": "gpu"}}
    allowed = permissions.model_copy(update={"clusters": (ClusterConfig.model_validate(slurm),)})

    check_run(describe_run(places, cluster={**slurm, "n_workers": 4}), allowed)

    with pytest.raises(InputError, match="cluster: dask_jobqueue"):
        check_run(describe_run(places, cluster={**slurm, "arguments": {"queue": "gpu", "job_extra": ["x"]}}), allowed)


def test_function_that_signs_is_the_operators_choice(places: Path, permissions: Permissions) -> None:
    scene = {"uri": "https://catalog.example/v1/a.tif"}
    allowed = permissions.model_copy(update={"signers": ("our_archive:sign",)})

    check_run(describe_run(places, after={**scene, "sign": "our_archive:sign"}), allowed)
    # Asks only the server that the environment of this machine names.
    check_run(describe_run(places, after={**scene, "sign": "planetary-computer"}), permissions)

    for named in ("our_archive:sign", "subprocess:run"):
        with pytest.raises(InputError, match=rf"after.sign: {named} .*no signers are allowed"):
            check_run(describe_run(places, after={**scene, "sign": named}), permissions)


def test_pass_is_made_over_the_operators_regions_alone() -> None:
    region = load_region_config(REGION)
    # As `serve` hands it to the processes of its runs.
    text = Permissions().model_copy(update={"regions": (region,)}).model_dump_json(exclude_unset=True)
    permissions = read_permissions({VARIABLE: text})

    check_region(region, permissions)

    for change in ({"output": "/home/me"}, {"aoi": "/etc/passwd"}, {"cluster": ClusterConfig(host="0.0.0.0")}):
        with pytest.raises(InputError, match="region: synthetic is not what this machine takes"):
            check_region(region.model_copy(update=change), permissions)


def test_file_names_regions_by_their_files(tmp_path: Path) -> None:
    path = tmp_path / "allow.yaml"
    path.write_text(json.dumps({"inputs": ["scenes"], "regions": [str(REGION)]}))

    permissions = read_permissions({VARIABLE: str(path)})

    assert permissions == load_permissions(path)
    assert [region.name for region in permissions.regions] == ["synthetic"]
    assert read_permissions({}) == Permissions()
    assert Permissions().models == ("deltavlm-tiny",)


def test_misspelled_permission_is_named(tmp_path: Path) -> None:
    path = tmp_path / "allow.yaml"
    path.write_text("output: [/srv/runs]\n")

    with pytest.raises(InputError, match="output: unknown key"):
        load_permissions(path)
