"""The floors of the house, and its single doors: who may import what. Read off the source with ``ast``.

A package imports from lower floors only: packages on one floor import nothing of each other. So ``client``, ``server``,
``cluster`` and ``model`` know nothing of each other, and only ``node`` puts them together.
"""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1] / "hogpour"

FLOORS: list[set[str]] = [
    {"core"},
    {"layers", "data", "net", "shm"},
    {"algos", "testing"},
    {"model", "client", "server", "cluster"},
    {"machine"},
    {"node"},
    {"sim"},
    {"cli"},
]

PURE = {
    "core", "layers", "algos", "testing", "data.blocks", "shm.layout", "net.address", "net.connection", "net.door", "net.frame",
    "net.handshake", "net.requests", "net.wire", "server.dedup", "server.fetch_history", "server.gated_step", "cluster.leases",
    "cluster.evaluation_ledger", "cluster.member_stats", "cluster.membership", "cluster.warm_start",
}  # fmt: skip
"""These do no I/O and know no time; it is an argument."""

IMPURE = {"asyncio", "socket", "time", "threading", "subprocess", "multiprocessing", "os", "io", "tempfile", "mmap", "signal", "pathlib"}
EXCEPT = {("core.job", "pathlib"), ("core.host", "os"), ("core.host", "pathlib"), ("core.host", "tempfile")}
"""Job files are read where their words are; what the machine offers is asked for in one place."""

DOORS = {
    "uvloop": {"cli.options"},
    "mmap": {"shm.segment", "shm.head"},
    "random": set(),
    "pickle": set(),
    "socket": {"net.port", "net.transport"},
    "multiprocessing": set(),
    "scipy": set(),
    "sklearn": {"data.formats.digits"},
}


@cache
def modules() -> list[str]:
    return sorted(".".join(p.relative_to(ROOT).with_suffix("").parts) for p in ROOT.rglob("*.py"))


@cache
def tree_of(module: str) -> ast.Module:
    return ast.parse(ROOT.joinpath(*module.split(".")).with_suffix(".py").read_text(encoding="utf-8"))


@cache
def nodes_of(module: str) -> list[ast.AST]:
    return list(ast.walk(tree_of(module)))


def package_of(module: str) -> str:
    return module.partition(".")[0]


def floor_of(module: str) -> int:
    """The floor of the module's package; the lazy package itself and ``__main__`` are above all."""
    package = package_of(module)
    if package in ("__init__", "__main__"):
        return len(FLOORS)
    found = [number for number, packages in enumerate(FLOORS) if package in packages]
    assert found, f"{module} is in no package of FLOORS"
    return found[0]


def is_pure(module: str) -> bool:
    return any(module == name or module.startswith(f"{name}.") for name in PURE)


@cache
def imports(module: str) -> list[tuple[str, int]]:
    """Absolute names that a module imports, anywhere in it, with the line. Type-checking imports do not count."""
    skipped = {
        id(inner)
        for node in nodes_of(module)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for inner in ast.walk(node)
    }
    found: list[tuple[str, int]] = []
    for node in nodes_of(module):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            found += ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}:{node.lineno}: relative import"
            base = node.module or ""
            for alias in node.names:
                inner = f"{base}.{alias.name}".removeprefix("hogpour.")
                whole = base.startswith("hogpour") and inner in modules()
                found.append((f"hogpour.{inner}" if whole else base, node.lineno))
    return found


def attributes(module: str) -> set[str]:
    """Every name after a dot, or imported from somewhere."""
    nodes = nodes_of(module)
    imported = {alias.name for node in nodes if isinstance(node, ast.ImportFrom) for alias in node.names}
    return imported | {node.attr for node in nodes if isinstance(node, ast.Attribute)}


def test_a_package_imports_lower_floors_only() -> None:
    for module in modules():
        for name, line in imports(module):
            if not name.startswith("hogpour"):
                continue
            target = name.removeprefix("hogpour").lstrip(".") or "__init__"
            if target == "__init__" or package_of(target) == package_of(module):
                continue  # the lazy package itself, or a neighbour in the room
            assert floor_of(target) < floor_of(module), f"{module}:{line} imports {name}, which is not on a lower floor"


def test_there_are_few_rooms() -> None:
    assert len({package_of(module) for module in modules()}) <= 20
    assert len(FLOORS) <= 9


ONE_NAME_FOR_TWO = {"Sgd"}
"""The file decides on the name in a job file, and ``sgd`` is an optimiser as well as a scheme."""


def test_no_two_public_classes_share_a_name() -> None:
    homes: dict[str, list[str]] = {}
    for module in modules():
        for node in tree_of(module).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                homes.setdefault(node.name, []).append(module)
    shared = {name: where for name, where in homes.items() if len(where) > 1 and name not in ONE_NAME_FOR_TWO}
    assert not shared, f"one name, several things: {shared}"


def test_no_test_imports_a_test() -> None:
    tests = Path(__file__).parent
    names = {path.stem for path in tests.rglob("test_*.py")}
    for path in tests.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                imported = {node.module or "", *(alias.name for alias in node.names)}
                found = {part for name in imported for part in name.split(".")} & names
                assert not found, f"{path.name}:{node.lineno} imports {found}: put what is shared into tests/support"


LONGEST_FILE, MOST_METHODS = 400, 20

MORE_METHODS = {"node.node.Node", "sim.simulation.Simulation", "sim.world.loop.Loop", "sim.world.stream.Stream"}
"""The API of users, and what implements an interface of asyncio."""


def test_files_are_short() -> None:
    for module in modules():
        lines = ROOT.joinpath(*module.split(".")).with_suffix(".py").read_text(encoding="utf-8").count("\n")
        assert lines <= LONGEST_FILE, f"{module} has {lines} lines, at most {LONGEST_FILE}: two ideas?"


def test_classes_are_small() -> None:
    large = {
        f"{module}.{node.name}"
        for module in modules()
        for node in nodes_of(module)
        if isinstance(node, ast.ClassDef)
        and sum(isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef) for one in node.body) > MOST_METHODS
    }
    assert large == MORE_METHODS


def test_pure_files_do_no_io_and_know_no_time() -> None:
    for module in modules():
        if is_pure(module):
            for name, line in imports(module):
                top = name.partition(".")[0]
                assert top not in IMPURE or (module, top) in EXCEPT, f"{module}:{line} imports {name}"
            for node in nodes_of(module):
                assert not (isinstance(node, ast.Name) and node.id == "open"), f"{module}:{node.lineno} opens a file"


def test_single_doors() -> None:
    for module in modules():
        for name, line in imports(module):
            top = name.partition(".")[0]
            assert module in DOORS.get(top, {module}), f"{module}:{line} imports {name}; doors: {DOORS[top]}"


def test_the_environment_is_read_in_two_places() -> None:
    for module in modules():
        if module not in ("cli.options", "core.host"):
            assert not attributes(module) & {"environ", "getenv"}, module


def test_anonymous_files_are_made_in_one_place() -> None:
    for module in modules():
        if module != "shm.segment":
            assert "memfd_create" not in attributes(module), module


def test_mathematics_imports_numpy_and_numba_only() -> None:
    allowed = {"numpy", "numba", "llvmlite", "hogpour"}
    standard = {"__future__", "abc", "collections", "dataclasses", "math", "typing", "types", "contextlib", "functools", "operator", "tracemalloc"}
    for module in modules():
        if package_of(module) in ("layers", "testing") or module.startswith(("algos.optim", "algos.schedule")):
            tops = {name.partition(".")[0] for name, _ in imports(module)}
            assert tops <= allowed | standard, f"{module} imports {tops - allowed - standard}"


def test_what_needs_pytorch_is_marked_so() -> None:
    """CI installs it late, and runs what is marked then."""
    tests = {path: path.read_text(encoding="utf-8") for path in Path(__file__).parent.rglob("test_*.py")}
    skipping = [path.name for path, text in tests.items() if '("torch")' in text and path != Path(__file__)]
    marked = [path.name for path, text in tests.items() if "mark.torch" in text]
    assert len(skipping) > 5
    assert set(skipping) <= set(marked)


def test_no_two_files_import_each_other_in_a_circle() -> None:
    known = set(modules())
    arrows = {
        module: {n for name, _ in imports(module) if (n := name.removeprefix("hogpour.")) in known and n != module}
        for module in modules()
    }
    while leaves := [module for module, needed in arrows.items() if not needed]:
        for module in leaves:
            del arrows[module]
        for needed in arrows.values():
            needed.difference_update(leaves)
    assert not arrows, f"in or behind a circle: {sorted(arrows)}"
