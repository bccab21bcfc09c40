"""For mkdocs: the pages of the root become pages of the site, and links out of ``docs`` lead where they can.

A page is written for the repository, where links to source files and to the root work. On the site a link to a page of the
root leads to its copy there, one to a picture to its copy, and one to anything else is left as words.
"""

from __future__ import annotations

import re
from pathlib import Path
from posixpath import normpath
from typing import Any

from mkdocs.structure.files import File, Files

__all__ = ["on_files", "on_page_markdown"]

ROOT = Path(__file__).parents[2]
COPIES = {
    "README.md": "quick-start.md",  # mkdocs would take one named README for the first page
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "LICENSE": "LICENSE",
    "CITATION.cff": "CITATION.cff",
    "bench/results/deaths.png": "deaths.png",
}
"""File of the repository → its name on the site."""


def on_files(files: Files, *, config: Any) -> Files:
    """Add what lies outside of ``docs``."""
    for name, copy in COPIES.items():
        files.append(File.generated(config, copy, abs_src_path=str(ROOT / name)))
    return files


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Files) -> str:
    """Return a page with its links as the site has them."""
    del config, files
    folder = "" if page.file.src_uri in COPIES.values() else "docs"

    def link(found: re.Match[str]) -> str:
        words, target, heading = found[1], found[2], found[3] or ""
        path = normpath(f"{folder}/{target}" if folder else target)
        if path.startswith("docs/"):
            return f"[{words}]({path.removeprefix('docs/')}{heading})"
        return f"[{words}]({COPIES[path]}{heading})" if path in COPIES else words

    return re.sub(r"\[([^\]]+)\]\(([^)#:\s]+)(#[^)\s]*)?\)", link, markdown)
