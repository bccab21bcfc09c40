"""The map of the house: which package imports which, read off the source, and what each file is for."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

__all__ = ["definitions", "files", "floors", "map_of_rooms", "rooms"]

HOUSE = Path(__file__).parents[2] / "hogpour"


@cache
def rooms() -> dict[str, frozenset[str]]:
    """Return every package of the first level with those that it imports. What only a type checker imports does not count."""
    found: dict[str, set[str]] = {path.parent.name: set() for path in HOUSE.glob("*/__init__.py")}
    for path in HOUSE.glob("*/**/*.py"):
        room = path.relative_to(HOUSE).parts[0]
        for node in _walk(_tree(path)):
            modules = [node.module] if isinstance(node, ast.ImportFrom) else []
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            for module in modules:
                parts = (module or "").split(".")
                if parts[0] == "hogpour" and len(parts) > 1 and parts[1] in found:
                    found[room].add(parts[1])
    return {room: frozenset(others - {room}) for room, others in found.items()}


def _floors() -> list[list[str]]:
    """Return the rooms floor by floor, the lowest first: one above the highest that it imports."""
    left, built = dict(rooms()), list[list[str]]()
    while left:
        floor = sorted(room for room, others in left.items() if not others & left.keys())
        assert floor, f"these import each other in a circle: {sorted(left)}"
        built.append(floor)
        for room in floor:
            del left[room]
    return built


def floors() -> str:
    """Return the floors from the top, then a table of the rooms with their arrows."""
    built = _floors()
    drawn = "\n".join(f"{len(built) - k}  {'   '.join(floor)}" for k, floor in enumerate(reversed(built)))
    lines = [f"```\n{drawn}\n```", "", "| room | what is in it | imports | imported by |", "|---|---|---|---|"]
    order = [room for floor in built for room in floor]
    for room in order:
        imports = " ".join(f"`{one}`" for one in order if one in rooms()[room]) or "–"
        users = " ".join(f"`{one}`" for one in order if room in rooms()[one]) or "–"
        lines.append(f"| `{room}` | {_first_line(HOUSE / room / '__init__.py')} | {imports} | {users} |")
    arrows = sum(map(len, rooms().values()))
    return "\n".join([*lines, "", f"{len(order)} rooms, {len(built)} floors, {arrows} arrows."]) + "\n"


def map_of_rooms() -> str:
    """Return the map of the README: a room a line, the lowest first."""
    lines = ["```", "hogpour/"]
    for room in (room for floor in _floors() for room in floor):
        text = _first_line(HOUSE / room / "__init__.py").rstrip(".")
        lines.append(f"  {room:<9} {text[:1].lower()}{text[1:]}")
    return "\n".join([*lines, "```"]) + "\n"


def files() -> str:
    """Return every file of every package with the first sentence of its docstring."""
    parts = []
    for room in (room for floor in reversed(_floors()) for room in floor):
        folder = HOUSE / room
        lines = [f"## {room}", "", _first_line(folder / "__init__.py"), "", "| file | what it is for |", "|---|---|"]
        for path in sorted(folder.rglob("*.py"), key=lambda path: (len(path.parts), path)):
            if path.name != "__init__.py":
                lines.append(f"| `{path.relative_to(HOUSE)}` | {_first_line(path)} |")
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


@cache
def definitions(path: Path) -> set[str]:
    """Return what a file defines: functions, classes, ``Class.method``, and names that are assigned to, of a class too."""
    found: set[str] = set()

    def visit(body: list[ast.stmt], prefix: str) -> None:
        for node in body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                found.add(prefix + node.name)
            if isinstance(node, ast.ClassDef):
                visit(node.body, f"{prefix}{node.name}.")
            targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
            for target in targets:
                names = target.elts if isinstance(target, ast.Tuple) else [target]
                found.update(prefix + name.id for name in names if isinstance(name, ast.Name))

    visit(_tree(path).body, "")
    return found


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


def _walk(node: ast.AST) -> Iterator[ast.AST]:
    """Walk over a tree, but not into what is for type checkers."""
    if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
        return
    yield node
    for child in ast.iter_child_nodes(node):
        yield from _walk(child)


def _first_line(path: Path) -> str:
    """Return the first sentence of a file's docstring, as a cell of a table."""
    text = " ".join((ast.get_docstring(_tree(path)) or "").partition("\n\n")[0].split())
    sentence = re.match(r".*?[.?](?= [A-Z]|$)", text)
    return (sentence[0] if sentence else text).replace("``", "`").replace("|", "\\|")
