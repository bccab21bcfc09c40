"""Write the generated parts of all pages, or say which pages are stale."""

from __future__ import annotations

import argparse
import sys

from docs.generate import ROOT, fill, fresh, pages


def main(argv: list[str] | None = None) -> int:
    """Run the command line and return the exit code: 1 where ``--check`` found a page that is stale."""
    parser = argparse.ArgumentParser(prog="python -m docs.generate", description="Write the generated parts of all pages.")
    parser.add_argument("--check", action="store_true", help="write nothing, and say which pages are stale")
    options = parser.parse_args(argv)
    stale = 0
    for page in pages():
        text = page.read_text("utf-8")
        if (new := fill(text)) == text:
            continue
        stale += not fresh(text)
        found = "other marks of age" if fresh(text) else "stale"
        print(f"{page.relative_to(ROOT)}: {found if options.check else 'written'}")
        if not options.check:
            page.write_text(new, "utf-8")
    return 1 if options.check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
