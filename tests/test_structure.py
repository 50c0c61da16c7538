"""The house rules that a reader relies on: imports go one way, and every fact has one address."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAY_IMPORT = {  # a room, named by its folder -> the rooms it may import from, beside itself
    "models": set(),
    "utils": {"models"},  # the ground floor: files directly in utils/, and utils/hdrvdp2
    "datasets": {"utils", "models"},
    "utils/training": {"utils", "models"},
    "utils/evaluation": {"utils", "models"},
    "utils/photographs": {"utils", "models"},
    "": {"models", "utils", "datasets", "utils/training", "utils/evaluation", "utils/photographs"},  # the scripts
    "benchmarks": {"models", "utils", "datasets", "utils/training", "utils/evaluation", "utils/photographs"},
}
ADDRESSES = {  # a fact -> the only files that state it
    r"2 ?\*\* ?16\b|\b65536\b": {"utils/images.py"},
    r"HDRImg\b|input_exp\.txt|ref_hdr_aligned": {"datasets/scenes.py"},
    r"\ba_12\b|patch_embed": {"utils/checkpoint.py", "benchmarks/plain_afunet.py"},
    r"\btorch\.save\b": {"utils/checkpoint.py"},
    r"\b5e-4\b|\b0\.0005\b": {"train.py"},
    r"exposure\.txt['\"]": {"utils/files.py"},
    r"log\(1 \+": {"utils/exposure.py"},
    r"allow_tf32": {"utils/cli.py", "benchmarks/inference.py"},
    r"afunet_(synthetic|photographs)\.pth": {"utils/shipped.py"},
}
NUMBERS = {2.2: "utils/exposure.py", 5000: "utils/exposure.py", 0.99: "utils/exposure.py"}
APART = ("utils/hdrvdp2/", "utils/evaluation/published.py", "datasets/synthesis/")  # other numbers of the same value
LONGEST = 40  # lines of a function, its docstring apart
KERNELS = "models/kernels.py"  # a GPU kernel is one function


def sources() -> list[Path]:
    folders = ("models", "datasets", "utils", "benchmarks")
    return sorted([*ROOT.glob("*.py"), *(path for folder in folders for path in (ROOT / folder).rglob("*.py"))])


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def room_of(path: Path) -> str:
    """The most particular room whose folder holds the file."""
    folder = path.parent.relative_to(ROOT).as_posix()
    within = [room for room in MAY_IMPORT if room and (folder == room or folder.startswith(f"{room}/"))]
    return max(within, key=len, default="")


def imported_files(path: Path) -> set[Path]:
    """The files of ours that a file imports, at its top or inside a function."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    places = [ROOT.joinpath(*name.split(".")) for name in names]
    files = [place.with_suffix(".py") if not place.is_dir() else place / "__init__.py" for place in places]
    return {file for file in files if file.is_file()} - {path}


@pytest.mark.parametrize("path", sources(), ids=name_of)
def test_imports_go_one_way(path: Path) -> None:
    here = room_of(path)
    for other in imported_files(path):
        there = room_of(other)
        assert there == here or there in MAY_IMPORT[here], f"{name_of(path)} imports {name_of(other)}"
        assert there != "", f"{name_of(path)} imports the script {name_of(other)}"
        assert ROOT / "tests" not in other.parents, f"{name_of(path)} imports a test"


def test_no_imports_go_in_a_circle() -> None:
    """Packages' __init__ files apart: they only pass on names."""
    graph = {path: {f for f in imported_files(path) if f.name != "__init__.py"} for path in sources()}
    done: set[Path] = set()

    def visit(path: Path, trail: tuple[Path, ...]) -> None:
        assert path not in trail, " -> ".join(map(name_of, (*trail, path)))
        if path not in done:
            for other in graph.get(path, set()):
                visit(other, (*trail, path))
            done.add(path)

    for path in graph:
        visit(path, ())


def test_no_room_holds_more_than_a_third_of_the_code() -> None:
    lines = {path: len(path.read_text().splitlines()) for path in sources()}
    folders = {path.parent for path in lines}
    sizes = {folder: sum(n for path, n in lines.items() if path.parent == folder) for folder in folders}
    largest = max(sizes, key=sizes.__getitem__)
    assert 3 * sizes[largest] < sum(sizes.values()), f"{largest.name} holds {sizes[largest]} lines"


@pytest.mark.parametrize("path", sources(), ids=name_of)
def test_functions_are_short(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not is_kernel(node, path):
            first = node.body[1] if ast.get_docstring(node) and len(node.body) > 1 else node.body[0]
            length = (node.end_lineno or 0) - first.lineno + 1 + (node.body[0].lineno - node.lineno)
            assert length <= LONGEST, f"{name_of(path)}: {node.name} has {length} lines"


def is_kernel(node: ast.FunctionDef | ast.AsyncFunctionDef, path: Path) -> bool:
    return name_of(path) == KERNELS and [ast.unparse(decorator) for decorator in node.decorator_list] == ["kernel"]


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
    assert any(re.search(fact, code(path)) for path in allowed), "a fact without an address"
    assert not [name_of(path) for path in sources() if path not in allowed and re.search(fact, code(path))]


def test_the_curves_are_stated_once() -> None:
    for path in sources():
        nodes = ast.walk(ast.parse(path.read_text()))
        found = {node.value for node in nodes if isinstance(node, ast.Constant)} & NUMBERS.keys()
        name = name_of(path)
        assert name.startswith(APART) or all(NUMBERS[number] == name for number in found), name


def test_the_network_knows_no_files_devices_or_options() -> None:
    for path in (ROOT / "models").glob("*.py"):
        text = path.read_text()
        assert not re.search(r"^\s*(import|from) (argparse|pathlib|os|json)\b", text, re.MULTILINE), path.name
        assert not re.search(r"\.hdr\b|\.pth\b|exposure", code(path)), path.name


@pytest.mark.parametrize("path", sources(), ids=name_of)
def test_every_path_on_a_command_line_takes_a_tilde(path: Path) -> None:
    """By utils.files.user_path: no shell replaces the one in --save_dir=~/results."""
    assert "type=Path" not in path.read_text()


@pytest.mark.parametrize("script", ["app.py", "predict.py", "test.py", "train.py"])
def test_options_are_parsed_before_torch_is_imported(script: str) -> None:
    """Followed through every import at the top of a file: --help and mistakes cost no second of imports."""
    seen: set[Path] = set()
    waiting = [ROOT / script]
    while waiting:
        path = waiting.pop()
        seen.add(path)
        tree = ast.parse(path.read_text())
        top = ast.Module([node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)], [])
        names = {alias.name for node in ast.walk(top) if isinstance(node, ast.Import) for alias in node.names}
        names |= {node.module for node in ast.walk(top) if isinstance(node, ast.ImportFrom) and node.module}
        assert not any(name.split(".")[0] == "torch" for name in names), f"{name_of(path)} imports torch"
        waiting += [file for file in imported_files_of(top) if file not in seen]


def imported_files_of(tree: ast.Module) -> set[Path]:
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            for name in (node.module, *(f"{node.module}.{alias.name}" for alias in node.names)):
                place = ROOT.joinpath(*name.split("."))
                found |= {place.with_suffix(".py"), *(parent / "__init__.py" for parent in (place, *place.parents))}
    return {file for file in found if file.is_file() and ROOT in file.parents}
