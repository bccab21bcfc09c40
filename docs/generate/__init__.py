"""The generated parts of the documents: what stands between two marks of a page is made here, never typed.

    python -m docs.generate            write all parts into the pages
    python -m docs.generate --check    say which pages are stale, exit code 1, and where marks of age are missing

A mark names a part and its arguments; what is between the marks is replaced:

    <!-- generated: settings layer -->
    ...
    <!-- /generated -->

``reference`` reads dataclasses and the registry, ``rooms`` the imports, ``benchmarks``, ``papers`` and ``record`` what is
kept in ``bench/results``, ``commands`` the parser of the command line. ``site`` is for mkdocs.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from docs.generate import benchmarks, commands, papers, record, reference, rooms

__all__ = ["PARTS", "ROOT", "fill", "fresh", "pages"]

ROOT = Path(__file__).parents[2]

PARTS: dict[str, Callable[..., str]] = {
    "ablations": reference.ablations,
    "benchmarks": benchmarks.page,
    "commands": commands.page,
    "errors": reference.errors,
    "files": rooms.files,
    "floors": rooms.floors,
    "keys": reference.keys,
    "map": rooms.map_of_rooms,
    "numbers": benchmarks.numbers,
    "papers": papers.page,
    "plan": record.plan,
    "record": record.page,
    "scenario": reference.scenario,
    "scheme-settings": reference.scheme_settings,
    "schemes": reference.schemes,
    "settings": reference.settings,
}
"""Name of a part → what makes it, of the words behind the name."""

_PART = re.compile(r"(<!-- generated: (\S+)((?: \S+)*) -->\n).*?(<!-- /generated -->\n)", re.DOTALL)


def pages() -> list[Path]:
    """Return every page: those of the root, then those of ``docs``."""
    return [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]


def fill(text: str) -> str:
    """Return a page with its generated parts as they are now."""

    def made(found: re.Match[str]) -> str:
        return f"{found[1]}\n{PARTS[found[2]](*found[3].split())}\n{found[4]}"

    return _PART.sub(made, text)


def fresh(text: str) -> bool:
    """Say whether the generated parts of a page are as they are now, apart from marks of age."""
    return fill(text).replace(benchmarks.MARK, "") == text.replace(benchmarks.MARK, "")
