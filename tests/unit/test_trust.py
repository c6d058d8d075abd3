"""What must not stand in the sources: code that runs what a stranger's file tells it to run."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted(path for package in ("model", "pipeline", "flows") for path in (ROOT / package).rglob("*.py"))

CODE_IN_DATA = frozenset({"pickle", "cPickle", "cloudpickle", "dill", "shelve", "marshal", "joblib"})
"""Modules that turn files into objects by running what the files say."""
UNSAFE_CALLS = frozenset({"eval", "exec", "yaml.load", "yaml.unsafe_load", "yaml.full_load", "os.system"})


def read_calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    """Give every call with the dotted name of what is called."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
            yield read_name(node.func), node


def read_name(node: ast.expr) -> str:
    """Give a dotted name as it is written; of what is no name but has attributes, a question mark and these."""
    # By hand: `ast.unparse` of every call of the sources takes seconds.
    if isinstance(node, ast.Attribute):
        return f"{read_name(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else "?"


def get_argument(call: ast.Call, name: str) -> object:
    """Give a keyword argument that is a constant; None where it is not there or not constant."""
    values = [keyword.value for keyword in call.keywords if keyword.arg == name]
    return values[0].value if values and isinstance(values[0], ast.Constant) else None


def list_offences(source: str) -> list[str]:
    tree = ast.parse(source)
    offences = []
    for node in ast.walk(tree):
        # To import one may be for its errors' sake, if its own name is kept and nothing else of it is used.
        modules = [alias.name for alias in node.names if alias.asname] if isinstance(node, ast.Import) else []
        modules += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        offences += [f"imports from {name}" for name in modules if name.partition(".")[0] in CODE_IN_DATA]
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and not node.attr.endswith("Error"):
            offences += [f"uses {ast.unparse(node)}"] if node.value.id in CODE_IN_DATA else []
    for name, call in read_calls(tree):
        if name in UNSAFE_CALLS:
            offences.append(f"calls {name}")
        if name == "torch.load" and get_argument(call, "weights_only") is not True:
            offences.append("calls torch.load without weights_only=True")
        if name in {"np.load", "numpy.load"} and get_argument(call, "allow_pickle") is True:
            offences.append("calls numpy.load with allow_pickle")
        if get_argument(call, "shell") is True:
            offences.append(f"calls {name} with shell=True")
        if get_argument(call, "trust_remote_code") is True:
            offences.append(f"calls {name} with trust_remote_code")
    return offences


@pytest.mark.parametrize(
    "source",
    [
        "import pickle\npickle.loads(data)",
        "import pickle as p",
        "from joblib import load",
        "def f():\n    import dill as d",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "np.load(path, allow_pickle=True)",
        "yaml.load(text)",
        "subprocess.run(text, shell=True)",
        "AutoModel.from_pretrained(x, trust_remote_code=True)",
        "eval(text)",
    ],
)
def test_the_search_finds_what_it_is_for(source: str) -> None:
    assert list_offences(source)


@pytest.mark.parametrize(
    "source",
    [
        "torch.load(path, weights_only=True)",
        "np.load(path)",
        "yaml.safe_load(text)",
        "model.eval()",
        "import pickle\npickle.UnpicklingError",
    ],
)
def test_the_search_lets_be_what_is_safe(source: str) -> None:
    assert list_offences(source) == []


def test_no_source_runs_what_a_file_tells_it_to() -> None:
    found = {str(path.relative_to(ROOT)): list_offences(path.read_text(encoding="utf-8")) for path in SOURCES}

    assert len(found) > 80
    assert {path: offences for path, offences in found.items() if offences} == {}
