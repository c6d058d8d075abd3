"""A run whose workers are jobs of a real SLURM, by dask-jobqueue, as docs/clusters.md describes it."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from fork_server import set_environment
from made_scenes import MadeScenes, command_environment, make_config, make_scenes
from patience import PATIENCE_S
from slurm_cluster import NoSlurmError, start_slurm

from flows.cluster import open_cluster
from pipeline.config.cluster import ClusterConfig
from pipeline.runs.record_files import read_record
from pipeline.runs.run import OpenCluster, detect_changes

CHANGED = {(0, 0): ["top-left"], (3, 5): ["bottom-right"]}

pytestmark = [
    pytest.mark.timeout(600),
    # dask-jobqueue leaves the files of its certificates open, until Python finds them.
    pytest.mark.filterwarnings("ignore:Exception ignored in.*dask-jobqueue:pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> MadeScenes:
    return make_scenes(tmp_path_factory.mktemp("slurm") / "scenes", changed=CHANGED)


def test_run_on_slurm_gives_the_same_table(tmp_path: Path, scenes: MadeScenes, shared_cluster: OpenCluster) -> None:
    cluster = ClusterConfig(
        kind="class",
        class_path="dask_jobqueue.SLURMCluster",
        arguments={
            "queue": "main",
            "cores": 1,
            "processes": 1,
            "memory": "2GB",
            "walltime": "00:10:00",
            "interface": "lo",
            "security": True,
            "shared_temp_directory": str(tmp_path),
            "local_directory": str(tmp_path),
            "log_directory": str(tmp_path / "jobs"),
            "python": sys.executable,
            "job_script_prologue": [f"export PYTHONPATH={command_environment()['PYTHONPATH']}"],
        },
        n_workers=1,
        no_workers_timeout_s=PATIENCE_S,
    )
    (tmp_path / "slurm").mkdir()
    try:
        with start_slurm(tmp_path / "slurm") as environment, set_environment(**environment):
            config = make_config(scenes, output=tmp_path / "run")
            report = detect_changes(config, open_cluster=partial(open_cluster, cluster))
            jobs = subprocess.run(
                ["scontrol", "-o", "show", "jobs"], env=dict(os.environ), capture_output=True, text=True, check=True
            ).stdout
    except NoSlurmError as problem:
        pytest.skip(str(problem))

    assert read_record(report.folder).status_counts["failed"] == 0
    assert "JobName=dask-worker" in jobs
    assert "Partition=main" in jobs
    # The job is over with the run.
    assert "JobState=RUNNING" not in jobs
    detect_changes(make_config(scenes, output=tmp_path / "other"), open_cluster=shared_cluster)
    tables = [(tmp_path / name / "report" / "tiles.parquet").read_bytes() for name in ("run", "other")]
    assert tables[0] == tables[1]
