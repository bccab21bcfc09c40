"""The command line as a page: every command with its options, from the parser itself."""

from __future__ import annotations

import argparse

from hogpour.cli import main as command_line

__all__ = ["page", "parser"]


def parser() -> argparse.ArgumentParser:
    """Return the parser of ``python -m hogpour``."""
    return command_line._parser()


def page() -> str:
    """Return a section for each command."""
    sections = []
    for name, command in _commands(parser()).items():
        lines = [f"### {name}", "", command.description or "", "", "| argument | meaning |", "|---|---|"]
        for action in command._actions:
            if not isinstance(action, argparse._HelpAction):
                lines.append(f"| {_written(action)} | {(action.help or '').replace('|', '/')} |")
        sections.append("\n".join(lines) + "\n")
    return "\n".join(sections)


def _commands(whole: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    found = next(action for action in whole._actions if isinstance(action, argparse._SubParsersAction))
    return dict(found.choices)


def _written(action: argparse.Action) -> str:
    if not action.option_strings:
        return f"`{action.dest.upper()}`" + (", optional" if action.nargs == "?" else "")
    metavar = f" {action.metavar or action.dest.upper()}" if action.nargs != 0 else ""
    return f"`{action.option_strings[-1]}{metavar}`"
