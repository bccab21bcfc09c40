"""The pages say what is so: generated parts are fresh, links lead somewhere, commands and names in them exist."""

from __future__ import annotations

import argparse
import os
import re
import shlex
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path

import pytest

from bench import __main__ as bench
from docs import generate
from docs.generate import commands, rooms
from hogpour.core import registry
from hogpour.core.job import Job, job_from
from hogpour.sim.scenario import Scenario, scenario_from

ROOT = generate.ROOT
PAGES = generate.pages()
TEXT = {page: page.read_text("utf-8") for page in PAGES}

BENCHES = {*bench.questions(), "all", "list", "NAME"}
SOURCES = sorted((ROOT / "hogpour").rglob("*.py"))

KNOWN = {"python3", "pip", ".venv/bin/pip", ".venv/bin/ruff", ".ci/run", "mkdocs"}
"""Commands of others; what is behind them is not looked at."""


def ids(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(language: str) -> list[tuple[str, str]]:
    """Return the fenced blocks of a language, each with its page."""
    found = [(ids(page), block) for page, text in TEXT.items() for block in re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)]
    assert found
    return found


def prose(text: str) -> str:
    """Return a page without what is in fences."""
    return re.sub(r"```.*?```", "", text, flags=re.DOTALL)


# -- generated parts ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_the_generated_parts_of_a_page_are_fresh(page: Path) -> None:
    assert generate.fresh(TEXT[page]), "stale: run python -m docs.generate"


def test_every_part_that_can_be_made_is_on_a_page() -> None:
    used = {name for text in TEXT.values() for name in re.findall(r"<!-- generated: (\S+)", text)}
    assert used == set(generate.PARTS)


def test_a_stale_part_is_found_and_mended() -> None:
    page = ROOT / "docs" / "schemes.md"
    broken = TEXT[page].replace("| `hogwild` |", "| `pigwild` |", 1)
    assert broken != TEXT[page]
    assert not generate.fresh(broken)
    assert generate.fill(broken) == TEXT[page]


def test_every_layer_loss_and_rule_is_in_the_reference() -> None:
    text = TEXT[ROOT / "docs" / "job-reference.md"] + TEXT[ROOT / "docs" / "schemes.md"]
    for kind in registry.FOLDERS:
        for name in registry.available(kind):
            heading = f"### {name}\n" if kind == "scheme" else f"**`{name}`**"
            assert heading in text, f"{kind} {name} is not described"


# -- links --------------------------------------------------------------------------------------------------------------


def anchor(heading: str) -> str:
    """Return what a forge makes of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


@cache
def anchors(page: Path) -> list[str]:
    return [anchor(heading) for heading in re.findall(r"^#+ (.*)$", prose(page.read_text("utf-8")), re.MULTILINE)]


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_links_lead_to_a_file_and_a_heading(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(TEXT[page])):
        assert "://" not in target, f"{target} leads out of the repository"
        path, _, heading = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{target}: no such file"
        assert file.is_relative_to(ROOT), f"{target} leads out of the repository"
        assert not heading or heading in anchors(file), f"{target}: no such heading; there are {anchors(file)}"


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_headings_have_anchors_that_forge_and_site_agree_on(page: Path) -> None:
    for heading in anchors(page):
        assert "--" not in heading, f"{heading}: mkdocs makes one dash of two"


def test_the_index_leads_to_every_page() -> None:
    linked = set(re.findall(r"\]\(([\w-]+\.md)\)", TEXT[ROOT / "docs" / "index.md"]))
    assert linked == {page.name for page in (ROOT / "docs").glob("*.md")} - {"index.md"}


# -- commands -----------------------------------------------------------------------------------------------------------


def command_lines() -> list[tuple[str, str]]:
    """Return what a reader may type: the lines of ``sh`` blocks, and inline code that begins like a command. What is
    left out, in inline code, is ``...``."""
    found = []
    for page, block in blocks("sh"):
        for line in block.splitlines():
            found += [(page, part.strip()) for part in line.partition(" #")[0].split("&&") if part.strip()]
    for page, text in TEXT.items():
        inline = re.findall(r"`((?:python -m|mkdocs|pip) [^`]*)`", prose(text))
        found += [(ids(page), " ".join(line.split())) for line in inline if "..." not in line]
    return sorted(set(found))


class Refused(Exception):
    """The parser did not take a command line."""


def parse(parser: argparse.ArgumentParser, words: list[str], monkeypatch: pytest.MonkeyPatch) -> argparse.Namespace:
    def refuse(self: argparse.ArgumentParser, message: str) -> None:
        raise Refused(f"{' '.join(words)}: {message}")

    monkeypatch.setattr(argparse.ArgumentParser, "error", refuse)
    return parser.parse_args(words)


@pytest.mark.parametrize(("page", "line"), command_lines())
def test_a_command_of_a_page_exists(page: str, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    words = shlex.split(line)
    while words and re.match(r"[A-Z_]+=", words[0]):
        del words[0]
    if words[:1] == ["."]:
        return
    if words[0] in KNOWN:
        return
    assert words[0].endswith("python"), f"{page}: what is {words[0]}?"
    assert words[1] == "-m", f"{page}: {line}"
    module, arguments = words[2], words[3:]
    if module == "hogpour" and arguments and arguments != ["--help"]:
        try:
            parse(commands.parser(), arguments, monkeypatch)
        except Refused as refused:  # prose may name a command without what it needs
            if len(arguments) > 1 or "required" not in str(refused):
                raise
        for word in arguments:
            assert not word.startswith("examples/") or (ROOT / word).is_file(), f"{page}: {line}"
    elif module == "bench":
        assert arguments[0] in BENCHES, f"{page}: {line}"
    else:
        ours = ROOT.joinpath(*module.split(".")).with_suffix(".py").is_file()
        assert ours or module in ("hogpour", "pytest", "docs.generate"), f"{page}: {line}"


def test_the_parser_check_notices_an_option_that_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Refused, match="--portions"):
        parse(commands.parser(), ["node", "--portions", "3"], monkeypatch)


@pytest.mark.parametrize(("page", "block"), blocks("toml"))
def test_a_job_file_of_a_page_is_one(page: str, block: str) -> None:
    tables = tomllib.loads(block)
    of_job = "model" in tables
    made = job_from(tables, page) if of_job else scenario_from(tables, page)
    assert isinstance(made, Job if of_job else Scenario)


@pytest.mark.long
@pytest.mark.real
@pytest.mark.parametrize(("page", "block"), blocks("python"))
def test_a_program_of_a_page_runs_as_it_stands(page: str, block: str, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(block, "utf-8")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"}
    end = subprocess.run([sys.executable, "program.py"], cwd=tmp_path, env=environment, capture_output=True, text=True,
                         timeout=120)  # fmt: skip
    assert end.returncode == 0, f"{page}: {end.stderr}"


# -- names of the code --------------------------------------------------------------------------------------------------


def references() -> list[tuple[str, str, str]]:
    """Return every `path.py: name` of the pages; a path that does not begin at the root is one below ``hogpour``."""
    found = []
    for page, text in TEXT.items():
        for path, name in re.findall(r"`([\w.]+/[\w./]+\.py)(?:: ([\w.]+))?`", prose(text)):
            found.append((ids(page), path, name))
    return sorted(set(found))


def test_a_file_and_a_name_of_a_page_are_there() -> None:
    for page, path, name in references():
        file = next((folder / path for folder in (ROOT, ROOT / "hogpour") if (folder / path).is_file()), None)
        assert file is not None, f"{page}: {path}: no such file; {moved(name)}"
        assert not name or name in rooms.definitions(file), f"{page}: {path} has no {name}; {moved(name)}"


def moved(name: str) -> str:
    """Return where a name is now, for whoever mends the page."""
    last = name.rpartition(".")[2]
    places = [
        f"{path.relative_to(ROOT / 'hogpour')}: {one}"
        for path in SOURCES
        for one in sorted(rooms.definitions(path))
        if last and one.rpartition(".")[2] == last
    ]
    return f"there is {', '.join(places[:8])}" if places else "the name is gone: search for what does its work now"


def test_the_architecture_answers_where_things_are() -> None:
    """The five questions that a newcomer is asked (and more) are rows of one table, each with a file and a function."""
    text = TEXT[ROOT / "docs" / "architecture.md"]
    table = text[text.index("## Where is") :].partition("\n## ")[0]
    rows = [line for line in table.splitlines() if line.startswith("| ") and "`" in line]
    for question in ("a push applied", "staleness counted", "a dead member noticed", "the gradients of a step chosen", "a batch of data made"):
        assert any(question in row and re.search(r"`[\w/]+\.py: \w+", row) for row in rows), question


def test_the_files_that_docstrings_name_are_there() -> None:
    there = [path.as_posix() for path in SOURCES]
    for file in SOURCES:
        for named in re.findall(r"``([\w/]+\.py)``", file.read_text("utf-8")):
            assert any(path.endswith(f"/{named}") for path in there), f"{ids(file)}: {named}: no such file"


# -- what lies beside the pages -------------------------------------------------------------------------------------------


def test_the_version_is_the_same_everywhere() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text("utf-8")
    assert f'__version__ = "{version}"' in (ROOT / "hogpour" / "__init__.py").read_text("utf-8")
    assert f"## {version}" in TEXT[ROOT / "CHANGELOG.md"]


def test_the_licence_is_the_one_that_the_package_names() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["license"] == "Apache-2.0"
    assert project["license-files"] == ["LICENSE"]
    text = (ROOT / "LICENSE").read_text("utf-8")
    assert "Apache License" in text
    assert "END OF TERMS AND CONDITIONS" in text


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_no_page_names_a_place_of_one_machine(page: Path) -> None:
    assert not re.search(r"(?<![\w.])/(?:tmp|work|home|root|Users)/", TEXT[page])


@pytest.mark.slow
def test_the_site_builds_from_the_same_pages(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs", reason='needs pip install -e ".[docs]"')
    pytest.importorskip("material")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert built.returncode == 0, built.stderr
    assert (tmp_path / "site" / "architecture" / "index.html").is_file()
