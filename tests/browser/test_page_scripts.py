"""The page's scripts: whole when joined, and their functions of plain values by node, where it is installed."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from pipeline.report.page.template import join_modules

SCRIPTS = Path(__file__).parents[2] / "pipeline" / "report" / "page" / "scripts"
NODE = shutil.which("node")

needs_node = pytest.mark.skipif(NODE is None, reason="no node on this machine; apt-get install nodejs")


@needs_node
def test_functions_of_plain_values() -> None:
    tests = Path(__file__).with_name("pure_functions.test.mjs")
    done = subprocess.run([str(NODE), "--test", str(tests)], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout


@needs_node
def test_the_joined_script_is_whole(tmp_path: Path) -> None:
    joined = tmp_path / "joined.mjs"
    joined.write_text(join_modules(), encoding="utf-8")
    # Two modules with one name at their top would be an error of syntax once joined.
    subprocess.run([str(NODE), "--check", str(joined)], check=True, timeout=60)


def test_every_module_is_joined_after_those_it_imports() -> None:
    script = join_modules()
    assert not re.search(r"^(import|export)\b", script, re.MULTILINE)
    assert "</script" not in script.lower()
    for module in SCRIPTS.glob("*.mjs"):
        text = module.read_text(encoding="utf-8")
        own = re.search(r"^(?:export )?(?:function|class|const) (\w+)", text, re.MULTILINE)
        assert own is not None
        assert own[0].removeprefix("export ") in script, module.name
        for imported in re.findall(r'from "\./(\w+)\.mjs"', text):
            first = re.search(r"^export (.+)$", (SCRIPTS / f"{imported}.mjs").read_text(encoding="utf-8"), re.MULTILINE)
            assert first is not None
            assert script.index(first[1]) < script.index(own[0].removeprefix("export ")), (module.name, imported)


def test_no_script_makes_markup_of_words() -> None:
    for module in SCRIPTS.glob("*.mjs"):
        text = module.read_text(encoding="utf-8")
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function", text), (
            module
        )
