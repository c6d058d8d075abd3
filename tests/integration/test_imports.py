"""What is loaded when: a command's help must not wait for torch, nor a worker for Prefect."""

from __future__ import annotations

import json
import pkgutil
import subprocess
import sys
from types import ModuleType

import pytest
from patience import PATIENCE_S

import model
import pipeline

HEAVY = {
    "torch",
    "transformers",
    "prefect",
    "dask",
    "distributed",
    "geopandas",
    "rasterio",
    "pandas",
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
        ("import flows.cli.main, flows.cli.model, flows.cli.console", HEAVY),
        ("import model.interface, model.inspection, model.conversation, pipeline.config.run", HEAVY),
        ("import pipeline, model; dir(pipeline), dir(model), pipeline.load_config, model.load_model", HEAVY),
        ("import flows.cluster, pipeline; pipeline.detect_changes", {"torch", "transformers", "prefect"}),
    ],
)
def test_import_loads_nothing_heavy(statement: str, forbidden: set[str]) -> None:
    assert list_loaded_packages(statement) & forbidden == set()


@pytest.mark.parametrize(
    ("package", "names"),
    [
        (
            pipeline,
            {
                "load_config", "find_pair", "write_tiles", "select_tiles", "collect_answers", "extract_findings",
                "write_report", "detect_changes", "open_tiles", "read_tile_pair",
            },
        ),
        (model, {"open_conversation", "load_model", "Prompt", "PromptKind", "Answer"}),
    ],
)  # fmt: skip
def test_package_has_its_public_names(package: ModuleType, names: set[str]) -> None:
    rooms = {module.name for module in pkgutil.iter_modules(package.__path__)}

    assert set(package.__all__) == names
    assert names <= set(dir(package))
    assert {getattr(package, name).__name__ for name in names} == names
    assert names & rooms == set()
    missing = "find_pairs"
    with pytest.raises(AttributeError, match=f"has no attribute '{missing}'"):
        getattr(package, missing)


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_help_and_version_load_nothing_heavy(option: str) -> None:
    loaded = list_loaded_packages(
        f"import sys\nfrom flows.cli.main import main\nsys.argv = ['deltavlm', '{option}']\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert end.code in (None, 0), end.code"
    )

    assert loaded & HEAVY == set()
    assert "typer" in loaded


def test_pyplot_stays_out() -> None:
    statement = (
        "import sys, pandas as pd\nfrom pipeline.report.plot_figures import summarise_timeline\n"
        "from pipeline.report.plots import draw_plots\n"
        "names = ['pair_id', 'after_datetime', 'status', 'analysed_fraction', 'building_count', 'road_count', "
        "'building_area_m2', 'road_area_m2']\n"
        "draw_plots(summarise_timeline(pd.DataFrame(columns=names)))\nassert 'matplotlib.pyplot' not in sys.modules"
    )

    subprocess.run([sys.executable, "-c", statement], check=True, timeout=PATIENCE_S)
