"""The documentation: links and paths that exist, commands that the scripts take, and the figures of the code."""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import re
import shlex
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
import pytest

from utils.evaluation.published import PUBLISHED
from utils.provenance import VERSION

ROOT = Path(__file__).parents[1]
README, EVALUATION = ROOT / "README.md", ROOT / "docs" / "evaluation.md"
PAGES = [
    *(README, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"),
    *(ROOT / "pretrain_model" / "README.md", ROOT / "datasets" / "samples" / "README.md"),
    *sorted((ROOT / "docs").glob("*.md")),
]
MOST_LINES = 210  # of the README: what people read
FOLDERS = "models|utils|datasets|benchmarks|tests|docs"
PATH = re.compile(rf"(?<![\w/.-])(?:{FOLDERS})/[\w./-]*\w")
LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]*))?\)")
COMMANDS = (  # whose options the text may name
    *("-m tests.fuzz", "-m tests.kills"),
    *("predict.py a.jpg", "test.py", "train.py", "-m datasets.synthesise", "-m benchmarks.baselines"),
    *("-m utils.evaluation a.hdr b.hdr", "-m utils.hdrvdp2 a.hdr b.hdr", "-m benchmarks.hdrvdp2", "app.py"),
    "-m benchmarks.gpu --out x",
    "-m benchmarks.large_motion --hdri x",
)
OTHERS = ("torchrun", "pip", "apt-get", "make", "pytest", "--extra-index-url")  # not options of our scripts
EACH_PAGE = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())


# ---- what stands in a page


def code_blocks(page: Path) -> list[str]:
    """The fenced and the indented blocks, without their indentation and with continued lines joined."""
    text = page.read_text(encoding="utf-8")
    fenced = re.findall(r"^```\w*\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    indented = re.findall(r"(?:^ {4,}\S.*\n(?:\n(?= {4}))?)+", text, flags=re.MULTILINE)
    return [re.sub(r"\s*\\\n\s*", " ", textwrap.dedent(block)) for block in fenced + indented]


def inline_code(page: Path) -> list[str]:
    return re.findall(r"`([^`\n]+)`", page.read_text(encoding="utf-8"))


def anchors(page: Path) -> set[str]:
    """The headings as GitHub names them in links."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def commands(page: Path) -> Iterator[list[str]]:
    """The command lines of our scripts, as words: in blocks, with the block's variables put in, and inline.

    Inline, a command without arguments is no command line but the name of a script.
    """
    for block in code_blocks(page):
        variables: dict[str, str] = {}
        for line in block.splitlines():
            if given := re.fullmatch(r"([A-Z]+)=(\S+|\"[^\"]*\")", line):
                variables[given[1]] = given[2].strip('"')
            elif re.match(r"(python|torchrun) ", line):
                yield shlex.split(Template(line).substitute(variables), comments=True)
    for code in inline_code(page):
        if re.match(r"python (-m )?[\w./]+ \S", code):
            yield shlex.split(code.replace("...", ""))


def split(words: list[str]) -> tuple[str, list[str]]:
    """The module that a command line runs, and its arguments."""
    at = words.index("-m") + 1 if words[1] == "-m" else next(i for i, word in enumerate(words) if word.endswith(".py"))
    return words[at].removesuffix(".py").replace("/", "."), words[at + 1 :]


# ---- what the scripts say to it


class Parsed(Exception):
    """Raised with the parser where a script would begin its work."""


@pytest.fixture
def parse(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, list[str]], argparse.ArgumentParser]:
    """Run a script until its arguments are parsed, and give its parser; SystemExit where it refuses them."""
    original = argparse.ArgumentParser.parse_args

    def stop(parser: argparse.ArgumentParser, *args: Any) -> None:
        original(parser, *args)
        raise Parsed(parser)

    def run(module: str, arguments: list[str]) -> argparse.ArgumentParser:
        package = importlib.import_module(module)
        script = importlib.import_module(f"{module}.__main__") if hasattr(package, "__path__") else package
        monkeypatch.setattr(sys, "argv", [module, *arguments])
        with pytest.raises(Parsed) as parsed:
            script.main()
        return parsed.value.args[0]

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", stop)
    return run


@EACH_PAGE
def test_every_command_is_one_that_its_script_takes(
    page: Path, parse: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    for words in commands(page):
        try:
            parse(*split(words))
        except SystemExit as end:
            assert not end.code, f"{shlex.join(words)}\n{capsys.readouterr().err}"


def test_every_option_named_in_the_text_exists(parse: Callable[..., argparse.ArgumentParser]) -> None:
    parsers = [parse(*split(shlex.split(f"python {command}"))) for command in COMMANDS]
    known = {option for parser in parsers for action in parser._actions for option in action.option_strings}
    for page in PAGES:
        named = {
            option
            for code in inline_code(page)
            if not code.startswith(OTHERS)
            for option in re.findall(r"(?<![\w-])--[a-z][\w-]*", code)
        }
        assert named <= known, page.name


# ---- links, paths, programs


@EACH_PAGE
def test_every_link_leads_somewhere(page: Path) -> None:
    for name, anchor in LINK.findall(page.read_text(encoding="utf-8")):
        target = page.parent / name if name else page
        assert target.exists(), name
        assert not anchor or anchor in anchors(target), f"{name}#{anchor}"


@EACH_PAGE
def test_every_path_exists(page: Path) -> None:
    missing = {path for path in PATH.findall(page.read_text(encoding="utf-8")) if not (ROOT / path).exists()}
    assert not missing


@EACH_PAGE
def test_every_module_exists(page: Path) -> None:
    for code in inline_code(page):
        if named := re.fullmatch(r"(?:python -m )?((?:models|utils|datasets|benchmarks)(?:\.\w+)+)", code):
            pkgutil.resolve_name(named[1])


@EACH_PAGE
def test_every_import_works(page: Path) -> None:
    for block in code_blocks(page):
        for line in re.findall(r"^from (?:models|datasets|utils)\b.* import .*$", block, flags=re.MULTILINE):
            exec(line, {})


@pytest.mark.slow
def test_the_program_in_the_readme_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    program = next(block for block in code_blocks(README) if "load_bracket" in block)
    monkeypatch.chdir(ROOT)
    names: dict[str, Any] = {}
    exec(program, names)
    assert names["hdr"].shape == (256, 384, 3)
    assert names["hdr"].dtype == np.float32


def test_the_readme_is_short() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) <= MOST_LINES


# ---- figures and versions


def rows(page: Path, heading: str) -> list[list[str]]:
    """The cells of the first table below a heading, its header row first."""
    text = page.read_text(encoding="utf-8").split(f"\n## {heading}\n")[1]
    table = re.search(r"(?:^\|.*\n?)+", text, flags=re.MULTILINE)
    assert table
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in table[0].splitlines()]
    return [lines[0], *lines[2:]]


def test_the_published_table_is_the_code_s() -> None:
    (_, *sets), *methods = rows(EVALUATION, "Published results")
    shown = {
        name: {row[0]: tuple(map(float, cell.split())) for row in methods if (cell := row[1 + column])}
        for column, name in enumerate(sets)
    }
    assert shown == PUBLISHED


def test_the_published_row_in_the_readme_is_the_code_s() -> None:
    _, *sets = rows(README, "Published results")
    shown = {name: tuple(map(float, figures)) for name, *figures in sets}
    assert shown == {name: methods["AFUNet"] for name, methods in PUBLISHED.items()}


def test_the_version_is_the_same_everywhere() -> None:
    cited = re.search(r"^version: (\S+)$", (ROOT / "CITATION.cff").read_text(), flags=re.MULTILINE)
    newest = re.search(r"^## \[(\d\S*)\] - \d{4}-\d\d-\d\d$", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)
    assert cited and newest
    assert cited[1] == newest[1] == VERSION
