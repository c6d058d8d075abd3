"""What is loaded when: a command's help must not wait for torch, nor a worker for Prefect."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = {
    "torch",
    "transformers",
    "prefect",
    "dask",
    "distributed",
    "geopandas",
    "rasterio",
    "pyarrow",
    "zarr",
}

LIST_MODULES = "import json, sys; print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"


def list_loaded_packages(statement: str) -> set[str]:
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", f"{statement}\n{LIST_MODULES}"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return set(json.loads(result.stdout.splitlines()[-1]))


@pytest.mark.parametrize(
    ("statement", "forbidden"),
    [
        ("import pipeline, flows.cli.main", HEAVY),
        ("import model.interface", HEAVY),
        ("import flows.cli.model, model.inspection", HEAVY),
        ("import model.conversation", HEAVY),
        ("import pipeline.config.run", HEAVY),
        ("import pipeline.runs.run", {"torch", "transformers", "prefect"}),
        ("import flows.cluster", {"torch", "transformers", "prefect"}),
    ],
)
def test_import_loads_nothing_heavy(statement: str, forbidden: set[str]) -> None:
    assert list_loaded_packages(statement) & forbidden == set()


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_help_and_version_load_nothing_heavy(option: str) -> None:
    loaded = list_loaded_packages(
        f"import sys\nfrom flows.cli.main import main\nsys.argv = ['deltavlm', '{option}']\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert end.code in (None, 0), end.code"
    )

    assert loaded & HEAVY == set()
    assert "typer" in loaded
