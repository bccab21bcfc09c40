"""Model files and snapshots: cut off, with wrong bytes, of others, of later versions, with anything for any of their words."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import numpy as safetensors
from support.robustness import REFUSED, TAKEN_OR_REFUSED, Case, Files, cuts, flips, hold, params
from support.trained import DATA, MODEL, job, model, snapshots

from hogpour.machine.prepare import prepare
from hogpour.model.snapshot import read
from hogpour.shm.segment import anonymous_file

pytestmark = pytest.mark.robustness

TAKEN = frozenset({0})
ANYTHING: tuple[Any, ...] = (
    None, "x", "", -1, 0, 2, 0.5, True, [], [[]], ["a"], {}, {"name": "x"}, 10**15, 10**400, float("nan"), float("inf"), "a\nb", "x" * 10**5,
    [1, 2, 3], [-1], [0], [10**9, 10**9], ["a", "a"], "os:path", "digits",
)  # fmt: skip


def resume() -> None:
    """Go on from the model file as ``node --resume`` does before it has replicas."""
    files = anonymous_file(), anonymous_file()
    try:
        ready = prepare(job(), 1, True, files)
    except BaseException:
        for file in files:
            os.close(file)
        raise
    ready.live.close()
    ready.examples.close()


def case(name: str, content: bytes, codes: frozenset[int], predict: bool = True) -> Case:
    run: Any = ("predict", MODEL, "a.csv") if predict else resume
    files = {MODEL: content, "a.csv": DATA["a.csv"]}
    return Case(name=f"{'predict' if predict else 'resume'}-{name}", files=files, run=run, says=(MODEL, "a.csv"), codes=codes)


@cache
def parts() -> tuple[dict[str, Any], Mapping[str, Any]]:
    content = model()
    size = int.from_bytes(content[:8], "little")
    return json.loads(json.loads(content[8 : 8 + size])["__metadata__"]["hogpour"]), dict(sorted(safetensors.load(content).items()))


def built(words: Any, tensors: Mapping[str, Any]) -> bytes:
    return safetensors.save(dict(tensors), {"hogpour": json.dumps(words)})


def ways(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the way to everything in a text of JSON."""
    for key, one in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield (*path, key)
        yield from ways(one, (*path, key))


def rewritten(words: dict[str, Any], seed: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield a description with each of its words replaced by something, taken away, or beside one that nobody knows."""
    draw = np.random.default_rng(seed)
    for k, path in enumerate(ways(words)):
        value = ANYTHING[draw.integers(len(ANYTHING))]
        for what in (("is",), ("lacks",), ("is", "has more"))[k % 3]:
            made = json.loads(json.dumps(words))
            table = made
            for step in path[:-1]:
                table = table[step]
            if what == "is":
                table[path[-1]] = value
            elif what == "lacks":
                del table[path[-1]]
            elif isinstance(table, dict) and draw.integers(3) == 0:
                table[f"{path[-1]} of tomorrow"] = value
            else:
                continue
            yield f"{'.'.join(map(str, path))} {what} {value!r:.20}", made


def model_files() -> Iterator[Case]:
    whole, (words, tensors) = model(), parts()
    head = 8 + int.from_bytes(whole[:8], "little")
    for k, part in enumerate(cuts(whole, 24, 1)):
        yield case(f"cut{k}", part, REFUSED, k % 2 == 0)
    for k, other in enumerate(flips(whole, 40, 2, first=head) + flips(whole, 20, 3)):
        yield case(f"flip{k}", other, TAKEN_OR_REFUSED, k % 2 == 0)
    for k, (what, made) in enumerate(rewritten(words, 4)):
        yield case(what, built(made, tensors), TAKEN_OR_REFUSED, "training" not in what and k % 3 > 0)
    for version in (0, 2, 10**9, "1", None):
        yield case(f"version {version!r}", built({**words, "version": version}, tensors), REFUSED)
    for k, (name, tensor) in enumerate(tensors.items()):
        for what, other in {
            "float64": tensor.astype(np.float64) if tensor.dtype == np.float32 else tensor.astype(np.float16), "longer": np.ones(tensor.size + 1, np.float32),
            "nothing": np.ones((0,), np.float32), "flat": np.ones((1, *tensor.shape), np.float32), "int": tensor.astype(np.int32),
        }.items():  # fmt: skip
            yield case(f"{name} {what}", built(words, {**tensors, name: other}), TAKEN_OR_REFUSED if "scaling" in name else REFUSED, "optimiser" not in name)
        for number in (np.nan, np.inf):
            filled = np.full_like(tensor, number)
            yield case(f"{name} {number}", built(words, {**tensors, name: filled}), TAKEN_OR_REFUSED, k % 2 == 0)
        yield case(f"without {name}", built(words, {key: one for key, one in tensors.items() if key != name}), TAKEN_OR_REFUSED, k % 2 == 0)
    one = {"weight": np.ones(3, np.float32)}
    for name, foreign in {
        "no metadata": safetensors.save(one), "of torch": safetensors.save(one, {"format": "pt"}), "no tensors": safetensors.save({}),
        "words without tensors": built(words, {}), "a text": b"hogpour", "pickle": b"\x80\x04N.", "zip": b"PK\x03\x04" + bytes(90), "csv": DATA["a.csv"],
        "an enormous header": (2**63 - 1).to_bytes(8, "little") + b"{}", "a header of 100 MB": (10**8).to_bytes(8, "little") + b"{}",
    }.items():  # fmt: skip
        yield case(name, foreign, REFUSED)
    for text in ("", "{", "[]", "null", "{}", "[" * 10**5, '{"version": 1}', '{"version": 1e999}', "\0", '"' + "x" * 10**5):
        yield case(f"words {text[:9]!a}", safetensors.save(dict(tensors), {"hogpour": text}), REFUSED)
    yield replace(case("with more tensors", built(words, {**tensors, "of.tomorrow": np.ones(3, np.int8)}), TAKEN), codes=TAKEN)


def newest(files: Files) -> dict[str, bytes]:
    return {name: content for name, content in files.items() if "/2/" in name}


def reading(steps: int | None) -> Callable[[], None]:
    """Return what reads a snapshot, every byte of it, and expects it to be that of so many steps; None: any."""

    def call() -> None:
        found = read(Path("m.snapshot"))
        size = found.meta.bounds[-1]
        found.fill(np.zeros(size, np.float32), {name: np.zeros(size, np.float32) for name in found.meta.rows})
        assert steps is None or (found.state.steps, len(found.notices)) == (steps, steps == 1)

    return call


def snapshot(name: str, files: Files, steps: int | None, codes: frozenset[int]) -> Case:
    return Case(name=f"snapshot-{name}", files=files, run=reading(steps), says=("snapshot m.snapshot",), codes=codes)


def snapshot_folders() -> Iterator[Case]:
    """Damage of the newest snapshot, where the one before it must be used; and of both, which must be said."""
    files = snapshots()
    assert len(newest(files)) > 3
    for name, content in newest(files).items():
        before, short = name.replace("/2/", "/1/"), name.removeprefix("m.snapshot/2/")
        damage = {**{f"cut{k}": one for k, one in enumerate(cuts(content, 5, 5))}, **{f"flip{k}": one for k, one in enumerate(flips(content, 5, 6))}}
        for k, (what, damaged) in enumerate(damage.items()):
            yield snapshot(f"{short} {what}", {**files, name: damaged}, 1, TAKEN)
            if k % 2:
                yield snapshot(f"{short} {what} twice", {**files, name: damaged, before: damaged}, None, REFUSED)
        yield snapshot(f"without {short}", {key: one for key, one in files.items() if key != name}, 1, TAKEN)
    manifest = json.loads(files["m.snapshot/2/manifest.json"])["snapshot"]
    for what, words in rewritten(manifest, 7):
        text = json.dumps(words, sort_keys=True)
        digest = hashlib.blake2b(text.encode(), digest_size=32).hexdigest()
        made = {key: one for key, one in files.items() if "/1/" not in key}
        made["m.snapshot/2/manifest.json"] = json.dumps({"digest": digest, "snapshot": words}).encode()
        yield snapshot(what, made, None, TAKEN_OR_REFUSED)
    yield snapshot("none", {"m.snapshot/notes.txt": b"x"}, None, REFUSED)
    yield snapshot("no folder", {}, None, REFUSED)
    yield snapshot("a file", {"m.snapshot": b"x"}, None, REFUSED)
    yield snapshot("a file as one", {"m.snapshot/3": b"x"}, None, REFUSED)


@pytest.mark.parametrize("case", params(model_files(), 16))
def test_a_model_file_is_taken_or_refused_in_a_line_that_names_it(case: Case, tmp_path: Path) -> None:
    hold(case, tmp_path)


@pytest.mark.parametrize("case", params(snapshot_folders(), 12))
def test_of_snapshots_the_newest_whole_one_is_used_or_none(case: Case, tmp_path: Path) -> None:
    hold(case, tmp_path)


@pytest.mark.parametrize("predict", [False, True])
def test_the_files_that_are_damaged_are_good_ones(predict: bool, tmp_path: Path) -> None:
    hold(case("", model(), TAKEN, predict), tmp_path / "model")
    hold(snapshot("", snapshots(), 2, TAKEN), tmp_path / "snapshot")
