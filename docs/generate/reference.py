"""What a job file and a scenario may say, from the dataclasses that read them: fields, defaults and docstrings.

A field's docstring is the text behind it in the source, so it is read from there; everything else is asked of the class.
"""

from __future__ import annotations

import ast
import inspect
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import cache
from types import UnionType
from typing import Annotated, Any, Literal, Union, cast, get_args, get_origin, get_type_hints

from hogpour.algos.schemes.base import Scheme
from hogpour.core import errors as error_tree
from hogpour.core import registry
from hogpour.core.job import ClusterConfig, DataConfig, Job, RunConfig, key_of
from hogpour.sim import scenario as scenarios
from hogpour.sim.checks.ablations import ABLATIONS
from hogpour.sim.world.compute import Compute

__all__ = ["ablations", "errors", "field_texts", "keys", "scenario", "scheme_settings", "schemes", "settings"]

_TABLES: dict[str, type] = {"data": DataConfig, "run": RunConfig, "cluster": ClusterConfig}

_TYPES = {bool: "boolean", int: "integer", float: "number", str: "string"}
"""As TOML calls them; a number may be an integer."""


def keys(table: str) -> str:
    """Return the keys of a table of a job file."""
    if table == "model":
        shape = _row("input", "array of integers", "`[]`", field_texts(Job)["input"])
        layers = _row("layers", "array of tables", "required",
                      "The layers in order, such as `{layer = \"linear\", units = 64}`: the name and, beside it, settings.")  # fmt: skip
        loss = _row("loss", "string or table", '`"softmax_xent"`', "The loss: its name, or a table with `name`.")
        return _table([layers, loss, shape])
    return _fields(_TABLES[table])


def settings(kind: str) -> str:
    """Return everything of a kind: a heading, what it is, its settings."""
    parts = []
    for name, cls in registry.available(kind).items():
        part = f"**`{name}`** – {_first_sentence(cls)}\n"
        if fields(cls):
            part += f"\n{_fields(cls)}"
        parts.append(part)
    return "\n".join(parts)


def schemes() -> str:
    """Return the table of schemes: each with the choices that it is, from its class."""
    lines = ["| scheme | what it does | exchange | gate | correction | paper |", "|---|---|---|---|---|---|"]
    for name, cls in _schemes().items():
        choices = cls().choices()
        made_of = (registry.describe(one)["name"] for one in (choices.exchange, choices.gate, choices.correction))
        by_hand = {field.name for field in fields(cls)} >= {"exchange", "gate", "correction"}
        cells = ["any" if by_hand else "–" if one in ("open", "plain") else f"`{one}`" for one in made_of]
        lines.append(f"| `{name}` | {cls.summary} | {' | '.join(cells)} | {cls.paper or '–'} |")
    return "\n".join(lines) + "\n"


def _schemes() -> dict[str, type[Scheme]]:
    return cast("dict[str, type[Scheme]]", registry.available("scheme"))


def scheme_settings() -> str:
    """Return, for each scheme, its settings; optimiser and schedule only where their defaults are others."""
    parts, usual = [], {field.name: _default(field) for field in fields(Scheme)}
    for name, cls in _schemes().items():
        own = [field for field in fields(cls) if _default(field) != usual.get(field.name)]
        part = f"### {name}\n\n{_first_sentence(cls)}\n"
        if cls.unused:
            part += f"\nRefuses {_listed(sorted(cls.unused))}.\n"
        if own:
            part += f"\n{_fields(cls, own)}"
        parts.append(part)
    return "\n".join(parts)


def scenario() -> str:
    """Return the keys of a scenario file, table by table."""
    hints = get_type_hints(scenarios.Scenario)
    top, tables = [], []
    for field in fields(scenarios.Scenario):
        hint = hints[field.name]
        inner = get_args(hint)[0] if get_args(hint) else hint
        if is_dataclass(inner):
            assert isinstance(inner, type)
            heading = f"`[{field.name}]`" if hint is inner else f"`[[{field.name}]]`"
            text = "How long a gradient takes." if inner is Compute else _first_sentence(inner).partition(": ")[2]
            tables.append(f"### {heading}\n\n{text[:1].upper()}{text[1:]}\n\n{_fields(inner)}")
        else:
            top.append(field)
    return f"{_fields(scenarios.Scenario, top)}\n" + "\n".join(tables)


def ablations() -> str:
    """Return the safeguards that can be switched off."""
    lines = ["| `--without` | what holds otherwise |", "|---|---|"]
    return "\n".join([*lines, *(f"| `{name}` | {one.why} |" for name, one in sorted(ABLATIONS.items()))]) + "\n"


def errors() -> str:
    """Return the error tree with exit codes."""
    lines = ["| error | under | exit code | what it means |", "|---|---|--:|---|"]
    for name in error_tree.__all__:
        cls = getattr(error_tree, name)
        if not (isinstance(cls, type) and issubclass(cls, error_tree.HogpourError)):
            continue
        base = cls.__mro__[1].__name__
        under = "–" if cls is error_tree.HogpourError else f"`{base}`"
        lines.append(f"| `{name}` | {under} | {cls.exit_code} | {_first_sentence(cls)} |")
    return "\n".join(lines) + "\n"


# -- fields -------------------------------------------------------------------------------------------------------------


@cache
def field_texts(cls: type) -> dict[str, str]:
    """Return what is said of each field of a dataclass, in itself or else in its bases, which may have it as a property."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if not base.__module__.startswith("hogpour."):
            continue
        tree = ast.parse(inspect.getsource(inspect.getmodule(base) or base))
        node = next(one for one in ast.walk(tree) if isinstance(one, ast.ClassDef) and one.name == base.__name__)
        found |= {one.name: _prose(ast.get_docstring(one) or "") for one in ast.walk(node) if isinstance(one, ast.FunctionDef)}
        for one, after in zip(node.body, node.body[1:], strict=False):
            match one, after:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                    found[name] = _prose(text)
    return found


def _fields(cls: type, chosen: list[Field[Any]] | None = None) -> str:
    hints, texts = get_type_hints(cls, include_extras=True), field_texts(cls)
    rows = []
    for field in fields(cls) if chosen is None else chosen:
        text = texts.get(field.name, "")
        assert text, f"{cls.__name__}.{field.name} has no docstring"
        kind = field.metadata.get("kind")
        said = f"{kind}, name or table" if kind else _type(hints[field.name])
        rows.append(_row(key_of(field), said, _default(field), text))
    return _table(rows)


def _table(rows: list[str]) -> str:
    return "\n".join(["| key | type | default | meaning |", "|---|---|---|---|", *rows]) + "\n"


def _row(name: str, kind: str, default: str, text: str) -> str:
    return f"| `{name}` | {_cell(kind)} | {_cell(default)} | {_cell(text)} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _type(hint: Any) -> str:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return f"{_type(arguments[0])}, {arguments[1]}"
    if origin is Literal:
        return " or ".join(f"`{_toml(one)}`" for one in arguments)
    if origin in (Union, UnionType):
        return " or ".join(_type(one) for one in arguments if one is not type(None))
    if origin is tuple:
        return f"array of {_type(arguments[0])}s"
    return _TYPES[hint]


def _default(field: Field[Any]) -> str:
    if field.default is not MISSING:
        value = field.default
    elif field.default_factory is not MISSING:
        value = field.default_factory()
    else:
        return "required"
    if value is None:
        return "left out"
    if is_dataclass(value):
        value = registry.describe(value)
        value = value["name"] if len(value) == 1 else value
    return f"`{_toml(value)}`"


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key} = {_toml(one)}' for key, one in value.items())}}}"
    return f"{value:g}" if isinstance(value, float) and not (value == 0 or 1e-4 <= abs(value) < 1e6) else str(value)


def _first_sentence(cls: type) -> str:
    """Return the first paragraph of a class's docstring."""
    return _prose((inspect.getdoc(cls) or "").partition("\n\n")[0])


def _prose(text: str) -> str:
    """Return a docstring as one line of Markdown."""
    return " ".join(text.split()).replace("``", "`")


def _listed(words: list[str]) -> str:
    return " and ".join(f"`{word}`" for word in words)

