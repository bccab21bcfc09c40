"""The floors of the house, and its single doors: who may import what. Read off the source with ``ast``."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "hogpour"

FLOORS: list[set[str]] = [
    {"errors", "spec", "shards", "registry", "config", "stats", "node_id", "cluster_state"},  # 0 words
    {"layers", "algos.optim", "algos.schedule", "differences", "contract"},  # 1 mathematics
    {"algos", "portions", "tickets", "batch", "windows", "origins", "held", "accounts", "net.membership", "shm.layout", "net.address", "net.connection", "net.frame", "net.requests", "net.wire"},  # 2 pure decisions
    {"shm", "net", "formats", "scaling", "dataset", "data", "cpu", "disk"},  # 3 ports
    {"model", "replica", "supervisor", "checkpoint", "training_state", "preparation", "coordinator", "gatekeeper", "placement", "server", "shard", "snapshot", "outlet", "link", "fetches", "routes", "batch_link", "batches", "vectors", "member", "rehearsal", "founding", "federation", "serving", "standing"},  # 4 roles
    {"training", "node", "report", "status", "view", "doctor", "compare", "cli", "__main__", "__init__", "sim"},  # 5 the house
]

PURE = 3  # floors below this one do no I/O and know no time
IMPURE = {"asyncio", "socket", "time", "threading", "subprocess", "multiprocessing", "os", "io", "tempfile", "mmap", "signal", "pathlib"}
JOB_FILE = ("config", "pathlib")  # the one exception: job files are read where their words are

DOORS = {
    "uvloop": {"cli"},
    "mmap": {"shm.segment"},
    "random": set(),
    "pickle": set(),
    "socket": {"net.transport"},
    "multiprocessing": set(),
}


@cache
def modules() -> list[str]:
    return sorted(".".join(p.relative_to(ROOT).with_suffix("").parts) for p in ROOT.rglob("*.py"))


@cache
def tree_of(module: str) -> ast.Module:
    return ast.parse(ROOT.joinpath(*module.split(".")).with_suffix(".py").read_text(encoding="utf-8"))


def floor_of(module: str) -> int:
    """The floor whose entry is the longest prefix of the module's name."""
    name = module.removesuffix(".__init__") if module != "__init__" else module
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        prefix = ".".join(parts[:end])
        for number, names in enumerate(FLOORS):
            if prefix in names:
                return number
    raise AssertionError(f"{module} is on no floor: add it to FLOORS")


@cache
def imports(module: str) -> list[tuple[str, int]]:
    """Absolute names that a module imports, anywhere in it, with the line. Type-checking imports do not count."""
    tree = tree_of(module)
    skipped = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for inner in ast.walk(node)
    }
    found: list[tuple[str, int]] = []
    for node in ast.walk(tree):
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
    nodes = list(ast.walk(tree_of(module)))
    imported = {alias.name for node in nodes if isinstance(node, ast.ImportFrom) for alias in node.names}
    return imported | {node.attr for node in nodes if isinstance(node, ast.Attribute)}


@pytest.mark.parametrize("module", modules())
def test_a_file_imports_from_its_own_or_lower_floors_only(module: str) -> None:
    for name, line in imports(module):
        if not name.startswith("hogpour"):
            continue
        target = name.removeprefix("hogpour").lstrip(".") or "__init__"
        if target == "__init__":
            continue  # the lazy package itself
        target = target if target in modules() else f"{target}.__init__"
        assert floor_of(target) <= floor_of(module), f"{module}:{line} imports {name} from a higher floor"


@pytest.mark.parametrize("module", [m for m in modules() if not m.startswith("sim.") and m != "cli"])
def test_production_files_import_nothing_of_the_laboratory(module: str) -> None:
    for name, line in imports(module):
        assert not name.startswith("hogpour.sim"), f"{module}:{line} imports {name}"


@pytest.mark.parametrize("module", [m for m in modules() if floor_of(m) < PURE])
def test_lower_floors_do_no_io_and_know_no_time(module: str) -> None:
    for name, line in imports(module):
        top = name.partition(".")[0]
        assert top not in IMPURE or (module, top) == JOB_FILE, f"{module}:{line} imports {name}"
    for node in ast.walk(tree_of(module)):
        assert not (isinstance(node, ast.Name) and node.id == "open"), f"{module}:{node.lineno} opens a file"


@pytest.mark.parametrize("module", modules())
def test_single_doors(module: str) -> None:
    for name, line in imports(module):
        top = name.partition(".")[0]
        assert module in DOORS.get(top, {module}), f"{module}:{line} imports {name}; doors: {DOORS[top]}"


@pytest.mark.parametrize("module", [m for m in modules() if m not in ("cli", "cpu")])
def test_the_environment_is_read_in_two_places(module: str) -> None:
    assert not attributes(module) & {"environ", "getenv"}


@pytest.mark.parametrize("module", [m for m in modules() if m != "shm.segment"])
def test_anonymous_files_are_made_in_one_place(module: str) -> None:
    assert "memfd_create" not in attributes(module)


def test_shm_knows_no_network_and_net_and_formats_know_no_shared_memory() -> None:
    for module in modules():
        names = {name for name, _ in imports(module)}
        if module.startswith("shm"):
            assert not any(n.startswith("hogpour.net") for n in names)
        if module.startswith("net"):
            assert not any(n.startswith("hogpour.shm") for n in names)
        if module.startswith("formats"):
            assert not any(n.startswith("hogpour.shm") for n in names)


def test_mathematics_imports_numpy_and_numba_only() -> None:
    allowed = {"numpy", "numba", "llvmlite", "hogpour"}
    standard = {"__future__", "abc", "collections", "dataclasses", "math", "typing", "types", "contextlib", "functools", "tracemalloc"}
    for module in modules():
        if floor_of(module) == 1:
            tops = {name.partition(".")[0] for name, _ in imports(module)}
            assert tops <= allowed | standard, f"{module} imports {tops - allowed - standard}"


def test_what_needs_pytorch_is_marked_so() -> None:
    """CI installs it late, and runs what is marked then."""
    tests = {path: path.read_text(encoding="utf-8") for path in Path(__file__).parent.rglob("test_*.py")}
    skipping = [path.name for path, text in tests.items() if '("torch")' in text and path != Path(__file__)]
    marked = [path.name for path, text in tests.items() if "mark.torch" in text]
    assert len(skipping) > 5
    assert set(skipping) <= set(marked)
