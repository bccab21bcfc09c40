"""Job files: keys and names with typos, wrong types, values out of range, what is no TOML, other encodings, deep nesting."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import numpy as np
import pytest
from support.robustness import TAKEN_OR_REFUSED, Case, cuts, flips, hold, params

import hogpour as hp
from hogpour.core import limits, registry
from hogpour.core.job import ClusterConfig, DataConfig, RunConfig, key_of

pytestmark = pytest.mark.robustness

LAYER = {"layer": "linear", "units": 3}
GOOD: dict[str, Any] = {
    "data": {"train": "digits", "validation": 0.2, "ignore": ["id"]},
    "model": {"layers": [{"layer": "dropout", "rate": 0.5}, LAYER], "loss": "softmax_xent", "input": [8, 8]},
    "algorithm": {
        "name": "downpour", "n_push": 4, "optimiser": {"name": "adam", "lr": 0.1},
        "schedule": {"name": "warm_up", "epochs": 2, "then": {"name": "step", "every": 3}},
    },
    "run": {"epochs": 3, "batch": 8, "replicas": 1, "seed": 7, "model": "m.safetensors", "save_every_s": 9.5},
    "cluster": {"lease_s": 2.0, "give_up_s": 9.0, "wait_for": 2},
}  # fmt: skip
NEEDED = {int: 3, float: 0.5}
"""For a setting without a default."""
WRONG: dict[Any, tuple[Any, ...]] = {
    int: ("3", 2.5, True, [1], {"a": 1}),
    float: ("0.1", True, [0.1], {"a": 1}),
    bool: ("yes", 1, [True]),
    str: (3, True, ["a"]),
    tuple: ("x", 3, [{}]),
}


def toml(value: Any) -> str:
    """Return a value as TOML writes it; tables inline."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {toml(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return json.dumps(value)


def job_text(tables: dict[str, Any]) -> str:
    """Return a job file, with a line for each key where it has the tables that it should have."""
    lines = []
    for name, table in sorted(tables.items(), key=lambda item: isinstance(item[1], dict)):
        if isinstance(table, dict):
            lines += [f"[{json.dumps(name)}]", *(f"{json.dumps(key)} = {toml(value)}" for key, value in table.items())]
        else:
            lines.append(f"{json.dumps(name)} = {toml(table)}")
    return "\n".join(lines) + "\n"


def refused(name: str, content: str | bytes) -> Case:
    """A job file that ``node`` must refuse before it starts anything."""
    content = content.encode() if isinstance(content, str) else content
    return Case(name=name, files={"job.toml": content}, run=("node", "job.toml"), says=("job.toml",))


def read(name: str, content: bytes) -> Case:
    """A job file that may be a good one, which is therefore only read."""
    return Case(
        name=name, files={"job.toml": content}, run=lambda: hp.read_job("job.toml"), says=("job.toml",), codes=TAKEN_OR_REFUSED
    )  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the way to every key of a job."""
    for key, one in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield (*path, key)
        yield from places(one, (*path, key))


def changed(path: tuple[Any, ...], change: Any) -> dict[str, Any]:
    """Return the good job with the table that holds the key at the end of ``path`` handed to ``change(table, key)``."""
    job = json.loads(json.dumps(GOOD))
    table = job
    for step in path[:-1]:
        table = table[step]
    change(table, path[-1])
    return job


def typos() -> Iterator[Case]:
    draw = np.random.default_rng(1)

    def misspell(word: str) -> str:
        at = int(draw.integers(len(word)))
        return [
            word[:at] + word[at + 1 :], word[:at] + word[at] * 2 + word[at + 1 :], f"{word}_x", word.swapcase(), "", f" {word}",
            f"{word}\n", f"{word}\0", "é" * 9, word * 99,
        ][draw.integers(10)]  # fmt: skip

    for path in places(GOOD):
        key = path[-1]
        if isinstance(key, str):
            wrong = misspell(key)

            def rename(table: dict[str, Any], key: str, wrong: str = wrong) -> None:
                table[wrong] = table.pop(key)

            yield refused(f"key-{'.'.join(map(str, path))}-{wrong!a:.40}", job_text(changed(path, rename)))
    for kind in registry.FOLDERS:
        for name in registry.available(kind):
            if (wrong := misspell(name)) not in registry.available(kind):
                yield refused(f"name-{kind}-{name}-{wrong!a:.40}", job_text(with_thing(kind, {"name": wrong})))


def with_thing(kind: str, table: dict[str, Any]) -> dict[str, Any]:
    """Return a small job in which a thing of this kind is described so."""
    model: dict[str, Any] = {"layers": [LAYER]}
    algorithm: dict[str, Any] = {"name": "custom"} if kind in ("exchange", "gate", "correction") else {"name": "downpour"}
    if kind == "layer":
        model["layers"] = [table]
    elif kind == "loss":
        model["loss"] = table
    elif kind == "scheme":
        algorithm = table
    else:
        algorithm[kind] = table
    return {"model": model, "algorithm": algorithm, "run": {"epochs": 1}}


def settings() -> Iterator[tuple[str, type, str, Any, Any]]:
    """Yield every setting that a job file can have: a name, its class, its key, its annotation, and what makes a job of a
    value for it."""
    for name, cls in (("data", DataConfig), ("run", RunConfig), ("cluster", ClusterConfig)):
        hints = get_type_hints(cls)
        for f in fields(cls):
            key = key_of(f)
            yield f"{name}.{key}", cls, f.name, hints[f.name], lambda value, name=name, key=key: {**GOOD, name: {key: value}}
    for kind in registry.FOLDERS:
        for name, cls in registry.available(kind).items():
            hints = get_type_hints(cls)
            needed = {f.name: NEEDED[hints[f.name]] for f in fields(cls) if f.init and f.default is f.default_factory is MISSING}
            for f in fields(cls):
                if f.init and (name == "downpour" or f.name not in ("optimiser", "schedule")):  # all schemes have these
                    yield f"{kind}-{name}.{f.name}", cls, f.name, hints[f.name], lambda value, kind=kind, name=name, key=f.name, needed=needed: (
                        with_thing(kind, {"name": name, **needed, key: value})
                    )


def wrong_types() -> Iterator[Case]:
    draw = np.random.default_rng(2)
    for name, cls, key, hint, job in settings():
        if key in {f.name for f in fields(cls) if "kind" in f.metadata}:
            values: tuple[Any, ...] = (3, [], {}, {"name": 3}, {"name": "sgd", "lr": {}}, {"name": "no:thing"}, {"name": "os:path"})
        else:
            bare = next(one for one in get_args(hint) or (hint,) if one is not type(None))
            values = WRONG[tuple if get_origin(hint) is tuple else bare if isinstance(bare, type) else str]
        value = values[draw.integers(len(values))]
        yield refused(f"type-{name}-{json.dumps(value)}", job_text(job(value)))


def ranges() -> Iterator[Case]:
    draw = np.random.default_rng(3)
    for name, cls, key, _, job in settings():
        for limit in (limit for of, limit in limits._ranges(cls) if of == key):
            whole = limit.words == "" or (isinstance(limit.low, int) and not math.isinf(limit.high))
            below = limit.low - 1 if isinstance(limit.low, int) else -1.0
            above = [] if math.isinf(limit.high) else [limit.high * 2 + 1]
            values = [below, -(10**30), math.nan, 10**30 if whole else math.nan, *above]
            value = values[draw.integers(len(values))]
            yield refused(f"range-{name}-{value!r}", job_text(job(value)))


NO_TOML = {
    "no equals": "[run]\nepochs 3\n", "two equals": "[run]\nepochs = = 3\n", "a colon": "epochs: 3\n", "json": '{"run": {"epochs": 3}}',
    "yaml": "run:\n  epochs: 3\n", "xml": "<run/>", "python": "import os\n", "an open string": '[data]\ntrain = "a\n',
    "an open array": "[model]\nlayers = [\n", "an open table": "[run\n", "an open inline table": "model = {loss = 'hinge'\n",
    "a table twice": "[run]\n[run]\n", "a key twice": "[run]\nepochs = 1\nepochs = 2\n", "a bare word": "[run]\nmodel = m.safetensors\n",
    "a windows path": '[data]\ntrain = "C:\\users\\a.csv"\n', "a wrong escape": '[data]\ntrain = "\\q"\n', "a comma": "[run]\nepochs = 1,\n",
    "a date": "[run]\nepochs = 2020-01-01\n", "no date": "[run]\nepochs = 2020-13-01\n", "none": "[run]\nepochs = None\n",
    "True": "[data]\nheader = True\n", "a leading zero": "[run]\nepochs = 01\n", "a number of 5000 digits": f"[run]\nepochs = {'1' * 5000}\n",
    "a hexadecimal number of 5000 digits": f"[run]\nepochs = 0x{'f' * 5000}\n",
    "a float of 5000 digits": f"[run]\nsave_every_s = -{'1' * 5000}.5\n", "a dot": "[run]\nepochs. = 1\n", "a key of a key": "[run]\nepochs.a = 1\n",
    "run as a value": "run = 3\n", "run as an array": "run = [1]\n", "run as an array of tables": "[[run]]\nepochs = 1\n",
    "a long value": f"run = '{'x' * 100_000}'\n", "a long key": f"{'x' * 100_000} = 1\n", "a long name": f"[model]\nloss = '{'x' * 100_000}'\n",
    "a long text of lines": "[data]\nvalidation = '''" + "x\n" * 1000 + "'''\n", "layers as text": "[model]\nlayers = 'linear'\n",
    "a layer as text": "[model]\nlayers = ['linear']\n", "a layer without a name": "[model]\nlayers = [{units = 3}]\n",
    "a layer in a layer": "[model]\nlayers = [[{layer = 'relu'}]]\n", "a train path with NUL and lines": '[data]\ntrain = ["\\u0000\\n"]\n',
    "a name of lines": "[model]\nlayers = [{layer = '''a\nb'''}]\n", "a key of lines": '[run]\n"a\\nb" = 1\n', "a table of lines": '["a\\nb"]\n',
    "a module that is missing": "[model]\nlayers = [{layer = 'no.such:Thing'}]\n", "a module of lines": "[model]\nlayers = [{layer = 'a\\n:B'}]\n",
    "a module without a name": "[model]\nlayers = [{layer = ':B'}]\n", "a relative module": "[model]\nlayers = [{layer = '.b:B'}]\n",
    "a module of python": "[model]\nlayers = [{layer = 'sys:path'}]\n",
}  # fmt: skip
NESTED = {
    "arrays": "a = " + "[" * 20_000, "closed arrays": "a = " + "[" * 20_000 + "]" * 20_000, "inline tables": "a = " + "{a = " * 20_000,
    "dotted keys": "[run]\nepochs" + ".a" * 4_000 + " = 1\n", "tables": "[" + ".".join("a" * 20_000) + "]\n",
    "a run of dots": "run" + ".a" * 900 + " = 1\n", "a model of dots": "[model]\nlayers = [{layer = {" + "a." * 900 + "a = 1}}]\n",
    "schedules": "[algorithm]\nschedule = " + "{name = 'warm_up', epochs = 1, then = " * 90 + "3" + "}" * 90 + "\n[model]\nlayers = [{layer = 'relu'}]\n",
    "many schedules": "[algorithm]\n" + "".join(f"schedule{'.then' * k}.name = 'warm_up'\nschedule{'.then' * k}.epochs = 1\n" for k in range(300)),
}  # fmt: skip
TEXT = job_text(GOOD)
ENCODINGS = {
    "utf-16": TEXT.encode("utf-16"), "utf-16 without mark": TEXT.encode("utf-16-le"), "utf-32": TEXT.encode("utf-32"),
    "latin-1": b"# d\xe9j\xe0 vu\n" + TEXT.encode(), "nothing": b"", "zeros": bytes(100), "a NUL": TEXT.encode() + b"\0",
    "gzip": b"\x1f\x8b\x08\x00\x00", "a model file": b"\x08\0\0\0\0\0\0\0{}      ",
    "an escape": b"\x1b[31m" + TEXT.encode(), "surrogates": b"\xed\xa0\x80", "two marks": b"\xef\xbb\xbf" * 2 + TEXT.encode(),
    "half a letter": "# é".encode()[:-1], "a delete": TEXT.encode() + b"# \x7f\n", "a space that is none": "[run]\nepochs\u00a0= 3\n".encode(),
    "digits of others": "[run]\nepochs = ٣\n".encode(), "quotes of others": "[run]\nmodel = “m”\n".encode(),
}  # fmt: skip


def texts() -> Iterator[Case]:
    for kind, table in (("toml", NO_TOML), ("nested", NESTED), ("encoding", ENCODINGS)):
        yield from (refused(f"{kind}-{name}", content) for name, content in table.items())  # type: ignore[attr-defined]


def garbled() -> Iterator[Case]:
    whole = TEXT.encode()
    for what, contents in (("cut", cuts(whole, 12, 2)), ("flip", flips(whole, 24, 3))):
        yield from (read(f"{what}-{k}", content) for k, content in enumerate(contents))


CASES = [*typos(), *wrong_types(), *ranges(), *texts(), *garbled()]


@pytest.mark.parametrize("case", params(CASES, 12))
def test_a_job_file_is_read_or_refused_in_a_line_that_names_it(case: Case, tmp_path: Path) -> None:
    hold(case, tmp_path)


def test_the_job_that_is_damaged_is_a_good_one(tmp_path: Path) -> None:
    (tmp_path / "job.toml").write_text(TEXT)
    assert hp.read_job(str(tmp_path / "job.toml")).epochs == 3
