"""What of the papers was reproduced and what not, from the kept results of ``python -m bench papers``."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

from bench._papers.runs import FEWEST
from docs.generate import benchmarks

__all__ = ["page"]

_PAPERS = Path(__file__).parents[2] / "bench" / "_papers"

_OUT = {"reproduced", "criterion", "seeds_agree", "paper", "seeds", "data", "epochs", "batch", "scheme"}
"""Columns that have a place of their own, or are the same in every row of a table."""


def page() -> str:
    """Return a summary of all papers, then a section for each: the claim, how it was tried, every row that decides, notes."""
    result = benchmarks.read("papers")
    summary = ["| paper | criteria that hold | that do not |", "|---|--:|--:|"]
    sections = []
    for table in result["tables"]:
        name, _, claim = table["title"].partition(": ")
        title, setting = _experiment(name)
        judged = [row for row in table["rows"] if row.get("reproduced")]
        held = sum(row["reproduced"] == "yes" for row in judged)
        summary.append(f"| {title.partition(':')[0]} | {held} | {len(judged) - held} |")
        seeds = max(_count(row)[1] for row in judged)
        commit = table.get("commit") or result["machine"]["commit"]
        ran = f"`python -m bench papers --only {name} --seeds {seeds}`, commit {benchmarks.marked(commit)}."
        lines = [f"## {title.partition(':')[0]}", "", f"Claim: {claim}", "", setting, "", ran, ""]
        lines += ["| run | criterion | measured | in the paper | seeds | holds |", "|---|---|---|---|--:|---|"]
        lines += (_line(row) for row in judged)
        said = [f"{row['scheme']}, {row['criterion']}: no by its count alone; of fewer than {FEWEST} seeds all must agree"
                for row in judged if row["reproduced"] == "no" and _most(row)]  # fmt: skip
        said += [note.removeprefix(f"{name}: ") for note in result["notes"] if note.startswith(f"{name}: ")]
        lines += ["", *(f"- {note}" for note in said)] if said else []
        sections.append("\n".join(lines) + "\n")
    head = f"`python -m bench papers`, {benchmarks.where(result)}."
    return "\n".join([head, "", *summary, "", *sections])


def _experiment(name: str) -> tuple[str, str]:
    """Return the first sentence of an experiment's docstring, and its next paragraphs."""
    text = ast.get_docstring(ast.parse((_PAPERS / f"{name}.py").read_text("utf-8"))) or ""
    first, _, rest = text.partition("\n\n")
    return " ".join(first.split()), rest


def _count(row: dict[str, Any]) -> tuple[int, int]:
    """Return in how many seeds a criterion holds, and of how many; 0 of 0: it is of all of them together."""
    agree, _, seeds = row.get("seeds_agree", "0 of 0").partition(" of ")
    return int(agree), int(seeds)


def _most(row: dict[str, Any]) -> bool:
    """Tell whether most seeds agree, but are not enough because they are few."""
    agree, seeds = _count(row)
    return seeds < FEWEST and 2 * agree > seeds


def _line(row: dict[str, Any]) -> str:
    run = row["scheme"]
    told = "; ".join(f"{_word(key)} {_value(value)}" for key, value in row.items()
                     if key not in _OUT and value is not None and not key.startswith("paper"))  # fmt: skip
    papers = "; ".join(str(value) for key, value in row.items() if key.startswith("paper") and value is not None) or "–"
    cells = [run, row["criterion"], told or "–", papers, row.get("seeds_agree", "–"), row["reproduced"]]
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def _word(key: str) -> str:
    return key.replace("_%", " (%)").replace("_", " ")


def _value(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
