"""File name → class: how a job file's words become objects, and objects words again.

A layer, loss, optimiser, schedule, exchange, gate, correction or scheme is a file in the folder of its kind, and the
file's name is its name in job files; the class in it has the same letters (``max_pool2d.py`` holds ``MaxPool2D``). One
new thing is one new file. A thing of the user's own is named ``"package.module:Class"``. Being found means being
tested: the contract tests run over ``available``.
"""

from __future__ import annotations

import importlib
import operator
import pkgutil
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from difflib import get_close_matches
from typing import Any, Literal, get_args, get_origin, get_type_hints

import msgspec

from hogpour.core.errors import ConfigError

__all__ = ["Modules", "available", "build", "by_class_name", "check_kind", "describe", "find", "named", "nearest",
           "plain", "shown", "typed"]  # fmt: skip

FOLDERS: Mapping[str, str] = {
    "layer": "hogpour.layers",
    "loss": "hogpour.layers.losses",
    "optimiser": "hogpour.algos.optim",
    "schedule": "hogpour.algos.schedule",
    "exchange": "hogpour.algos.exchange",
    "gate": "hogpour.algos.gate",
    "correction": "hogpour.algos.correction",
    "scheme": "hogpour.algos.schemes",
}
"""Kind → the package whose files are looked at. A class says its kind in the class attribute ``kind``."""

Modules = tuple[str, ...] | None
"""Modules and packages that a name may have imported; None: any."""

_MOST = 2**63 - 1
"""The largest integer of a setting: what JSON's readers and shared memory can hold."""


def find(kind: str, name: str, modules: Modules = None) -> type:
    """Return the class called ``name`` in job files.

    Args:
        kind: a key of ``FOLDERS``.
        name: a file name of that folder, or ``"package.module:Class"``.
        modules: which modules such a name may import.

    Raises:
        ConfigError: nothing has that name (with the nearest known one), or it is not of this kind.
    """
    if ":" in name:
        _check_allowed(kind, name, modules)
        return _find_foreign(kind, name)
    cls = _in_file(kind, f"{FOLDERS[kind]}.{name}") if name.isidentifier() and name in _files(kind) else None
    if cls is None:
        raise ConfigError(f'{kind} "{named(name)}" is not known{nearest(name, available(kind))}')
    return cls


def available(kind: str) -> dict[str, type]:
    """Return every class of a kind by its name in job files, sorted."""
    found = {name: _in_file(kind, f"{FOLDERS[kind]}.{name}") for name in _files(kind)}
    return {name: cls for name, cls in sorted(found.items()) if cls is not None}


def by_class_name(kind: str, name: str) -> type | None:
    """Return the class that Python knows as ``name``, such as ``MaxPool2D``; None where this kind has none."""
    for stem in _files(kind):
        if stem.replace("_", "").lower() == name.lower():
            return _in_file(kind, f"{FOLDERS[kind]}.{stem}")
    return None


def build(kind: str, config: str | Mapping[str, Any], at: str, modules: Modules = None) -> Any:
    """Make the object that a piece of a job file describes.

    Args:
        kind: a key of ``FOLDERS``.
        config: the name alone, or a mapping with the name under ``kind`` or ``"name"`` and the fields beside it.
        at: where in the job file this stands, for error messages.
        modules: see ``find``.

    Raises:
        ConfigError: unknown name or key (with the nearest known one), wrong type, value out of range.
    """
    if not isinstance(config, str | Mapping):
        raise ConfigError(f"{at} = {shown(config)}: expected the name of a {kind}, or {{{kind} = ...}}")
    given = {"name": config} if isinstance(config, str) else dict(config)
    name = given.pop("name", None) or given.pop(kind, None)
    if not isinstance(name, str):
        raise ConfigError(f"{at}: the name of the {kind} is missing, expected {{{kind} = ...}}")
    try:
        cls = find(kind, name, modules)
    except ConfigError as error:
        raise ConfigError(f"{at}: {error}") from None
    settings = {f.name: f for f in fields(cls) if f.init}
    for key in given:
        if key not in settings:
            raise ConfigError(f"{at}: {kind} {name} has no key '{named(key)}'{nearest(key, settings)}")
    for field in settings.values():
        if field.name not in given and field.default is field.default_factory is MISSING:
            raise ConfigError(f"{at}: {kind} {name} needs the key {field.name!r}")
    hints = get_type_hints(cls)
    values = {
        key: build(settings[key].metadata["kind"], value, f"{at}.{key}", modules)
        if "kind" in settings[key].metadata
        else typed(value, hints[key], f"{at}.{key}")
        for key, value in given.items()
    }
    try:
        return cls(**values)
    except ValueError as error:
        raise ConfigError(f"{at}: {kind} {name}: {error}") from None
    except Exception as error:  # of a class of the user's own
        raise ConfigError(f"{at}: {kind} {name}: {type(error).__name__}: {error}") from error


def typed(value: Any, kind: Any, at: str) -> Any:
    """Return ``value`` as type ``kind`` (an int is also a float, see ``plain``, nothing else changes).

    Raises:
        ConfigError: it is of another type.
    """
    value = plain(value)
    numbers = value if isinstance(value, list | tuple) else [value]
    if any(isinstance(one, int) and abs(one) > _MOST for one in numbers):
        raise ConfigError(f"{at} = {shown(value)}: number out of range")
    if get_origin(kind) is Literal and value not in get_args(kind):
        raise ConfigError(f"{at} = {shown(value)}: expected one of {', '.join(map(repr, get_args(kind)))}")
    try:
        return msgspec.convert(value, kind, strict=True)
    except msgspec.ValidationError as error:
        text = str(error).replace("`", "").replace("got null", "got None")
        text = text.replace(" - at $", f" at {at}") if " - at $" in text else text
        raise ConfigError(f"{at} = {shown(value)}: {text[0].lower()}{text[1:]}") from None


def plain(value: Any) -> Any:
    """Return what stands for an int, a float, a text or a list of such, as that; anything else as it is.

    numpy's scalars and arrays are such, tensors, paths, and whatever else has ``__index__`` or ``__float__``. Only
    plain values travel to replicas and into files.
    """
    if type(value) in (bool, int, float, str, type(None)):
        return value
    try:
        if isinstance(value, str):
            return str.__str__(value)
        if isinstance(value, list | tuple):
            items = [plain(item) for item in value]
            return tuple(items) if isinstance(value, tuple) else items
        if hasattr(value, "__fspath__"):
            return value.__fspath__()
        if hasattr(value, "tolist"):
            value = value.tolist()
        if hasattr(value, "__index__") and not isinstance(value, bool):
            return operator.index(value)
        return float(value) if hasattr(value, "__float__") and not isinstance(value, int) else value
    except (TypeError, ValueError, OverflowError):  # has the method, and is no number all the same
        return value


def shown(value: Any) -> str:
    """Return how a value looks in an error message: one line, not too long."""
    try:
        text = " ".join(repr(value).split())
    except (RecursionError, ValueError):  # nested too deeply; an integer of thousands of digits
        return f"something too large ({type(value).__name__})"
    return text if len(text) <= 100 else f"{text[:100]} ..."


def named(word: str) -> str:
    """Return how a word of the user's looks within an error message: one line, not too long, without quotes."""
    return repr(word[:60])[1:-1] + " ..." * (len(word) > 60)


def check_kind(thing: Any, kind: str, at: str) -> None:
    """Raise ConfigError unless ``thing`` is an object of a kind, and the objects in its fields are of theirs.

    Args:
        kind: a key of ``FOLDERS``.
        at: where in the job this stands, for error messages.
    """
    if isinstance(thing, type) or getattr(thing, "kind", None) != kind or not is_dataclass(thing):
        if isinstance(thing, type):
            got = f"the class {thing.__name__}"
        else:
            got = f"the {thing.kind} {thing!r}" if is_dataclass(thing) and hasattr(thing, "kind") else shown(thing)
        article = "an" if kind[0] in "aeiou" else "a"
        raise ConfigError(f"{at}: expected {article} {kind} object, got {got:.200}")
    for field in fields(thing):
        if "kind" in field.metadata:
            check_kind(getattr(thing, field.name), field.metadata["kind"], f"{at}.{field.name}")


def describe(thing: Any) -> dict[str, Any]:
    """Return the mapping from which ``build`` makes an equal object: its name and its fields.

    Raises:
        ConfigError: the class cannot be imported by another process.
    """
    cls = type(thing)
    assert is_dataclass(thing), f"{cls.__name__} must be a dataclass"
    module = cls.__module__
    stem = module.rpartition(".")[2]
    ours = module == f"{FOLDERS[cls.kind]}.{stem}" and _same_letters(stem, cls)
    name = stem if ours else f"{module}:{cls.__qualname__}"
    if module == "__main__" or "<locals>" in cls.__qualname__:
        raise ConfigError(f"{cls.kind} {cls.__qualname__} is defined in {module}; replicas are processes of their own "
                          "and must import it: move it to the top level of a module")  # fmt: skip
    values = {f.name: plain(getattr(thing, f.name)) for f in fields(thing) if f.init}
    for field in fields(thing):
        if "kind" in field.metadata:
            values[field.name] = describe(values[field.name])
    return {"name": name} | values


def nearest(word: str, known: Any) -> str:
    """Return ``"; did you mean 'x'?"`` for the known word nearest to ``word``, else the list of known words."""
    near = get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(sorted(known))}"


def _files(kind: str) -> list[str]:
    return [module.name for module in pkgutil.iter_modules(importlib.import_module(FOLDERS[kind]).__path__)]


def _same_letters(stem: str, cls: type) -> bool:
    return stem.replace("_", "").lower() == cls.__name__.lower()


def _in_file(kind: str, module: str) -> type | None:
    stem = module.rpartition(".")[2]
    for cls in vars(importlib.import_module(module)).values():
        if isinstance(cls, type) and getattr(cls, "kind", None) == kind and _same_letters(stem, cls):
            return cls
    return None


def _check_allowed(kind: str, name: str, modules: Modules) -> None:
    """Raise ConfigError where a module may not be imported: importing runs it."""
    module = name.partition(":")[0]
    if modules is not None and not any(module == one or module.startswith(f"{one}.") for one in modules):
        raise ConfigError(f'{kind} "{name}" is code of the module {module}, which this node was not told to import; '
                          f"if you trust it: --allow-modules {module}")  # fmt: skip


def _find_foreign(kind: str, name: str) -> type:
    module, _, attribute = name.partition(":")
    name = named(name)
    try:
        cls = getattr(importlib.import_module(module), attribute)
    except ImportError as error:
        raise ConfigError(f'{kind} "{name}": cannot import {module}: {error}') from error
    except AttributeError:
        raise ConfigError(f'{kind} "{name}": module {module} has no {attribute}') from None
    except Exception as error:  # of the user's module
        raise ConfigError(f'{kind} "{name}": cannot import {module}: {type(error).__name__}: {error}') from error
    if not isinstance(cls, type) or getattr(cls, "kind", None) != kind or not is_dataclass(cls):
        raise ConfigError(f'{kind} "{name}": {attribute} is not a dataclass of kind {kind!r}')
    return cls
