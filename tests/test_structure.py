"""The house rules that a reader relies on: imports go one way, and every fact has one address."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ORDER = [  # a module imports only from rows above its own, or from its own package
    ["utils.io"],
    ["utils.exposure", "utils.cli", "utils.provenance", "utils.distributed"],
    ["datasets", "utils.photographs", "utils.alignment", "utils.published"],
    ["models", "utils.options", "utils.baselines"],
    ["utils.checkpoint", "utils.losses", "utils.metrics", "utils.hdrvdp2", "utils.inference", "utils.memory"],
    ["utils.report", "utils.engine", "utils.tracking", "utils.bracket"],
    ["utils.evaluation", "utils.bracket_search", "utils.preview"],
    ["train", "test", "predict", "hubconf", "benchmarks"],
]
RANK = {name: rank for rank, names in enumerate(ORDER) for name in names}
SCRIPTS = {"train", "test", "predict", "hubconf"}
ADDRESSES = {  # a fact -> the only files that state it
    r"2 ?\*\* ?16\b|\b65536\b": {"utils/io.py"},
    r"HDRImg\.hdr|input_exp\.txt|ref_hdr_aligned": {"datasets/scenes.py"},
    r"\ba_12\b|patch_embed": {"utils/checkpoint.py"},
    r"\btorch\.save\b": {"utils/checkpoint.py"},
    r"\b5e-4\b|\b0\.0005\b": {"train.py"},
}
NUMBERS = {2.2: "utils/exposure.py", 5000: "utils/exposure.py"}  # the metric's model of a display apart


def sources() -> list[Path]:
    folders = ("models", "datasets", "utils")
    return sorted([*ROOT.glob("*.py"), *(path for folder in folders for path in (ROOT / folder).rglob("*.py"))])


def module(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def home(name: str) -> str | None:
    """The entry of ORDER that a module belongs to."""
    parts = name.split(".")
    return next((home for n in range(len(parts), 0, -1) if (home := ".".join(parts[:n])) in RANK), None)


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found


@pytest.mark.parametrize("path", sources(), ids=module)
def test_imports_go_one_way(path: Path) -> None:
    here = home(module(path))
    if here is None:
        assert module(path) == "utils", f"{path.name} has no row in ORDER"
        return
    for there in {home(name) for name in imports(path)} - {None, here}:
        assert RANK[there] < RANK[here], f"{here} imports {there}"
        assert there not in SCRIPTS, f"{here} imports the script {there}"


def code(path: Path) -> str:
    """A file without its docstrings and comments."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            node.value.value = ""
    return ast.unparse(tree)


@pytest.mark.parametrize("fact", ADDRESSES)
def test_every_fact_has_one_address(fact: str) -> None:
    allowed = {ROOT / name for name in ADDRESSES[fact]}
    elsewhere = [path.name for path in sources() if path not in allowed and re.search(fact, code(path))]
    assert not elsewhere


def test_the_curves_are_stated_once() -> None:
    for path in sources():
        nodes = ast.walk(ast.parse(path.read_text()))
        found = {node.value for node in nodes if isinstance(node, ast.Constant)} & NUMBERS.keys()
        name = path.relative_to(ROOT).as_posix()
        assert name.startswith("utils/hdrvdp2/") or all(NUMBERS[number] == name for number in found), name


def test_the_network_knows_no_files_devices_or_options() -> None:
    for path in (ROOT / "models").glob("*.py"):
        assert not imports(path) & {"argparse", "pathlib", "os", "json"}, path.name
        assert not re.search(r"\.hdr\b|\.pth\b|exposure", code(path)), path.name


def test_the_engine_imports_neither_network_nor_losses_nor_data() -> None:
    assert not {home(name) for name in imports(ROOT / "utils/engine.py")} & {"models", "utils.losses", "datasets"}
