"""What is loaded when: a command's help must not wait for torch, nor a worker for Prefect."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from patience import PATIENCE_S

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
        timeout=PATIENCE_S,
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


def test_help_loads_nothing_heavy() -> None:
    loaded = list_loaded_packages(
        "import sys\nfrom flows.cli.main import main\nsys.argv = ['deltavlm', '--help']\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert end.code in (None, 0), end.code"
    )

    assert loaded & HEAVY == set()
    assert "typer" in loaded


def test_pyplot_stays_out() -> None:
    statement = (
        "import sys, pandas as pd\nfrom pipeline.report.plots import draw_region_plots\n"
        "names = ['pair_id', 'after_datetime', 'status', 'analysed_fraction', 'building_count', 'road_count', "
        "'building_area_m2', 'road_area_m2']\n"
        "draw_region_plots(pd.DataFrame(columns=names))\nassert 'matplotlib.pyplot' not in sys.modules"
    )

    subprocess.run([sys.executable, "-c", statement], check=True, timeout=PATIENCE_S)
