"""Find a bench by its file name, run it, print its answer: ``python -m bench NAME [--json] [--save]``."""

from __future__ import annotations

import argparse
import ast
import importlib
import sys
from difflib import get_close_matches
from pathlib import Path

from bench import record

__all__ = ["main"]

FOLDER = Path(__file__).parent
NO_BENCH = ("__init__", "__main__", "harness", "record")


def questions() -> dict[str, str]:
    """Return the first line of the docstring of every bench, by name. Imports none of them."""
    files = [path for path in sorted(FOLDER.glob("*.py")) if path.stem not in NO_BENCH]
    docstrings = {path.stem: ast.get_docstring(ast.parse(path.read_text("utf-8"))) for path in files}
    return {name: (text or "").partition("\n")[0] for name, text in docstrings.items()}


def main(argv: list[str] | None = None) -> int:
    """Run the command line and return the exit code: 0, or 2 for bad use."""
    known = questions()
    common = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    common.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    common.add_argument("--save", action="store_true", help="also write bench/results/NAME.json")
    common.add_argument("--rounds", type=_count, default=None, help="samples of each contender")
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Ask one question; our code and its peers are measured in turns in one run.",
        epilog="\n".join(["benches:", *[f"  {name:12} {text}" for name, text in known.items()],
                          "  list         their names and questions",
                          "  all          what the record is made of, in at most an hour", "",
                          "example: python -m bench kernels --only linear --rounds 9"]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[common],
        add_help=False,
        allow_abbrev=False,
    )  # fmt: skip
    parser.add_argument("name", nargs="?", metavar="NAME", help='a bench, or "list" or "all"')
    parser.add_argument("-h", "--help", action="store_true", help="show this help, or that of the bench NAME")
    options, rest = parser.parse_known_args(argv)
    if options.name == "list":
        for name, text in known.items():
            print(f"{name:12} {text}")
        return 0
    if options.name == "all" and not (rest or options.help):
        given = ("--json", options.json), ("--save", options.save), (f"--rounds={options.rounds}", options.rounds)
        return record.run_all([word for word, wanted in given if wanted])
    if options.name in (None, "all"):
        parser.print_help()
        return 0 if options.help else 2
    if options.name not in known:
        near = get_close_matches(options.name, known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}"
        print(f"bench {options.name} is not known; {hint}", file=sys.stderr)
        return 2
    bench = importlib.import_module(f"bench.{options.name}")
    own = argparse.ArgumentParser(prog=f"python -m bench {options.name}", description=known[options.name],
                                  parents=[common], allow_abbrev=False)  # fmt: skip
    if hasattr(bench, "add_arguments"):
        bench.add_arguments(own)
    if options.help:
        own.print_help()
        return 0
    own.parse_args(rest, options)
    from bench import harness

    return harness.answer(options.name, known[options.name], bench.measure, options)


def _count(text: str) -> int:
    """Read a number of rounds: at least 1."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a number of at least 1")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
